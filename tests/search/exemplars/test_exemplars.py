from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from toys import conv_net, noise_folder, toy_model

from atlas.exemplars import find_exemplars
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.run.output import OutputFolder
from search.exemplars.exemplars import Exemplars, assemble, exemplars
from search.images.decode import central_box, cut
from search.images.images import Images, open_images
from search.scan.record import Record
from search.scan.scan import scan


class _Everything:
    """A consumer that keeps all there is: the slow twin."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.rows: dict[int, Tensor] = {}

    def update(self, batch: object) -> None:
        for number, maps in zip(batch.index.tolist(), batch.activations[self.layer], strict=True):  # type: ignore[attr-defined]
            self.rows[number] = maps.clone()

    def merge(self, other: object) -> None: ...

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: object) -> None: ...


def _check_against_sorting(found: Exemplars, maps: dict[str, dict[int, Tensor]], k: int) -> None:
    """Ids and positions exactly, values within 1e-5."""
    for layer, rows in maps.items():
        numbers = sorted(rows)
        every = torch.stack([rows[number] for number in numbers])
        values = every.amax((2, 3)) if found.reduce == "max" else every.mean((2, 3))
        for channel in range(values.shape[1]):
            for weakest in (False, True):
                column = values[:, channel].tolist()
                order = sorted(range(len(numbers)), key=lambda i: (column[i] if weakest else -column[i], numbers[i]))[
                    :k
                ]
                entries = found.of(layer, channel, weakest=weakest)
                assert [entry.image for entry in entries] == [numbers[i] for i in order]
                assert [entry.value for entry in entries] == pytest.approx(
                    [column[i] for i in order], abs=1e-5, rel=1e-5
                )
                places = [divmod(int(every[i, channel].argmax()), every.shape[3]) for i in order]
                assert [(entry.row, entry.column) for entry in entries] == places


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize(("batch", "shard"), [(1, 100), (7, 100), (64, 100), (8, 9), (8, 16)])
def test_exemplars_equal_sorting_the_full_matrix(tmp_path: Path, batch: int, shard: int, reduce: str) -> None:
    images = open_images(noise_folder(tmp_path, 25))
    found = exemplars(toy_model(), images, ["1", "4", "output"], k=4, batch=batch, shard=shard, reduce=reduce)  # type: ignore[arg-type]
    network, how = conv_net().eval(), toy_model().preprocess
    opened = [images.open(number) for number in range(25)]
    views = torch.stack([cut(image, central_box(image.size, how), how) for image in opened]).float() / 255
    maps = {}
    with torch.no_grad():
        for layer, depth in (("1", 2), ("4", 5), ("output", 9)):
            out = network[:depth]((views - 0.5) / 0.5)
            maps[layer] = dict(enumerate(out if out.dim() == 4 else out[:, :, None, None]))
    _check_against_sorting(found, maps, 4)
    assert len(found) == 8 + 6 + 4
    assert next(iter(found)) == ("1", 0)
    assert found["4", 2] == found.of("4", 2)


def _first(images: Images, count: int) -> Images:
    """So many of a folder's images."""
    parts = images.names[:count], images.labels[:count], images.class_names[:count], images.files[:count]
    return Images(images.source, *parts)


@pytest.mark.slow
def test_on_the_real_network_exemplars_equal_sorting_the_full_matrix(lite0: Model, image_sample: Path) -> None:
    layers = ["blocks.1", "blocks.3", "blocks.5"]
    images = open_images(image_sample)
    numbers, part = list(range(90)), _first(images, 90)
    everything = [_Everything(layer) for layer in layers]
    trunk = Trunk(lite0, layers)
    scan(lite0, images, layers, everything, numbers=numbers, trunk=trunk, batch=8)
    maps = {consumer.layer: consumer.rows for consumer in everything}
    found = exemplars(lite0, part, layers, k=5, batch=8, shard=37)
    _check_against_sorting(found, maps, 5)


@pytest.mark.slow
def test_a_classs_own_image_is_among_its_logits_top_three(lite0: Model, image_sample: Path) -> None:
    found = exemplars(lite0, _first(open_images(image_sample), 250), "output", k=3)
    labels = found.images.labels
    hits = [number in [entry.image for entry in found.of("output", label)] for number, label in enumerate(labels)]
    assert np.mean(hits) >= 0.95


def test_more_exemplars_than_images_give_what_there_is(tmp_path: Path) -> None:
    images = noise_folder(tmp_path, 5)
    (images / "002.png").write_bytes(b"broken")
    found = exemplars(toy_model(), open_images(images), "4", k=9)
    assert sorted(entry.image for entry in found["4", 0]) == [0, 1, 3, 4]
    assert [entry.name for entry in found.skipped] == ["002.png"]


def test_a_shard_of_damaged_images_does_not_stop_the_others(tmp_path: Path) -> None:
    images = noise_folder(tmp_path, 9)
    for number in (3, 4, 5):
        (images / f"00{number}.png").write_bytes(b"broken")
    found = exemplars(toy_model(), open_images(images), "4", k=9, shard=3)
    assert sorted(entry.image for entry in found["4", 0]) == [0, 1, 2, 6, 7, 8]
    assert len(found.skipped) == 3
    for file in images.iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(UserError, match="not one of the 9 images"):
        exemplars(toy_model(), open_images(images), "4", shard=3)


def test_layers_by_overlapping_patterns_are_looked_at_once(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, 4)), ["4", "[34]", "output"], k=2)
    assert list(found.layers) == ["4", "3", "output"]


def test_boxes_lie_in_the_original_whatever_its_size(tmp_path: Path) -> None:
    for number, size in enumerate([(300, 40), (33, 500), (64, 64)]):
        folder = noise_folder(tmp_path / str(number), 3, size=32)
        for file in folder.iterdir():
            with Image.open(file) as image:
                image.resize(size).save(file)
    images = open_images(tmp_path)
    found = exemplars(toy_model(), images, "1", k=9)
    for layer, channel in found:
        for entry in found.of(layer, channel):
            width, height = images.size(entry.image)
            assert entry.box is not None
            for box in (entry.box, entry.effective_box):
                assert 0 <= box[0] < box[2] <= width + 1e-6
                assert 0 <= box[1] < box[3] <= height + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "44"}, "no layer '44'"),
        ({"layers": []}, "name at least one layer"),
        ({"layers": "4", "reduce": "median"}, "no reduction 'median'"),
        ({"layers": "4", "k": 0}, "k and the shard start at 1, per class at 0; got 0"),
        ({"layers": "4", "shard": 0}, "k and the shard start at 1"),
        ({"layers": "4", "per_class": -1}, "per class at 0"),
        ({"layers": "4", "diverse": "very"}, "no diversity of exemplars 'very'"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_are_refused(
    noise_images: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        exemplars(toy_model(), open_images(noise_images), **options)  # type: ignore[arg-type]


def test_units_there_are_not_are_refused(noise_images: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_images), "4", k=2)
    with pytest.raises(UserError, match="channels 0 to 5; got 6"):
        found.of("4", 6)
    with pytest.raises(UserError, match="no layer '5'"):
        found.of("5", 0)


def test_shards_that_a_stopped_run_kept_are_not_scanned_again(tmp_path: Path) -> None:
    images = open_images(noise_folder(tmp_path / "images", 20))
    folder = OutputFolder.claim(tmp_path / "out", {})

    class StopRun(Exception):  # noqa: N818
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if done > 12:
            raise StopRun

    with pytest.raises(StopRun):
        exemplars(toy_model(), images, "4", k=3, shard=6, workers=0, keep=folder, progress=stop)
    kept = folder.latest("exemplars")
    assert kept is not None
    assert kept[0] == 12
    assert len(list(folder.draft.glob("*.npz"))) == 1
    seen: list[int] = []
    resumed = exemplars(
        toy_model(), images, "4", k=3, shard=6, workers=0, keep=folder,
        progress=lambda stage, done, total: seen.append(done),
    )  # fmt: skip
    assert min(seen) == 12
    whole = exemplars(toy_model(), images, "4", k=3)
    assert [resumed.of(*unit) for unit in resumed] == [whole.of(*unit) for unit in whole]


def test_a_killed_command_is_finished_by_the_same_command_with_the_same_bytes(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 400)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from toys import toy_model\n"
        "from atlas.exemplars import find_exemplars\n"
        "find_exemplars(toy_model(), ['1', '4'], images=sys.argv[1], out=sys.argv[2], k=3, shard=40, workers=0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen([sys.executable, str(script), str(images), str(killed)], env=environment)
    while process.poll() is None and not list(killed.glob("draft/exemplars-*.npz")):
        time.sleep(0.005)
    assert process.poll() is None
    process.kill()
    assert process.wait(timeout=30) == -signal.SIGKILL
    for out in (whole, killed):  # in another process, whose sets have other orders
        find_exemplars(toy_model(), ["1", "4"], images=images, out=out, k=3, shard=40, workers=0)
    names = sorted(path.name for path in whole.iterdir())
    assert sorted(path.name for path in killed.iterdir()) == names
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_neurons_and_an_opposites_exemplars_are_ranked_by_their_own_value(noise_images: Path) -> None:
    images, model = open_images(noise_images), toy_model()
    everything = _Everything("4")
    scan(model, images, ["4"], [everything])
    maps = torch.stack([everything.rows[number] for number in range(len(images))])
    looks: list[tuple[dict[str, object], Tensor]] = [
        ({"place": (1, 3)}, maps[:, :, 1, 3]),
        ({"place": "center", "sign": -1}, -maps[:, :, 4, 4]),
        ({"sign": -1}, (-maps).amax((2, 3))),
    ]
    for options, values in looks:
        consumer = Record("4", 3, **options)  # type: ignore[arg-type]
        scan(model, images, ["4"], [consumer])
        found = assemble(model, images, {"4": consumer}, (), k=3, reduce="max")
        for channel in range(6):
            order = values[:, channel].argsort(descending=True)[:3].tolist()
            entries = found["4", channel]
            assert [entry.image for entry in entries] == order
            assert [entry.value for entry in entries] == pytest.approx(values[order, channel].tolist(), abs=1e-5)
            for entry in entries:
                place = options.get("place", divmod(int((-maps[entry.image, channel]).argmax()), 8))
                assert (entry.row, entry.column) == ((4, 4) if place == "center" else place)


def test_a_box_of_a_global_layer_is_what_the_network_saw(tmp_path: Path) -> None:
    noise_folder(tmp_path / "i", 3, size=64)
    found = exemplars(toy_model(), open_images(tmp_path / "i"), "output", k=1)
    out = found.save(tmp_path / "out")
    entry = json.loads((out / "exemplars.json").read_text())["output"]["0"][0]
    assert found["output", 0][0].box is None
    assert entry["box"] == [4, 4, 60, 60]  # the central 0.875 of 64 pixels
