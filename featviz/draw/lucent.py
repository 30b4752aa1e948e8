"""lucent's objectives, param_f and transforms, accepted by `maximize` as they are.

What differs from lucent's own render_vis: the network's normalisation is `maximize`'s business, so leave `normalize()`
out of the transforms; nothing is upsampled to 224 pixels; hooks go when the work is done. lucent itself is not
imported: whatever has the shape of its parts will do.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, unknown
from ..network.layers import OUTPUT, layer_names, read
from ..network.layout import tensor_at
from ..network.models import Model
from ..network.trunk import Trunk
from .canvas import Canvas, CanvasMaker, Generators
from .objectives import Activations, Objective
from .transforms import Transform


def is_lucent_objective(thing: Any) -> bool:
    """Whether it is an objective of lucent's: a callable object that carries the function it wraps."""
    return callable(thing) and callable(getattr(thing, "objective_func", None))


def from_lucent_objective(objective: Callable[[Any], Tensor], model: Model, *, batch: int = 1) -> Objective:
    """lucent's objective, a loss of activations by underscored layer names, as one of ours; the score is its opposite.

    batch: how many pictures its `batch=` numbers count; they are drawn together and share the one loss. Raises
    `UserError` for a layer that the network does not have.
    """
    names = {name.replace(".", "_"): name for name in layer_names(model.network)}
    layers = _layers_read(objective, model, names, batch)

    def score(acts: Activations) -> Tensor:
        losses = []
        for start in range(0, len(acts.images), batch):
            losses.append(objective(_lookup(acts, names, slice(start, start + batch))))
        return -torch.stack(losses).flatten().repeat_interleave(batch) / batch

    return Objective(layers, score, None if batch == 1 else batch, batch)


@dataclass(frozen=True)
class Borrowed:
    """lucent's param_f, a function that gives (parameters, function that gives images), as a canvas maker.

    Its random numbers come from the global generators, which are seeded for it and put back. `batch` and `size` are
    those of its images.
    """

    param_f: Callable[[], tuple[Any, Callable[[], Tensor]]]
    batch: int
    size: tuple[int, int]

    @classmethod
    def of(cls, param_f: Callable[[], tuple[Any, Callable[[], Tensor]]]) -> Borrowed:
        with _seeded(0), torch.no_grad():
            shape = param_f()[1]().shape
        return cls(param_f, int(shape[0]), (int(shape[2]), int(shape[3])))

    def __call__(self, generators: Generators, channels: int, size: tuple[int, int], device: torch.device) -> Canvas:
        with _seeded(_seed(generators)):
            parameters, image_f = self.param_f()
        return _BorrowedCanvas([tensor for tensor in parameters if tensor.requires_grad], image_f, device)


@dataclass(frozen=True)
class _BorrowedCanvas:
    parameters: list[Tensor]
    image_f: Callable[[], Tensor]
    device: torch.device
    lr: float = 0.05  # lucent's own

    def images(self) -> Tensor:
        return self.image_f().to(self.device)

    def begin_at(self, images: Tensor) -> None:
        raise UserError("a canvas of lucent's cannot begin at an image; fourier, pixel and maco can.")


def is_param_f(canvas: Any) -> bool:
    """Whether a canvas is lucent's: a function that takes nothing."""
    try:
        parameters = inspect.signature(canvas).parameters.values()
    except (TypeError, ValueError):
        return False
    fixed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(entry.default is not entry.empty or entry.kind in fixed for entry in parameters)


def as_maker(canvas: CanvasMaker | Any) -> CanvasMaker:
    """A canvas maker, made from lucent's param_f where it is one."""
    if not is_param_f(canvas):
        return canvas
    param_f: Any = canvas
    return Borrowed.of(param_f)


def as_transform(transform: Transform | Sequence[Callable[[Tensor], Tensor]]) -> Transform:
    """A transform of ours, or a list of lucent's, applied in order to the whole batch at once."""
    if not isinstance(transform, Sequence):
        return transform

    def apply(images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        with _seeded(_seed(generators)):
            for step in transform:
                images = step(images)
        return images

    return apply


def _lookup(acts: Activations, names: dict[str, str], rows: slice) -> Callable[[str], Tensor]:
    def activations(name: str) -> Tensor:
        if name == "input":
            return acts.images[rows]
        return acts.maps[OUTPUT if name == "labels" else names[name]][rows]

    return activations


def _layers_read(
    objective: Callable[[Any], Tensor], model: Model, names: dict[str, str], batch: int
) -> tuple[str, ...]:
    """The dotted names of the layers that the objective asks for, found by letting it ask."""
    asked: list[str] = []
    trunk = Trunk(model, [OUTPUT], fold=False)
    images = torch.full((batch, model.preprocess.channels, *model.preprocess.size), 0.5, device=trunk.device)
    everything = [*names.values(), OUTPUT]
    with torch.no_grad(), read(trunk.network, everything) as outputs:
        trunk.network(model.preprocess.normalize(images))

    def activations(name: str) -> Tensor:
        if name == "input":
            return images
        if name != "labels" and name not in names:
            raise unknown("layer", name, list(names), "lucent writes _ for the dots.")
        asked.append(OUTPUT if name == "labels" else names[name])
        if asked[-1] not in outputs:
            raise UserError(f"the forward pass never runs layer {name!r}.")
        part = model.layouts.of(trunk.network, OUTPUT).part if asked[-1] == OUTPUT else ()
        return tensor_at(outputs[asked[-1]], part)

    with torch.no_grad():
        objective(activations)
    return tuple(dict.fromkeys(asked))


def _seed(generators: Sequence[torch.Generator]) -> int:
    return int(torch.randint(2**31, (1,), generator=generators[0]))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside the `with`, the global generators of torch, NumPy and Python begin at `seed`; then they are put back."""
    numbers, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002  (lucent draws from it)
    with torch.random.fork_rng():
        try:
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            yield
        finally:
            np.random.set_state(numbers)  # noqa: NPY002
            random.setstate(pythons)
