"""The linear layer that ends a network: one row of weights per class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .copies import cpu_copy, plain_copy
from .forward import told
from .layers import OUTPUT, layer_names, read
from .layout import first_tensor, tensor_at
from .models import Model

# How close a layer's output is to the network's own to be what the network returns.
_SAME = 1e-5


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network's last linear layer: `name`, `weight` (classes, features), `bias` (classes,), float32 on the CPU.

    `exact`: the network returns what this layer does and nothing else, so that its logits are weight @ features + bias.
    """

    name: str
    weight: Tensor
    bias: Tensor
    exact: bool


def find_classifier(model: Model) -> Classifier:
    """The linear layer, or 1 x 1 convolution, whose output the network returns.

    Found by running the network once: names and kinds of heads differ (fc, classifier, head.fc, several heads), what
    comes out last does not. Where nothing linear comes out as it is, the layer that timm's `get_classifier` names (the
    first of several), else the last layer with weights to run, if it is linear. Raises `UserError` for a network
    without a linear head.
    """
    network = cpu_copy(model.network)
    modules = dict(network.named_modules())
    own = [name for name, module in modules.items() if name and any(True for _ in module.parameters(recurse=False))]
    with told(model.name), torch.inference_mode(), read(network, own) as outputs:
        result = network(torch.full((1, model.preprocess.channels, *model.preprocess.size), 0.25))
    result = tensor_at(result, model.layouts.of(network, OUTPUT).part)
    names = {name: modules[name] for name in outputs if _is_linear(modules[name])}
    equal = [name for name in names if isinstance(outputs[name], Tensor) and same(outputs[name], result)]
    last = next(reversed(outputs), "")
    name = equal[-1] if equal else (_named(network, names) or (last if last in names else ""))
    if not name:
        raise UserError(
            f"{model.name} has no linear head: what it returns comes from no linear layer or 1 x 1 convolution."
        )
    return classifier_at(network, name, exact=bool(equal))


def classifier_at(network: nn.Module, name: str, *, exact: bool) -> Classifier:
    """The linear layer of this name as a classifier, with copies of its weights."""
    module: Any = network.get_submodule(name)
    weight = module.weight.detach().float().cpu().flatten(1)
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().float().cpu()
    return Classifier(name, weight.clone(), bias.clone(), exact)


def without_classifier(model: Model, classifier: Classifier) -> Model:
    """The model with the classifier left out: its output is the features (n, features) that the classifier is given.

    Raises `UserError` where weight @ features + bias is not what the network returns.
    """
    network = plain_copy(model.network)
    part = model.layouts.of(network, OUTPUT).part
    parent, _, own = classifier.name.rpartition(".")
    setattr(network.get_submodule(parent), own, nn.Identity())
    bare = replace(model, name=f"{model.name} without {classifier.name}", network=network, labels=())
    probe = torch.rand(2, model.preprocess.channels, *model.preprocess.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, logits = (tensor_at(each(probe), part) for each in (cpu_copy(network), cpu_copy(model.network)))
    fits = features.shape[1:].numel() == classifier.weight.shape[1]
    if (
        not classifier.exact
        or not fits
        or not same(features.flatten(1) @ classifier.weight.T + classifier.bias, logits)
    ):
        raise UserError(
            f"{model.name} does more with {classifier.name} than multiply its features by it: its answers cannot be "
            "worked out from the features."
        )
    return bare


def feature_layer(model: Model, classifier: Classifier) -> str | None:
    """The layer whose maps' means are the classifier's features, channel by channel; None where there is none.

    Of several, the first: a rectifier in place of its input, dropout and the like pass on what it makes.
    """
    bare = without_classifier(model, classifier)
    probe = torch.rand(1, model.preprocess.channels, *model.preprocess.size, generator=torch.Generator().manual_seed(0))
    network = cpu_copy(bare.network)
    with torch.inference_mode(), read(network, layer_names(network)) as outputs:
        features = tensor_at(
            network(model.preprocess.normalize(probe)), model.layouts.of(network, OUTPUT).part
        ).flatten()
    several = [name for name, output in outputs.items() if _may_pool_to(output, features)]
    for name in several:
        try:
            maps = bare.layouts.of(network, name, beside=several).maps(outputs[name])
        except UserError:
            continue
        if maps.shape[2] * maps.shape[3] > 1 and same(maps.mean((2, 3)), features):
            return name
    return None


def _may_pool_to(output: Any, features: Tensor) -> bool:
    """Whether a mean over some places of a layer's output could be the features, by its shape or its values."""
    try:
        tensor = first_tensor(output)
    except UserError:
        return False
    if tensor.dim() == 4:
        return same(tensor.mean((2, 3)), features) or same(tensor.mean((1, 2)), features)
    return tensor.dim() == 3 and len(features) in tensor.shape[1:]


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return True
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def same(found: Tensor, expected: Any) -> bool:
    """Whether one is as many numbers as the other, and the same but for rounding."""
    if not isinstance(expected, Tensor) or found.numel() != expected.numel():
        return False
    scale = float(expected.abs().max()) + 1e-12
    return bool((found.flatten() - expected.flatten()).abs().max() <= _SAME * scale)


def _named(network: nn.Module, names: dict[str, nn.Module]) -> str:
    """The layer that timm says is the classifier, if it says one."""
    get = getattr(network, "get_classifier", None)
    found = get() if callable(get) else None
    found = found[0] if isinstance(found, (tuple, list)) and found else found
    return next((name for name, module in names.items() if module is found), "")
