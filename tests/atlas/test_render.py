from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import toy_model

from atlas.render import render_units
from featviz.errors import UserError
from featviz.models import Model
from featviz.superstimuli import Drawing

QUICK = Drawing(size=32, steps=4)


def test_any_mix_of_units_becomes_pictures_certificates_and_a_page(tmp_path: Path, noise_images: Path) -> None:
    words = ["4:0-2,5", "class:b", "-4:1@center", "1:3@2,2", "4:1"]
    certificates = render_units(toy_model(), words, out=tmp_path, images=noise_images, drawing=QUICK)
    units = ["4:0", "4:1", "4:2", "4:5", "class:1", "-4:1@center", "1:3@2,2"]
    assert [certificate.unit for certificate in certificates] == units
    for certificate in certificates:
        with Image.open(tmp_path / certificate.file) as picture:
            assert picture.size == (32, 32)
        assert certificate.dataset_max is not None
        assert certificate.percentile is not None
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["command"], manifest["units"]) == ("render", 7)
    page = (tmp_path / "index.html").read_text()
    assert all(f"<b>{unit}</b>" in page for unit in units)
    assert "default-src 'none'" in page
    assert not (tmp_path / "draft").exists()


def test_a_finished_folder_is_given_back_and_other_settings_are_refused(tmp_path: Path) -> None:
    first = render_units(toy_model(), ["4:0"], out=tmp_path, drawing=QUICK)
    again = render_units(
        toy_model(), ["4:0"], out=tmp_path, drawing=QUICK, progress=lambda *_: pytest.fail("drawn again")
    )
    assert again == first
    for words, drawing in ((["4:1"], QUICK), (["4:0"], Drawing(size=32, steps=5))):
        with pytest.raises(UserError, match="--overwrite"):
            render_units(toy_model(), words, out=tmp_path, drawing=drawing)


def test_directions_that_changed_since_are_other_work(tmp_path: Path) -> None:
    file, out = tmp_path / "v.npy", tmp_path / "out"
    np.save(file, np.eye(2, 6, dtype=np.float32))
    render_units(toy_model(), [f"4:{file}#0"], out=out, drawing=QUICK)
    np.save(file, np.eye(2, 6, k=1, dtype=np.float32))
    with pytest.raises(UserError, match="other settings"):
        render_units(toy_model(), [f"4:{file}#0"], out=out, drawing=QUICK)


@pytest.mark.parametrize(
    ("words", "drawing", "message"),
    [
        (["4:6"], QUICK, "channel 6: 4 has channels 0 to 5"),
        (["class:z"], QUICK, "no class 'z'; the closest are"),
        ([], QUICK, "name at least one unit"),
        (["4:0"], Drawing(canvas="oil"), "no canvas 'oil'"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_leave_no_folder(
    tmp_path: Path, words: list[str], drawing: Drawing, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        render_units(toy_model(), words, out=tmp_path / "x", drawing=drawing)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_superstimuli_of_the_real_network_beat_real_photographs_and_are_named_by_it(
    lite0: Model, tmp_path: Path
) -> None:
    drawing = Drawing(size=112, steps=64)
    certificates = render_units(
        lite0, ["blocks.3:3,7,11,19", "class:daisy", "class:tarantula"], out=tmp_path, images="photos", drawing=drawing
    )
    gains = [certificate.gain for certificate in certificates[:4]]
    assert np.median([gain for gain in gains if gain is not None]) > 2
    assert [certificate.rank for certificate in certificates[4:]] == [1, 1]
    assert max(certificate.saturated for certificate in certificates) < 0.05
