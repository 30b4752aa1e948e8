from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import noise_folder, toy_model

from featviz.errors import UserError
from featviz.network.trunk import Trunk
from search.exemplars.exemplars import exemplars
from search.images.decode import central_view
from search.images.images import Images, open_images
from search.scan.matrix import open_matrix
from search.scan.readout import Readout
from search.scan.record import Record
from search.scan.scan import Batch


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """40 images of three classes, two of them without one."""
    folder = noise_folder(tmp_path_factory.mktemp("labelled"), 40)
    rows = "".join(f"{number:03d}.png,{number % 3}\n" for number in range(38))
    (folder / "labels.csv").write_text(f"file,class_index\n{rows}")
    return open_images(folder)


@pytest.fixture(scope="module")
def maps(images: Images) -> Tensor:
    """The toy network's layer 4 on every image, (40, 6, 8, 8)."""
    how = toy_model().preprocess
    views = torch.stack([central_view(images.open(number), how) for number in range(len(images))])
    with torch.inference_mode():
        return Trunk(toy_model(), ["4"])(views)["4"]


def _directions(count: int = 3) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(0))


def test_directions_are_ranked_as_sorting_their_products_would(images: Images, maps: Tensor) -> None:
    readout = Readout("4", _directions(), "pca")
    found = exemplars(toy_model(), images, ["4", readout], k=5)
    assert list(found.layers) == ["4", "4:pca"]
    products = torch.einsum("nchw,uc->nuhw", maps, _directions())
    for unit in range(3):
        values = products[:, unit].amax((1, 2))
        order = values.argsort(descending=True)[:5].tolist()
        entries = found["4:pca", unit]
        assert [entry.image for entry in entries] == order
        assert [entry.value for entry in entries] == pytest.approx(values[order].tolist(), abs=1e-5)
        places = [divmod(int(products[number, unit].argmax()), 8) for number in order]
        assert [(entry.row, entry.column) for entry in entries] == places
    assert found.name_of("4:pca", 1) == "4:pca#1"
    with pytest.raises(UserError, match="channels 0 to 2; got 3"):
        found.of("4:pca", 3)


def test_directions_come_from_a_file_too(tmp_path: Path, images: Images) -> None:
    file = tmp_path / "v.npy"
    np.save(file, _directions().numpy())
    from_file = exemplars(toy_model(), images, f"4:{file}", k=2)
    given = exemplars(toy_model(), images, Readout("4", _directions()), k=2)
    assert from_file[f"4:{file}", 1] == given["4:directions", 1]
    with pytest.raises(UserError, match="vectors of 6 numbers; 1 has 8"):
        exemplars(toy_model(), images, f"1:{file}", k=2)
    with pytest.raises(UserError, match="have 6 numbers; 1 has 8 channels"):
        exemplars(toy_model(), images, Readout("1", _directions()), k=2)
    with pytest.raises(UserError, match="finite vectors"):
        Readout("4", torch.full((2, 6), torch.nan))


def test_each_classs_strongest_equal_sorting_its_images(images: Images, maps: Tensor) -> None:
    found = exemplars(toy_model(), images, "4", k=2, per_class=3, batch=7)
    values = maps.amax((2, 3))
    for label in range(3):
        own = [number for number in range(38) if number % 3 == label]
        for channel in range(6):
            order = sorted(own, key=lambda number: (-float(values[number, channel]), number))[:3]
            entries = found.of("4", channel, label=label)
            assert [entry.image for entry in entries] == order
            assert [(e.row, e.column) for e in entries] == [divmod(int(maps[n, channel].argmax()), 8) for n in order]
    with pytest.raises(UserError, match="no exemplars of class 3 by itself"):
        found.of("4", 0, label=3)


def test_the_most_frequent_labels_are_counted_among_the_strongest(images: Images) -> None:
    found = exemplars(toy_model(), images, "4", k=9)
    labels = [entry.label for entry in found["4", 2] if entry.label >= 0]
    assert dict(found.labels_of("4", 2)) == dict(Counter(labels))
    counts = [count for _, count in found.labels_of("4", 2)]
    assert counts == sorted(counts, reverse=True)


def test_ordinary_images_lie_at_their_quantile(images: Images, maps: Tensor) -> None:
    found = exemplars(toy_model(), images, "4", k=2).layers["4"]
    values = maps.amax((2, 3))[:, 3]
    rising = values.argsort().tolist()
    assert [number for number, _ in found.at_quantile(3, 0.5, 3)] == rising[19:22]
    assert [number for number, _ in found.at_quantile(3, 0.0, 2)] == rising[:2]
    assert [number for number, _ in found.at_quantile(3, 1.0, 2)] == rising[-2:]
    assert [value for _, value in found.at_quantile(3, 1.0, 1)] == pytest.approx([float(values.max())], abs=1e-5)
    assert len(found.at_quantile(3, 0.5, 99)) == 40


def test_the_distribution_over_positions_is_drawn_evenly_from_all_of_them() -> None:
    record = Record("x", 1)
    # The value tells the position; whatever positions are drawn, all must occur about equally often.
    maps = torch.arange(16.0).view(1, 1, 4, 4).expand(200, 1, 4, 4)
    index = torch.arange(200)
    nothing = torch.zeros(200, dtype=torch.long)
    record.update(Batch({"x": maps}, index, nothing, nothing, torch.zeros(200, 4), torch.zeros(200, 3, 4, 4)))
    assert int(record.positions.count) == 800
    assert float(record.positions.mean) == pytest.approx(7.5, abs=0.6)
    assert (float(record.positions.least), float(record.positions.greatest)) == (0, 15)


def test_the_matrix_answers_later_questions_as_the_pass_did(tmp_path: Path, images: Images, maps: Tensor) -> None:
    found = exemplars(toy_model(), images, ["4", "output"], k=4, per_class=2, matrix=tmp_path / "m", shard=11)
    matrix = open_matrix(tmp_path / "m")["4"]
    assert np.allclose(matrix.values, maps.amax((2, 3)), atol=1e-5)
    assert isinstance(matrix.values, np.memmap)
    top, known = matrix.ranking(4), found.layers["4"].top
    assert torch.equal(top.index, known.index)
    assert torch.equal(top.position, known.position)
    assert torch.equal(matrix.ranking(2, label=1).index, found.layers["4"].classes[1].index)
    assert torch.equal(matrix.ranking(4, largest=False).index, found.layers["4"].bottom.index)
    column = matrix.values[:, 2]
    low, high = np.quantile(column, [0.3, 0.6])
    between = matrix.between(2, low, high)
    assert set(between) == set(np.flatnonzero((column >= low) & (column <= high)))
    assert list(column[between]) == sorted(column[between], reverse=True)
    assert matrix.quantile(2, [0.3, 0.6]) == pytest.approx([low, high])
    with pytest.raises(UserError, match="no readout in the matrix '5'"):
        open_matrix(tmp_path / "m")["5"]
    with pytest.raises(UserError, match="holds no matrix"):
        open_matrix(tmp_path)


def test_images_never_seen_are_nan_in_the_matrix(tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "images", 6)
    (folder / "002.png").write_bytes(b"broken")
    exemplars(toy_model(), folder, "4", k=2, matrix=tmp_path / "m")
    matrix = open_matrix(tmp_path / "m")["4"]
    assert np.isnan(matrix.values[2]).all()
    assert (matrix.positions[2] == -1).all()
    assert np.isfinite(np.delete(matrix.values, 2, axis=0)).all()
    assert 2 not in matrix.ranking(6).index


def test_a_folder_holds_one_matrix(tmp_path: Path, images: Images) -> None:
    exemplars(toy_model(), images, "4", k=2, matrix=tmp_path / "m", part=(1, 2))
    exemplars(toy_model(), images, "4", k=2, matrix=tmp_path / "m", part=(2, 2))
    assert np.isfinite(open_matrix(tmp_path / "m")["4"].values).all()
    with pytest.raises(UserError, match="holds a matrix of another network"):
        exemplars(toy_model(seed=1), images, "4", k=2, matrix=tmp_path / "m")


def test_directions_come_from_any_device_in_any_precision(tmp_path: Path, images: Images) -> None:
    given = torch.nn.Parameter(_directions().to(torch.bfloat16))
    found = exemplars(toy_model(), images, Readout("4", given), k=2)
    assert (found.save(tmp_path / "out") / "index.npz").is_file()
    with pytest.raises(UserError, match="two sets of directions are called '4:directions'"):
        exemplars(toy_model(), images, [Readout("4", given), Readout("4", _directions())], k=2)


def test_what_the_caller_switched_off_does_not_matter(images: Images) -> None:
    with torch.no_grad():
        found = exemplars(toy_model(), images, "4", k=2)
    assert found.layers["4"].extent == exemplars(toy_model(), images, "4", k=2).layers["4"].extent
