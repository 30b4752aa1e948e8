from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from toys import toy_model

from atlas.channels import draw_superstimuli
from atlas.icons import as_rgb
from atlas.settings import Settings
from atlas.stages import Stages
from featviz.maximize import maximize
from featviz.trunk import Trunk
from featviz.units import Unit, objective
from search.images import open_images


def test_channels_of_cards_are_drawn_in_the_precision_that_was_asked_for(noise_images: Path) -> None:
    model, units = toy_model(), [Unit("4", 1), Unit("4", 3)]
    run = Stages(model, open_images(noise_images), Settings(layer="4", steps=4))
    drawn = {}
    for precision in ("float32", "bfloat16"):
        drawn[precision] = draw_superstimuli(replace(run, settings=replace(run.settings, precision=precision)), [1, 3])
        trunk = Trunk(model, ["4"], precision=precision)
        wish = objective(units, trunk)
        alone = maximize(model, wish, keys=list(map(str, units)), size=128, steps=4, trunk=trunk)
        assert np.array_equal(np.stack(list(drawn[precision].values())), as_rgb(alone.images))
    assert not np.array_equal(drawn["float32"][1], drawn["bfloat16"][1])
