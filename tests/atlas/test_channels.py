from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from toys import toy_model

from atlas.channels import draw_superstimuli
from atlas.render import render_units
from atlas.settings import Settings
from atlas.stages import Stages
from featviz.draw.drawing import Drawing
from featviz.network.trunk import Precision
from search.images.images import open_images


def test_channels_of_cards_are_drawn_as_render_draws_them_in_the_precision_that_was_asked_for(
    noise_images: Path, tmp_path: Path
) -> None:
    model, drawn = toy_model(), {}
    run = Stages(model, open_images(noise_images), Settings(layer="4", steps=4))
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        drawn[precision] = draw_superstimuli(replace(run, settings=replace(run.settings, precision=precision)), [1, 3])
        out = tmp_path / precision
        render_units(model, ["4:1", "4:3"], out=out, drawing=Drawing(size=128, steps=4, precision=precision))
        for channel, picture in drawn[precision].items():
            with Image.open(out / f"4_{channel}.png") as rendered:
                assert np.array_equal(picture, np.asarray(rendered))
    assert list(drawn["float32"]) == [1, 3]
    assert not np.array_equal(drawn["float32"][1], drawn["bfloat16"][1])
