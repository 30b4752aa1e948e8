from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import noise_folder, toy_model

from atlas.exemplars import find_exemplars
from featviz.errors import UserError
from search.exemplars.exemplars import Exemplars, exemplars
from search.exemplars.index import load_exemplars
from search.images.images import Images, open_images
from search.scan.readout import Readout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = noise_folder(tmp_path_factory.mktemp("images"), 20)
    (folder / "011.png").write_bytes(b"broken")
    (folder / "labels.csv").write_text("file,class_index\n" + "".join(f"{n:03d}.png,{n % 3}\n" for n in range(20)))
    return open_images(folder)


def _layers() -> list[str | Readout]:
    return ["4", Readout("4", torch.eye(6)[:3], "some"), "output"]


def _same(found: Exemplars, expected: Exemplars) -> None:
    assert list(found.layers) == list(expected.layers)
    assert found.skipped == expected.skipped
    for unit in expected:
        assert found.of(*unit) == expected.of(*unit)
        assert found.of(*unit, weakest=True) == expected.of(*unit, weakest=True)
        assert found.of(*unit, label=1) == expected.of(*unit, label=1)
    for name, layer in expected.layers.items():
        assert torch.equal(found.layers[name].sample, layer.sample)
        assert torch.equal(found.layers[name].statistics.quantile(0.5), layer.statistics.quantile(0.5))
        assert torch.allclose(found.layers[name].statistics.mean, layer.statistics.mean)
        assert found.layers[name].readout.unit(1) == layer.readout.unit(1)


def test_what_was_saved_is_opened_again_without_a_pass(tmp_path: Path, images: Images) -> None:
    found = exemplars(toy_model(), images, _layers(), k=3, per_class=2, diverse="images")
    _same(load_exemplars(found.save(tmp_path / "out"), toy_model(), images), found)


def test_parts_that_several_runs_looked_at_join_to_the_whole(tmp_path: Path, images: Images) -> None:
    for number in (3, 1, 2):
        find_exemplars(
            toy_model(), _layers(), images=images, out=tmp_path / str(number), k=3, per_class=2, part=(number, 3)
        )
    joined = load_exemplars([tmp_path / "2", tmp_path / "3", tmp_path / "1"], toy_model(), images)
    _same(joined, exemplars(toy_model(), images, _layers(), k=3, per_class=2))
    assert sum(map(len, joined.numbers)) == 20
    again = joined.save(tmp_path / "joined")
    _same(load_exemplars(again, toy_model(), images), joined)
    with pytest.raises(UserError, match=r"looked at images 6 to 12 of 20: a part is missing"):
        load_exemplars([tmp_path / "3", tmp_path / "1"], toy_model(), images)
    assert sum(map(len, load_exemplars(tmp_path / "1", toy_model(), images, partial=True).numbers)) == 6
    with pytest.raises(UserError, match="another of the folders looked at"):
        load_exemplars([tmp_path / "1", tmp_path / "2", tmp_path / "1"], toy_model(), images)
    find_exemplars(toy_model(), _layers(), images=images, out=tmp_path / "k", k=2, per_class=2, part=(1, 3))
    with pytest.raises(UserError, match="other settings or layers"):
        load_exemplars([tmp_path / "2", tmp_path / "k"], toy_model(), images)


def test_channels_and_untitled_directions_of_a_layer_are_both_there(tmp_path: Path, images: Images) -> None:
    found = exemplars(toy_model(), images, ["4", Readout("4", torch.eye(6)[:2])], k=2)
    again = load_exemplars(found.save(tmp_path / "out"), toy_model(), images)
    assert [(name, len(layer)) for name, layer in again.layers.items()] == [("4", 6), ("4:directions", 2)]


def test_parts_of_other_directions_are_not_joined_and_a_folder_keeps_one_result(tmp_path: Path, images: Images) -> None:
    one, other = (Readout("4", torch.eye(6)[rows]) for rows in ([0, 1], [2, 3]))
    first = exemplars(toy_model(), images, one, k=2, part=(1, 2)).save(tmp_path / "1")
    second = exemplars(toy_model(), images, other, k=2, part=(2, 2))
    with pytest.raises(UserError, match="other settings"):
        second.save(tmp_path / "1")
    with pytest.raises(UserError, match="other settings or layers"):
        load_exemplars([first, second.save(tmp_path / "2")], toy_model(), images)


def test_a_part_without_the_first_images_needs_none_of_them(tmp_path: Path, images: Images) -> None:
    folder = noise_folder(tmp_path / "i", 6)
    (folder / "000.png").write_bytes(b"broken")
    found = exemplars(toy_model(), folder, "4", k=9, part=(2, 2))
    assert sorted(entry.image for entry in found["4", 0]) == [3, 4, 5]
    with pytest.raises(UserError, match="part 1/9 of 6 images holds none"):
        exemplars(toy_model(), folder, "4", part=(1, 9))


def test_a_stale_index_is_refused(tmp_path: Path, images: Images) -> None:
    out = exemplars(toy_model(), images, "4", k=3).save(tmp_path / "out")
    with pytest.raises(UserError, match="made with other weights"):
        load_exemplars(out, toy_model(seed=4), images)
    with pytest.raises(UserError, match="made with other images"):
        load_exemplars(out, toy_model(), noise_folder(tmp_path / "others", 5))
    with pytest.raises(UserError, match=r"holds no index\.npz"):
        load_exemplars(tmp_path, toy_model(), images)


def test_the_index_holds_no_pickles(tmp_path: Path, images: Images) -> None:
    out = exemplars(toy_model(), images, "4", k=3).save(tmp_path / "out")
    with np.load(out / "index.npz", allow_pickle=False) as stored:
        assert all(stored[key].dtype != object for key in stored.files)


@pytest.mark.parametrize("part", [(0, 3), (4, 3), (1, 0)])
def test_parts_there_are_not_are_refused(images: Images, part: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="the i-th of n"):
        exemplars(toy_model(), images, "4", part=part)
