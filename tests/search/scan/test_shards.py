from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import noise_folder, toy_model

from featviz.run.keep import Arrays
from featviz.run.output import OutputFolder
from search.images.images import open_images
from search.scan import shards
from search.scan.record import Record
from search.scan.scan import scan
from search.scan.shards import Blank, ShardedScan, fill, scan_shards, scanned_of


class StopRun(Exception):  # noqa: N818
    pass


def what(images: Path, *, decoders: int = 0) -> ShardedScan:
    return ShardedScan(toy_model(), open_images(images), ("4",), Blank({"r": Record("4", 3)}), decoders=decoders)


@pytest.mark.parametrize("shard", [1, 7, 100])
@pytest.mark.parametrize("decoders", [0, 1])
def test_a_scan_in_shards_finds_what_one_scan_finds(shard: int, decoders: int, tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 20)
    (images / "005.png").write_bytes(b"damaged")
    whole, found = Record("4", 3), Record("4", 3)
    seen = scan(toy_model(), open_images(images), ["4"], [whole])
    skipped = fill({"r": found}, what(images, decoders=decoders), range(20), name="x", step=shard)
    assert skipped == seen.skipped
    assert found.top.ranking().index.equal(whole.top.ranking().index)
    assert np.allclose(found.top.ranking().values, whole.top.ranking().values, rtol=1e-5)
    assert np.allclose(found.statistics.mean, whole.statistics.mean, rtol=1e-5)


def test_each_shard_says_what_it_went_through_and_shards_that_were_kept_are_not_scanned(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 20)
    for number in range(6):
        (images / f"{number:03d}.png").write_bytes(b"")
    folder = OutputFolder.claim(tmp_path / "out", {})
    made = dict(scan_shards(what(images), range(20), name="x", shard=6, keep=folder))
    assert list(made) == [6, 12, 18, 20]
    each = [scanned_of(arrays) for arrays in made.values()]
    assert [(one.images, one.views, len(one.skipped)) for one in each] == [(0, 0, 6), (6, 6, 0), (6, 6, 0), (2, 2, 0)]
    for file in images.iterdir():
        file.unlink()
    again = dict(scan_shards(what(noise_folder(images, 20)), range(20), name="x", shard=6, keep=folder))
    for done, arrays in made.items():
        assert json.loads(str(again[done]["scanned"])) == json.loads(str(arrays["scanned"]))


class Told:
    """A folder whose steps are noted."""

    def __init__(self, folder: OutputFolder) -> None:
        self.folder, self.steps = folder, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.folder, name)

    def advance(self, name: str, step: int, arrays: Arrays) -> None:
        self.steps.append(step)
        self.folder.advance(name, step, arrays)


def test_a_filling_scan_is_kept_after_every_step_and_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 2)
    keep = Told(OutputFolder.claim(tmp_path / "out", {}))
    fill({"r": Record("4", 3)}, what(noise_folder(tmp_path / "images", 20)), range(20), name="x", step=8, keep=keep)
    assert keep.steps == [8, 16, 20]


def test_a_stopped_scan_keeps_the_shards_that_are_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 2)
    images, keep = noise_folder(tmp_path / "images", 20), Told(OutputFolder.claim(tmp_path / "out", {}))

    def stop(stage: str, done: int, total: int) -> None:
        if done > 12:
            raise KeyboardInterrupt

    found, whole = Record("4", 3), Record("4", 3)
    with pytest.raises(KeyboardInterrupt):
        fill({"r": Record("4", 3)}, what(images), range(20), name="x", step=8, keep=keep, progress=stop)
    assert keep.steps == [8, 12]
    fill({"r": found}, what(images), range(20), name="x", step=8, keep=keep)
    assert keep.steps == [8, 12, 16, 20]
    fill({"r": whole}, what(images), range(20), name="x", step=8)
    for name, values in whole.state().items():
        assert values.equal(found.state()[name]), name


def test_what_is_kept_of_a_filling_scan_is_one_file_and_a_later_run_goes_on_behind_it(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 20)
    folder = OutputFolder.claim(tmp_path / "out", {})

    def stop(stage: str, done: int, total: int) -> None:
        assert total == 20
        if done > 10:
            raise StopRun

    with pytest.raises(StopRun):
        fill({"r": Record("4", 3)}, what(images), range(20), name="x", step=5, keep=folder, progress=stop)
    assert [file.name for file in folder.draft.glob("*.npz")] == ["x-000000000010.npz"]
    seen: list[int] = []
    found, whole = Record("4", 3), Record("4", 3)
    fill(
        {"r": found}, what(images), range(20), name="x", step=5, keep=folder,
        progress=lambda stage, done, total: seen.append(done),
    )  # fmt: skip
    assert min(seen) == 10
    fill({"r": whole}, what(images), range(20), name="x", step=5)
    for name, values in whole.state().items():
        assert values.equal(found.state()[name]), name
