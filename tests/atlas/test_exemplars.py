from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import noise_folder, toy_model

from atlas.exemplars import find_exemplars
from featviz.errors import UserError
from search.scan.matrix import open_matrix


def test_a_folder_holds_exemplars_statistics_sheets_and_a_page(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 30)
    (images / "007.png").write_bytes(b"broken")
    (images / "labels.csv").write_text(
        "file,class_index,name\n" + "".join(f"{i:03d}.png,{i % 4},c{i % 4}\n" for i in range(31))
    )
    out = tmp_path / "out"
    manifest = find_exemplars(toy_model(), ["1", "4"], images=images, out=out, k=3, units=["4:2", "class:b"])
    assert manifest["layers"] == {"1": 8, "4": 6, "output": 4}
    assert [entry["name"] for entry in manifest["images"]["skipped"]] == ["007.png"]
    assert manifest["images"]["notes"] == ["labels.csv names 1 file(s) that are not there, such as '030.png'"]
    stored = json.loads((out / "exemplars.json").read_text())
    best = stored["4"]["2"]
    assert [len(best), set(best[0])] == [
        3, {"image", "path", "label", "value", "row", "col", "box", "effective_box"}
    ]  # fmt: skip
    assert [entry["value"] for entry in best] == sorted((entry["value"] for entry in best), reverse=True)
    assert best[0]["path"] == f"{best[0]['image']:03d}.png"
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["4"]["channels"]["count"] == [29] * 6
    assert statistics["4"]["channels"]["greatest"][2] == pytest.approx(best[0]["value"], abs=1e-5)
    for name in ("layer-1.png", "layer-4.png", "units/4_2.png", "units/output_1.png"):
        with Image.open(out / name) as sheet:
            assert min(sheet.size) > 50
    page = (out / "index.html").read_text()
    assert "layer-4" in page
    assert "default-src 'none'" in page
    assert not (out / "draft").exists()


def test_a_finished_folder_is_given_back_and_other_images_are_refused(tmp_path: Path) -> None:
    images, out = noise_folder(tmp_path / "images", 8), tmp_path / "out"
    first = find_exemplars(toy_model(), ["4"], images=images, out=out, k=2)
    again = find_exemplars(
        toy_model(), ["4"], images=images, out=out, k=2, progress=lambda *_: pytest.fail("scanned again")
    )
    assert again == first
    (images / "new.png").write_bytes((images / "000.png").read_bytes())
    with pytest.raises(UserError, match="other settings"):
        find_exemplars(toy_model(), ["4"], images=images, out=out, k=2)
    with pytest.raises(UserError, match="other settings"):
        find_exemplars(toy_model(seed=3), ["4"], images=images, out=out, k=2)


def test_more_exemplars_than_images_are_said(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 4)
    manifest = find_exemplars(toy_model(), ["4"], images=images, out=tmp_path / "out", k=9)
    assert manifest["images"]["notes"] == ["k is 9, the images are 4: each unit has 4 exemplars"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": ["44"]}, "no layer '44'"),
        ({"k": 0}, "k and the shard start at 1"),
        ({"reduce": "median"}, "no reduction 'median'"),
        ({"units": ["-4:1"]}, "`atlas unit` shows neurons and opposites"),
        ({"units": ["4:1@center"]}, "`atlas unit` shows neurons and opposites"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_leave_no_folder(
    tmp_path: Path, noise_images: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find_exemplars(toy_model(), **{"layers": ["4"], "images": noise_images, "out": tmp_path / "x", **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_copies_are_passed_over_where_that_is_wished_and_the_cost_is_said(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 12)
    for number in range(12):
        (images / f"{number:03d}-copy.png").write_bytes((images / f"{number:03d}.png").read_bytes())
    out = tmp_path / "out"
    find_exemplars(toy_model(), ["4"], images=images, out=out, k=4, diverse="images", units=["4:1"])
    stored = json.loads((out / "exemplars.json").read_text())["4"]
    for entries in stored.values():
        originals = [entry["path"][:3] for entry in entries]
        assert len(set(originals)) == len(originals) == 4
    costs = json.loads((out / "statistics.json").read_text())["4"]["channels"]["cost_of_diversity"]
    assert len(costs) == 6
    assert max(costs) > 0


def test_directions_classes_and_the_matrix_come_in_the_same_pass(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 12)
    (images / "labels.csv").write_text("file,class_index\n" + "".join(f"{i:03d}.png,{i % 2}\n" for i in range(12)))
    np.save(tmp_path / "v.npy", np.eye(6, dtype=np.float32)[:2])
    word, out = f"4:{tmp_path / 'v.npy'}", tmp_path / "out"
    find_exemplars(toy_model(), ["4", word], images=images, out=out, k=2, per_class=1, matrix=True, units=[f"{word}#1"])
    stored = json.loads((out / "exemplars.json").read_text())
    for unit in ("0", "1"):
        assert [entry["image"] for entry in stored[word][unit]] == [entry["image"] for entry in stored["4"][unit]]
    classes = json.loads((out / "classes.json").read_text())
    assert set(classes) == {"0", "1"}
    assert classes["1"]["4"]["3"][0][0] % 2 == 1
    values = open_matrix(out)["4"].values
    assert int(values[:, 5].argmax()) == stored["4"]["5"][0]["image"]
    quantiles = json.loads((out / "quantiles.json").read_text())["4"]["0"]
    assert list(quantiles) == ["0.1", "0.25", "0.5", "0.75", "0.9"]
    assert len(list((out / "units").iterdir())) == 1
    np.save(tmp_path / "v.npy", np.eye(6, dtype=np.float32)[2:4])
    with pytest.raises(UserError, match="other settings"):
        find_exemplars(
            toy_model(), ["4", word], images=images, out=out, k=2, per_class=1, matrix=True, units=[f"{word}#1"]
        )
