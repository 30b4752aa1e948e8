"""What the benchmarks share: the machine, the clock, the images, the installed peers, lucent as a contender."""

from __future__ import annotations

import copy
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.functional import center_crop

from featviz import Model, Objective, Trunk
from featviz.draw.robust import robust_score, score
from search import Images
from search.images.decode import central_box, cut

# Package -> what is imported of it.
PEERS = {
    "torch-lucent": "lucent.optvis.render",
    "dreamlens": "dreamlens.render",
    "zennit-crp": "crp.visualization",
    "captum": "captum.attr",
    "torchcam": "torchcam.methods",
    "umap-learn": "umap",
}
OURS = "ours"
Result = TypeVar("Result")

# Fresh copies of the network and a number of steps -> 8-bit images (n, 3, h, w).
Draw = Callable[[Sequence[nn.Module], int], Tensor]


@dataclass(frozen=True)
class Contender:
    """One way to draw the icons; `copies`: how many fresh networks it takes; `frozen`: without weight gradients."""

    name: str
    draw: Draw
    copies: int = 1
    frozen: bool = False


@dataclass(frozen=True)
class Lucent:
    """lucent's default transforms, canvas and optimiser on channels of a layer."""

    model: Model
    layer: str
    channels: tuple[int, ...]
    size: int

    def contenders(self) -> tuple[Contender, ...]:
        """One by one, in a batch, in a batch resized by fixed_image_size, and helped by frozen weights."""
        return (
            Contender("lucent, one by one", self.one_by_one, copies=len(self.channels)),
            Contender("lucent, batched", self.batched),
            Contender("lucent, batched, resized", partial(self.batched, resize=True)),
            Contender("lucent, batched, helped", self.batched, frozen=True),
        )

    def one_by_one(self, networks: Sequence[nn.Module], steps: int) -> Tensor:
        """A call of render_vis per channel."""
        pairs = zip(networks, self.channels, strict=True)
        return torch.cat([self._render(network, (channel,), steps) for network, channel in pairs])

    def batched(self, networks: Sequence[nn.Module], steps: int, *, resize: bool = False) -> Tensor:
        """All channels in one call, an objective per image of the batch."""
        return self._render(networks[0], self.channels, steps, resize=resize)

    def _render(self, network: nn.Module, channels: tuple[int, ...], steps: int, *, resize: bool = False) -> Tensor:
        from lucent.optvis import objectives as wishes
        from lucent.optvis import param, render, transform

        layer = self.layer.replace(".", "_")
        wish = wishes.Objective.sum([wishes.channel(layer, channel, batch=i) for i, channel in enumerate(channels)])
        # lucent pads by 12 pixels. Scaled back to the size by fixed_image_size, pictures hold their features larger
        # than the network wants them and score a fifth less in a clean pass; a crop is as fast and costs them nothing.
        crop = [] if resize else [partial(center_crop, output_size=[self.size, self.size])]
        pictures = render.render_vis(
            network,
            wish,
            lambda: param.image(self.size, batch=len(channels)),
            transforms=[*transform.standard_transforms, *crop, self.model.preprocess.normalize],
            thresholds=(steps,),
            preprocess=False,
            fixed_image_size=self.size if resize else 0,  # 0, unlike None, leaves the size alone
            progress=False,
            show_image=False,
        )
        return to_bytes(pictures[-1])


def to_bytes(pictures: NDArray[np.floating]) -> Tensor:
    """Pictures (n, h, w, 3) in [0, 1] -> 8-bit (n, 3, h, w), rounded."""
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2) * 255).round().clamp(0, 255).to(torch.uint8)


def judge(model: Model, objective: Objective) -> Callable[[Tensor], Tensor]:
    """The objective of 8-bit images by the network as it came, over robust views that no contender draws in."""
    trunk = Trunk(model, objective.layers, fold=False)
    return lambda images: robust_score(trunk, objective, images, range(len(images)))


def clean_judge(model: Model, objective: Objective) -> Callable[[Tensor], Tensor]:
    """The same in one pass of the images as they are, which fine texture pleases."""
    trunk = Trunk(model, objective.layers, fold=False)
    return lambda images: score(trunk, objective, images, range(len(images)))


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def missing(peer: str) -> str | None:
    """Why a peer cannot take part; None where it can."""
    if installed(peer) is None:
        return f"{peer} is not installed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(PEERS[peer])
    except ImportError as error:
        return f"{peer} cannot be imported: {error}"
    return None


def timed(contender: Contender, model: Model, steps: int) -> tuple[float, Tensor]:
    """Seconds that the contender takes on fresh copies of the network, and what it draws."""
    networks = [copy.deepcopy(model.network).to(model.device) for _ in range(contender.copies)]
    if contender.frozen:
        networks = [network.requires_grad_(False) for network in networks]
    # The peers draw from the global generators, torch's and NumPy's.
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    wait(model)
    start = time.perf_counter()
    images = contender.draw(networks, steps)
    wait(model)
    return time.perf_counter() - start, images


def fastest(work: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """Seconds of the fastest of some turns (at least one), and what came out of the last."""
    seconds, results = take_turns({"": work}, repeats)
    return min(seconds[""]), results[""]


def take_turns(
    works: Mapping[str, Callable[[], Result]], repeats: int, say: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, list[float]], dict[str, Result]]:
    """Seconds of every turn (at least one each) by contender, and what came out of its last; contenders alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results: dict[str, Result] = {}
    for repeat in range(max(1, repeats)):
        for name, work in works.items():
            start = time.perf_counter()
            results[name] = work()
            seconds[name].append(time.perf_counter() - start)
        if len(works) > 1:
            say(f"turn {repeat + 1}: " + ", ".join(f"{name} {turns[-1]:.2f} s" for name, turns in seconds.items()))
    return seconds, results


class Decoded(Dataset[Any]):
    """Central views, (channels, h, w) uint8, as a user's own data set would give them; normalized: with a label."""

    def __init__(self, model: Model, images: Images, *, normalized: bool = False) -> None:
        self.how, self.images, self.normalized = model.preprocess, images, normalized

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Any:
        image = self.images.open(number)
        pixels = cut(image, central_box(image.size, self.how), self.how)
        if not self.normalized:
            return pixels
        return self.how.normalize(pixels[None].float() / 255)[0], max(self.images.labels[number], 0)


def part(images: Images, count: int) -> Images:
    """The first `count` images, from the beginning again where there are fewer."""
    numbers = [number % len(images) for number in range(count)]
    fields = {
        name: tuple(getattr(images, name)[number] for number in numbers)
        for name in ("names", "labels", "class_names", "files")
    }
    return replace(images, **fields)


def wait(model: Model) -> None:
    """Let a GPU finish what was asked of it."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def machine(model: Model) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    packages = ("activation-atlas", "torch", "timm", *PEERS)
    return {
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in packages}},
        "device": torch.cuda.get_device_name() if model.device.type == "cuda" else str(model.device),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "model": model.name,
    }


def processor() -> str:
    """What the processor is called, as far as the system says."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
