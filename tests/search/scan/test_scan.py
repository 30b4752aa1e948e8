"""One pass shows every image once per view, in order, to every consumer, and leaves the network as it was found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.network.models import IMAGENET_MEAN, IMAGENET_STD, Model, load_model
from featviz.network.trunk import Trunk
from search import Batch, Images, Scanned, from_dataset, open_images, scan
from search.images.decode import central_box

SIDE = 16


class Toy(nn.Module):
    """A small network with a layer of every layout: maps, maps with channels last, tokens, logits."""

    passes: ClassVar[list[int]] = []  # batch sizes of all forward passes, of copies too

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.mix = nn.Conv2d(5, 6, 1)
        self.last = _ChannelsLast()
        self.tokens = _Tokens()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 4)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
        self.norm.running_mean = torch.randn(5, generator=generator)
        self.norm.running_var = torch.rand(5, generator=generator) + 0.5

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        maps = self.mix(torch.tanh(self.norm(self.conv(images))))
        self.last(maps)
        tokens = self.tokens(maps)
        logits: Tensor = self.head(self.drop(tokens[:, 1:].mean(1)))
        return logits


class _ChannelsLast(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).contiguous()


class _Tokens(nn.Module):
    """Rows of patches after one class token."""

    def forward(self, maps: Tensor) -> Tensor:
        patches = maps.flatten(2).transpose(1, 2)
        return torch.cat([torch.full_like(patches[:, :1], 9.0), patches], dim=1)


LAYERS = ("conv", "norm", "mix", "last", "tokens", "head")


@dataclass
class Record:
    """A consumer that keeps every batch."""

    batches: list[Batch] = field(default_factory=list)

    def update(self, batch: Batch) -> None:
        self.batches.append(batch)

    def merge(self, other: Record) -> None:
        self.batches += other.batches

    def state(self) -> dict[str, Tensor]:
        return {"index": self.index}

    def load(self, state: Mapping[str, Tensor]) -> None:
        raise AssertionError("a scan loads nothing")

    def maps(self, layer: str) -> Tensor:
        return torch.cat([batch.activations[layer] for batch in self.batches])

    @property
    def index(self) -> Tensor:
        return torch.cat([batch.index for batch in self.batches])

    @property
    def view(self) -> Tensor:
        return torch.cat([batch.view for batch in self.batches])

    @property
    def label(self) -> Tensor:
        return torch.cat([batch.label for batch in self.batches])

    @property
    def box(self) -> Tensor:
        return torch.cat([batch.box for batch in self.batches])

    @property
    def addresses(self) -> list[tuple[int, int]]:
        return list(zip(self.index.tolist(), self.view.tolist(), strict=True))


class Fails(Record):
    """A consumer that fails at its second batch."""

    def update(self, batch: Batch) -> None:
        super().update(batch)
        if len(self.batches) == 2:
            raise ZeroDivisionError("the consumer failed")


def _model(network: nn.Module | None = None, **settings: Any) -> Model:
    how = {"size": SIDE, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), **settings}
    return Model.wrap(network or Toy(), **how)


def _paint(file: Path, number: int) -> None:
    """Image `number`: noise of its own size."""
    generator = np.random.default_rng(number)
    height, width = generator.integers(20, 60, 2)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file)


def _folder(folder: Path, count: int) -> Images:
    """`count` images in three classes."""
    for number in range(count):
        _paint(folder / f"{'abc'[number % 3]}" / f"{number:03d}.png", number)
    return open_images(folder)


def _scanned(images: Images, layers: Sequence[str] = ("mix",), **settings: Any) -> Record:
    record = Record()
    scan(settings.pop("model", None) or _model(), images, layers, [record], **settings)
    return record


def _slow_twin(images: Images, layer: str, network: nn.Module, model: Model) -> Tensor:
    """Open an image, cut its middle, normalise it, run the network on it; then the next."""
    network.eval()
    rows = []
    for file in images.files:
        image = Image.open(file).convert("RGB" if model.preprocess.channels == 3 else "L")
        edge = min(image.size) * model.preprocess.crop
        left, top = (image.width - edge) / 2, (image.height - edge) / 2
        part = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
        pixels = np.asarray(part, dtype=np.float32).reshape(SIDE, SIDE, -1) / 255
        pixels = (pixels - np.array(model.preprocess.mean)) / np.array(model.preprocess.std)
        rows.append(_output(network, layer, torch.from_numpy(pixels).float().permute(2, 0, 1)[None]))
    return torch.cat(rows)


def _output(network: nn.Module, layer: str, inputs: Tensor) -> Tensor:
    outputs: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda *args: outputs.append(args[2]))
    with torch.no_grad():
        network(inputs)
    handle.remove()
    return outputs[0]


def _close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


# Every image once, in order


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [1, 3, 7, 64])
def test_scan_gives_the_same_activations_for_every_batch_size_and_number_of_workers(
    tmp_path: Path, batch: int, workers: int
) -> None:
    images = _folder(tmp_path, 17)
    record = Record()
    done = scan(_model(), images, ["norm", "mix"], [record], batch=batch, workers=workers)
    assert done == Scanned(images=17, views=17, skipped=())
    assert record.addresses == [(number, 0) for number in range(17)]
    sizes = [len(part.index) for part in record.batches]
    assert sizes == [batch] * (17 // batch) + [17 % batch] * (17 % batch > 0)
    for layer in ("norm", "mix"):
        assert record.maps(layer).dtype == torch.float32
        _close(record.maps(layer), _slow_twin(images, layer, Toy(), _model()))


@pytest.mark.parametrize("batch", [1, 3, 7, 64])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_is_seen_once_per_view_with_its_views_in_order(tmp_path: Path, batch: int, workers: int) -> None:
    images = _folder(tmp_path, 11)
    record = Record()
    done = scan(_model(), images, ["mix"], [record], views=4, batch=batch, workers=workers)
    assert done == Scanned(images=11, views=44, skipped=())
    assert record.addresses == [(number, view) for number in range(11) for view in range(4)]
    assert {len(part.index) for part in record.batches[:-1]} <= {batch}
    alone = _scanned(images, views=4, batch=1, workers=0)
    assert torch.equal(record.box, alone.box)
    _close(record.maps("mix"), alone.maps("mix"))


class _Processes:
    """A data set whose images are painted with the number of the process that decodes them."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Image.Image:
        colour = os.getpid().to_bytes(8, "little")[:3]
        return Image.new("RGB", (SIDE, SIDE), (colour[0], colour[1], colour[2]))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_decode_in_as_many_other_processes_and_none_decode_in_this_one(workers: int) -> None:
    network = nn.Sequential(nn.Identity())
    model = Model.wrap(network, size=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3)
    record = _scanned(from_dataset(_Processes()), ["0"], model=model, workers=workers)
    painted = (record.maps("0")[:, :, 0, 0] * 255).round().int().tolist()
    decoders = {int.from_bytes(bytes(colour), "little") for colour in painted}
    assert len(decoders) == max(1, workers)
    assert (os.getpid() % 2**24 in decoders) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_and_boxes_travel_with_their_image(tmp_path: Path, workers: int) -> None:
    images = _folder(tmp_path, 14)
    model = _model(crop=0.8)
    record = _scanned(images, model=model, batch=4, workers=workers, numbers=[13, 0, 5, 1, 2, 8, 9, 11])
    assert record.index.tolist() == [13, 0, 5, 1, 2, 8, 9, 11]
    assert record.label.tolist() == [images.labels[number] for number in record.index.tolist()]
    assert len(set(record.label.tolist())) == 3
    for number, box in zip(record.index.tolist(), record.box, strict=True):
        width, height = images.open(number).size
        edge = 0.8 * min(width, height)
        middle = torch.tensor([width - edge, height - edge, width + edge, height + edge]) / 2
        torch.testing.assert_close(box, middle)


def test_images_without_labels_have_the_label_minus_one(tmp_path: Path) -> None:
    for number in range(3):
        _paint(tmp_path / f"{number}.png", number)
    assert _scanned(open_images(tmp_path)).label.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("workers", [0, 2])
def test_numbers_are_scanned_exactly_and_in_their_order(tmp_path: Path, workers: int) -> None:
    images = _folder(tmp_path, 20)
    numbers = [19, 3, 4, 0, 12, 7, 8, 16, 1]
    everything = _scanned(images, views=2)
    some = _scanned(images, views=2, numbers=numbers, batch=5, workers=workers)
    assert some.addresses == [(number, view) for number in numbers for view in range(2)]
    rows = [2 * number + view for number in numbers for view in range(2)]
    assert torch.equal(some.box, everything.box[rows])
    _close(some.maps("mix"), everything.maps("mix")[rows])


def test_progress_counts_every_image_up_to_the_last(tmp_path: Path) -> None:
    images = _folder(tmp_path, 9)
    images.files[4].write_bytes(b"")
    calls: list[tuple[str, int, int]] = []
    _scanned(images, batch=4, views=2, workers=0, progress=lambda *call: calls.append(call))
    assert calls == [("reading images", done, 9) for done in (2, 4, 6, 8, 9)]


# Views


def test_the_first_view_is_the_central_crop_and_the_others_are_not(tmp_path: Path) -> None:
    images = _folder(tmp_path, 6)
    record = _scanned(images, views=3)
    first = record.view == 0
    _close(record.maps("mix")[first], _slow_twin(images, "mix", Toy(), _model()))
    for number in range(6):
        centre = torch.tensor(central_box(images.open(number).size, _model().preprocess))
        own = record.box[record.index == number]
        assert torch.allclose(own[0], centre)
        assert not (own[1:] == centre).all(1).any()
        assert not torch.equal(own[1], own[2])


def test_given_boxes_are_the_views_that_are_scanned(tmp_path: Path) -> None:
    images = _folder(tmp_path, 4)
    model = Model.wrap(nn.Sequential(nn.Identity()), size=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3)
    boxes = {2: [(0.0, 0.0, 9.0, 9.0), (3.0, 2.0, 12.0, 11.0)], 0: [(1.0, 1.0, 8.0, 8.0)]}
    record = Record()
    scanned = scan(model, images, ["0"], [record], boxes=boxes)
    assert (scanned.images, scanned.views) == (2, 3)
    assert list(zip(record.index.tolist(), record.view.tolist(), strict=True)) == [(2, 0), (2, 1), (0, 0)]
    assert [tuple(box) for box in record.box.tolist()] == [*boxes[2], *boxes[0]]
    part = images.open(2).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=boxes[2][1])
    expected = torch.from_numpy(np.array(part)).permute(2, 0, 1) / 255
    torch.testing.assert_close(record.maps("0")[1], expected, atol=1.5 / 255, rtol=0)


def test_a_view_shows_what_its_box_names(tmp_path: Path) -> None:
    images = _folder(tmp_path, 4)
    model = Model.wrap(nn.Sequential(nn.Identity()), size=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3)
    record = _scanned(images, ["0"], model=model, views=3)
    for number, box, maps in zip(record.index.tolist(), record.box.tolist(), record.maps("0"), strict=True):
        part = images.open(number).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=tuple(box))
        expected = torch.from_numpy(np.array(part)).permute(2, 0, 1) / 255
        torch.testing.assert_close(maps, expected, atol=1.5 / 255, rtol=0)


def test_random_views_depend_on_seed_image_and_view_alone(tmp_path: Path) -> None:
    images = _folder(tmp_path, 12)
    whole = _scanned(images, views=4, seed=5)
    for numbers, views, batch, workers in [
        ([7], 4, 1, 0),
        ([11, 7, 3, 0], 4, 3, 0),
        (list(range(11, -1, -1)), 2, 64, 2),
        ([2, 9], 3, 2, 0),
    ]:
        part = _scanned(images, views=views, seed=5, numbers=numbers, batch=batch, workers=workers)
        assert len(part.index) == len(numbers) * views
        rows = [whole.addresses.index(address) for address in part.addresses]
        assert torch.equal(part.box, whole.box[rows])
        _close(part.maps("mix"), whole.maps("mix")[rows])


def test_another_seed_gives_other_random_views_and_the_same_central_ones(tmp_path: Path) -> None:
    images = _folder(tmp_path, 8)
    one, other = (_scanned(images, views=3, seed=seed) for seed in (0, 1))
    assert one.addresses == other.addresses
    same = (one.box == other.box).all(1)
    assert same.tolist() == (one.view == 0).tolist()


def test_random_views_of_equal_images_differ(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _paint(tmp_path / name, 0)
    boxes = _scanned(open_images(tmp_path), views=3).box
    assert len({tuple(box) for box in boxes.tolist()}) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_scan_leaves_torchs_global_random_state_alone(tmp_path: Path, workers: int) -> None:
    images, model = _folder(tmp_path, 8), _model()
    before = torch.random.get_rng_state()
    _scanned(images, model=model, views=2, workers=workers)
    assert torch.equal(before, torch.random.get_rng_state())


# Damaged files


def _cut_off_jpeg() -> bytes:
    whole = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(whole, "JPEG")
    return whole.getvalue()[: len(whole.getvalue()) // 2]


def _damage(folder: Path) -> list[str]:
    """Three files that cannot be decoded, in the middle of the folder's order."""
    damaged = {"b/00x.jpg": _cut_off_jpeg(), "b/00y.png": b"", "b/00z.png": b"some text that calls itself an image"}
    for name, content in damaged.items():
        (folder / name).write_bytes(content)
    return list(damaged)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_damaged_files_are_skipped_and_named_and_nothing_else_changes(tmp_path: Path, batch: int, workers: int) -> None:
    sound = _scanned(_folder(tmp_path, 12), views=2)
    damaged = _damage(tmp_path)
    images, record = open_images(tmp_path), Record()
    done = scan(_model(), images, ["mix"], [record], views=2, batch=batch, workers=workers)
    assert (done.images, done.views) == (12, 24)
    assert [one.name for one in done.skipped] == damaged
    assert 0 < images.names.index(damaged[0]) < images.names.index(damaged[-1]) < len(images) - 1
    seen = [images.names[number] for number in record.index.tolist()[::2]]
    assert seen == [name for name in images.names if name not in damaged]
    assert record.label.tolist() == sound.label.tolist()
    _close(record.maps("mix")[record.view == 0], sound.maps("mix")[sound.view == 0])


def _reasons(images: Images, workers: int = 0) -> dict[str, str]:
    done = scan(_model(), images, ["mix"], [Record()], workers=workers)
    return {one.name: one.reason for one in done.skipped}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_reason_says_what_is_wrong_and_not_where_the_folder_lies(tmp_path: Path, workers: int) -> None:
    _folder(tmp_path / "image", 9)
    damaged = _damage(tmp_path / "image")
    reasons = _reasons(open_images(tmp_path / "image"), workers)
    assert list(reasons) == damaged
    for reason in reasons.values():
        assert str(tmp_path) not in reason
    assert "truncated" in reasons["b/00x.jpg"].lower()
    assert "cannot identify" in reasons["b/00y.png"]
    assert "cannot identify" in reasons["b/00z.png"]


@pytest.mark.parametrize(("inside", "source"), [("", "image"), ("image", "."), ("image/b", "../../image")])
def test_a_reason_is_worded_the_same_however_the_folder_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, source: str
) -> None:
    _folder(tmp_path / "image", 9)
    damaged = _damage(tmp_path / "image")
    by_whole_path = _reasons(open_images(tmp_path / "image"))
    assert list(by_whole_path) == damaged
    monkeypatch.chdir(tmp_path / inside)
    assert _reasons(open_images(source)) == by_whole_path


def test_a_reason_does_not_name_the_folder_of_images_that_have_another_name(tmp_path: Path) -> None:
    _folder(tmp_path, 9)
    _damage(tmp_path)
    renamed = replace(open_images(tmp_path), source="photos")
    reasons = _reasons(renamed)
    assert len(reasons) == 3
    assert not [reason for reason in reasons.values() if str(tmp_path) in reason]


def test_a_file_that_has_gone_since_is_skipped(tmp_path: Path) -> None:
    images = _folder(tmp_path, 4)
    images.files[2].unlink()
    done = scan(_model(), images, ["mix"], [Record()])
    assert (done.images, [one.name for one in done.skipped]) == (3, [images.names[2]])
    assert str(tmp_path) not in done.skipped[0].reason


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_in_which_nothing_can_be_decoded_is_refused(tmp_path: Path, workers: int) -> None:
    for number in range(9):
        (tmp_path / f"{number}.png").write_text("not a picture")
    record = Record()
    with pytest.raises(UserError, match="not one of the 9 images") as caught:
        scan(_model(), open_images(tmp_path), ["mix"], [record], workers=workers)
    assert "0.png: UnidentifiedImageError" in str(caught.value)
    assert repr(str(tmp_path)) in str(caught.value)
    assert record.batches == []


# Layers and consumers


def test_every_consumer_gets_the_same_batches_of_all_layers_in_one_pass(tmp_path: Path) -> None:
    images, model, consumers = _folder(tmp_path, 10), _model(), [Record(), Record(), Record()]
    trunk = Trunk(model, LAYERS)
    trunk.map_size(LAYERS[0])  # finds out how the layers are laid out, which takes passes of its own
    Toy.passes.clear()
    done = scan(model, images, LAYERS, consumers, batch=4, trunk=trunk)
    assert Toy.passes == [4, 4, 2]
    assert done == Scanned(images=10, views=10, skipped=())
    for record in consumers:
        assert [list(batch.activations) for batch in record.batches] == [list(LAYERS)] * 3
        assert record.index.tolist() == list(range(10))
        assert torch.equal(record.label, consumers[0].label)
        assert torch.equal(record.box, consumers[0].box)
        for layer in LAYERS:
            assert torch.equal(record.maps(layer), consumers[0].maps(layer))
            _close(record.maps(layer), _scanned(images, [layer]).maps(layer))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("conv", (5, 8, 8)),
        ("norm", (5, 8, 8)),
        ("mix", (6, 8, 8)),
        ("last", (6, 8, 8)),
        ("tokens", (6, 8, 8)),
        ("head", (4, 1, 1)),
    ],
)
def test_every_layout_arrives_as_channels_rows_columns(tmp_path: Path, layer: str, shape: tuple[int, int, int]) -> None:
    images = _folder(tmp_path, 5)
    maps = _scanned(images, [layer], batch=2).maps(layer)
    assert maps.shape == (5, *shape)
    source = layer if layer in ("conv", "norm", "head") else "mix"  # what channels-last maps and tokens are made of
    _close(maps, _slow_twin(images, source, Toy(), _model()).reshape(5, *shape))


def test_a_network_with_one_channel_sees_grey_images(tmp_path: Path) -> None:
    images = _folder(tmp_path, 6)
    model = _model(Toy(channels=1), mean=(0.4,), std=(0.3,))
    maps = _scanned(images, model=model, batch=4).maps("mix")
    # Grey is made after the resize here and before it in the twin: they differ by the rounding to 8 bits.
    torch.testing.assert_close(maps, _slow_twin(images, "mix", Toy(channels=1), model), atol=0.05, rtol=0.02)
    colour = _scanned(images, batch=4).maps("mix")
    assert (maps - colour).abs().max() > 0.5


# The network is given back as found


def _used_network() -> tuple[Toy, list[str]]:
    """A network in the midst of its user's work: half in training mode, half frozen, gradients, hooks of their own."""
    network, heard = Toy(), []
    network.train()
    network.norm.eval()
    for parameter in network.conv.parameters():
        parameter.requires_grad_(False)
    network.head.weight.grad = torch.ones_like(network.head.weight)
    network.mix.register_forward_hook(lambda *args: heard.append("after"))
    network.mix.register_forward_pre_hook(lambda *args: heard.append("before"))
    network.mix.register_full_backward_hook(lambda *args: None)
    return network, heard


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _snapshot(network: nn.Module) -> dict[str, Any]:
    parameters = dict(network.named_parameters())
    return {
        "modules": {name: id(module) for name, module in network.named_modules()},
        "training": {name: module.training for name, module in network.named_modules()},
        "hooks": {
            (name, kind): list(getattr(module, kind).items())
            for name, module in network.named_modules()
            for kind in HOOKS
        },
        "identities": {name: (id(parameter), parameter.data_ptr()) for name, parameter in parameters.items()},
        "strides": {name: parameter.stride() for name, parameter in parameters.items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in parameters.items()},
        "grads": {name: None if p.grad is None else p.grad.tolist() for name, p in parameters.items()},
        "values": {name: value.tolist() for name, value in network.state_dict().items()},
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_the_network_is_given_back_as_found(tmp_path: Path, workers: int) -> None:
    images = _folder(tmp_path, 10)
    network, _ = _used_network()
    before = _snapshot(network)
    _scanned(images, LAYERS, model=_model(network), batch=3, views=2, workers=workers)
    assert _snapshot(network) == before


@pytest.mark.parametrize("workers", [0, 2])
def test_the_network_is_given_back_as_found_when_a_consumer_fails(tmp_path: Path, workers: int) -> None:
    images = _folder(tmp_path, 10)
    network, _ = _used_network()
    before, consumer = _snapshot(network), Fails()
    with pytest.raises(ZeroDivisionError, match="the consumer failed"):
        scan(_model(network), images, LAYERS, [consumer], batch=3, workers=workers)
    assert len(consumer.batches) == 2
    assert _snapshot(network) == before
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_the_users_own_hooks_work_after_a_scan(tmp_path: Path) -> None:
    network, heard = _used_network()
    _scanned(_folder(tmp_path, 3), LAYERS, model=_model(network))
    heard.clear()
    network(torch.zeros(2, 3, SIDE, SIDE)).sum().backward()
    assert heard == ["before", "after"]
    assert network.mix.weight.grad is not None


def test_a_network_in_training_mode_is_scanned_in_eval_mode(tmp_path: Path) -> None:
    images = _folder(tmp_path, 6)
    training = _scanned(images, ["norm", "head"], model=_model(Toy().train()), batch=2)
    for layer in ("norm", "head"):
        _close(training.maps(layer).squeeze(), _slow_twin(images, layer, Toy(), _model()).squeeze())


def test_large_batches_do_not_run_out_of_open_files(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    images = _folder(tmp_path, 120)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        record = _scanned(images, batch=120, workers=2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert record.index.tolist() == list(range(120))


# The real network


@dataclass
class Hits(Record):
    """Image number -> whether the largest logit is its label's."""

    hits: dict[int, bool] = field(default_factory=dict)

    def update(self, batch: Batch) -> None:
        best = batch.activations["classifier"].flatten(1).argmax(1).cpu()
        self.hits |= dict(zip(batch.index.tolist(), (best == batch.label).tolist(), strict=True))


def _hits(model: Model, images: Images, numbers: Sequence[int]) -> dict[int, bool]:
    hits = Hits()
    done = scan(model, images, ["classifier"], [hits], numbers=numbers)
    assert done.skipped == ()
    assert sorted(hits.hits) == sorted(numbers)
    return hits.hits


def _share(hits: Mapping[int, bool], numbers: Sequence[int]) -> float:
    return sum(hits[number] for number in numbers) / len(numbers)


@pytest.fixture(scope="module")
def lite0() -> Model:
    return load_model("efficientnet_lite0")


def test_the_embedded_network_recognises_the_embedded_photographs(lite0: Model) -> None:
    photos = open_images("photos")
    labelled = [number for number, label in enumerate(photos.labels) if label >= 0]
    assert len(labelled) == 20
    assert _share(_hits(lite0, photos, labelled), labelled) >= 0.8


@pytest.mark.slow
@pytest.mark.skipif("ACTIVATION_ATLAS_IMAGES" not in os.environ, reason="ACTIVATION_ATLAS_IMAGES names no folder")
def test_top_1_on_imagenet_photographs_is_right_and_lower_with_another_mean_and_deviation(lite0: Model) -> None:
    images = open_images(os.environ["ACTIVATION_ATLAS_IMAGES"])
    everything, half = range(len(images)), range(0, len(images), 2)
    right = _hits(lite0, images, everything)
    assert _share(right, everything) >= 0.85
    usual = replace(lite0, preprocess=replace(lite0.preprocess, mean=IMAGENET_MEAN, std=IMAGENET_STD))
    assert _share(_hits(usual, images, half), half) <= _share(right, half) - 0.06
