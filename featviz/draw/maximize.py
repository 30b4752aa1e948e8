"""The only optimisation loop: pictures that score as high as possible on an objective."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..network.batch_size import chunk_by_trying, whole_groups
from ..network.gradients import gradients_on
from ..network.models import Model
from ..network.trunk import Precision, Trunk, out_of_memory
from ..network.units import parse_units
from ..progress import Progress, silent
from ..seeds import generator_for
from .ascent import Ascent, over_grey, to_bytes
from .canvas import Canvas, CanvasMaker, canvas_maker, with_alpha
from .lucent import Borrowed, as_maker, as_transform, from_lucent_objective, is_lucent_objective
from .objectives import Objective, group_of, of_units
from .robust import robust_score, score
from .transforms import Transform, views
from .watch import Moment


@dataclass(frozen=True)
class Pictures:
    """Pictures of n targets.

    `images`: (n, channels, h, w) uint8, as a PNG holds them; `scores`: (n,) the objective of those 8-bit images, its
    mean over `robust_views`; `clean`: (n,) in one pass of the images as they are; `attempts`: (n,) which attempt was
    kept; `rescued`: (n,) steps at which no gradient reached the picture and one was let through shut rectifiers, or at
    which the unit's own function, a GELU or its like, fell at every place and was taken to rise. Where asked for, else
    None: `alpha`: (n, h, w) uint8, opacity; `importance`: (n, h, w) float32, the mean size of the gradient over all
    steps, its largest value 1.
    """

    images: Tensor
    scores: Tensor
    clean: Tensor
    attempts: Tensor
    rescued: Tensor
    alpha: Tensor | None = None
    importance: Tensor | None = None


@gradients_on()
def maximize(
    model: Model,
    objective: Objective | Any,
    *,
    count: int | None = None,
    keys: Sequence[str] | None = None,
    pictures: Sequence[int] | None = None,
    size: int | tuple[int, int] = 128,
    steps: int = 256,
    lr: float | None = None,
    canvas: str | CanvasMaker | Any = "fourier",
    transform: Transform | Any = None,
    start: Tensor | None = None,
    alpha: bool = False,
    importance: bool = False,
    clip: float | None = None,
    patience: int | None = None,
    starts: int = 1,
    attempts: int = 1,
    prior: Objective | None = None,
    seed: int = 0,
    chunk: int | None = None,
    trunk: Trunk | None = None,
    precision: Precision = "float32",
    compiled: bool = False,
    watch: Callable[[Moment], None] | None = None,
    progress: Progress = silent,
) -> Pictures:
    """Draw the pictures of an objective by gradient ascent; `superstimuli.draw` adds a prior and starts for units.

    objective: ours, a unit's address such as `blocks.5:12`, or lucent's; canvas, transform: ours, or lucent's as they
    are (see `lucent.py`; default transform: `transforms.views`). count: how many pictures, where the objective does not
    say. keys: a name per picture of the objective; a picture's random draws depend on (seed, key, attempt) alone
    (default: its number). pictures: which of them to draw (default: all). size: pixels, one side or (height, width).
    lr: peak of the one-cycle schedule of Adam (default: the canvas's own). start: images in [0, 1] to begin at, one for
    all or one per picture. alpha: draw an opacity too; what the objective does not need turns transparent. importance:
    keep how strongly each pixel counted. clip: largest norm of one picture's gradient. patience: a picture rests once
    its robust score has not risen for so many steps. starts: begin so many times, and go on with the start that gets
    highest in the first 12 % of the steps. attempts: keep the best of so many, by the robust score. prior: a further
    objective while drawing, which the scores leave out: |score - that of grey| * prior is added, the size of the gain
    taken as given, so that one weight of it suits every unit. chunk: pictures per micro-batch; every micro-batch has
    this size. trunk: an already prepared `Trunk` that reads the layers of objective and prior; else precision and
    compiled are those of the one made here. watch: called with a `Moment` after every step.

    A picture that gets no gradient because its unit's rectifiers are shut gets one through `LeakyGradients`, at the
    steps at which that is so; a unit that comes out of a GELU or its like rises where that falls (see `rising`). Where
    the device runs out of memory, the micro-batch is halved, with a warning.

    Raises `UserError` for settings out of range and for an objective that returns a wrong shape.
    """
    maker = as_maker(canvas_maker(canvas))
    height_width = (size[0], size[1]) if isinstance(size, tuple) else (operator.index(size),) * 2
    if isinstance(maker, Borrowed):
        height_width, chunk = maker.size, maker.batch
        _check_borrowed(clip, patience, alpha, starts)
    objective = _ours(objective, model, maker.batch if isinstance(maker, Borrowed) else 1)
    _check(height_width, steps, lr, attempts, starts, clip, patience)
    wanted = _Wanted.of(objective, group_of(objective, prior), count, keys, pictures)
    read = objective.layers if prior is None else (*dict.fromkeys(prior.layers + objective.layers),)
    # At a place given by row and column, what is seen is the map of the size that the network was made for.
    free = objective.free and (prior is None or prior.free)
    trunk = trunk or Trunk(model, read, precision=precision, compiled=compiled, resizes=free)
    ascent = Ascent(
        trunk=trunk,
        objective=objective,
        canvas=with_alpha(maker) if alpha else maker,
        transform=views(min(height_width)) if transform is None else as_transform(transform),
        size=height_width,
        steps=steps,
        lr=lr,
        start=_started(start, wanted.total, (trunk.preprocess.channels, *height_width)),
        alpha=alpha,
        importance=importance,
        clip=clip,
        patience=patience,
        prior=prior,
    )
    chunk = whole_groups(chunk or chunk_by_trying(trunk, height_width, len(wanted.numbers)), ascent.group)

    kept: list[Pictures] = []
    position = 0
    while position < len(wanted.numbers):
        numbers = wanted.numbers[position : position + chunk]
        try:
            kept.append(_best_of(ascent, numbers, wanted, attempts, starts, seed, chunk, position, watch, progress))
        except RuntimeError as error:
            if not out_of_memory(error) or isinstance(maker, Borrowed):
                raise
            chunk = _halved(chunk, ascent.group, error)
            continue
        position += len(numbers)
    return _joined(kept) if kept else _none((trunk.preprocess.channels, *height_width))


def _ours(objective: Objective | Any, model: Model, batch: int) -> Objective:
    """The objective itself, that of the unit a word names, or what lucent's says."""
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective, str):
        units = parse_units(objective, model)
        return of_units(units, Trunk(model, [units[0].layer]))
    if is_lucent_objective(objective):
        return from_lucent_objective(objective, model, batch=batch)
    raise UserError(
        f"an objective is one of ours, one of lucent's or a unit's address; got {type(objective).__name__}. "
        "objectives.on(layer, function) makes one of any function of a layer's maps."
    )


@dataclass(frozen=True)
class _Wanted:
    """Which pictures of the objective are drawn: their `numbers`, of `total`, whose draws hang on `names`."""

    total: int
    names: list[str]
    numbers: list[int]

    @classmethod
    def of(
        cls,
        objective: Objective,
        group: int,
        count: int | None,
        keys: Sequence[str] | None,
        pictures: Sequence[int] | None,
    ) -> _Wanted:
        total = objective.count or count or (len(keys) if keys is not None else group)
        names = [str(number) for number in range(total)] if keys is None else list(keys)
        numbers = list(range(total)) if pictures is None else list(pictures)
        if len(names) != total or any(not 0 <= number < total for number in numbers):
            raise UserError(
                f"{total} pictures take {total} keys and numbers below it; got {len(names)} keys, {numbers}."
            )
        whole = [start + place for start in numbers[::group] for place in range(group) if start % group == 0]
        if numbers != whole or total % group:
            raise UserError(f"the objective draws whole groups of {group} pictures; got {numbers} of {total}.")
        return cls(total, names, numbers)


def _best_of(
    ascent: Ascent,
    numbers: list[int],
    wanted: _Wanted,
    attempts: int,
    starts: int,
    seed: int,
    chunk: int,
    position: int,
    watch: Callable[[Moment], None] | None,
    progress: Progress,
) -> Pictures:
    """Each of the pictures `numbers` by its best attempt; a micro-batch that is not full repeats its last group."""
    padded = numbers + numbers[-ascent.group :] * ((chunk - len(numbers)) // ascent.group)
    each, steps = len(numbers), ascent.steps
    tries = []

    for attempt in range(attempts):
        before = position * attempts + attempt * each

        def report(step: int, scores: Tensor, canvas: Canvas, before: int = before, attempt: int = attempt) -> None:
            progress("drawing", before * steps + each * step, len(wanted.numbers) * attempts * steps)
            if watch is not None:
                now = partial(_shown, canvas, each, ascent.trunk.preprocess.channels)
                watch(Moment(step, attempt, tuple(numbers), scores[:each].cpu(), now))

        names = [wanted.names[number] for number in padded]
        generators = [generator_for(seed, name, attempt) for name in names]
        others = [[generator_for(seed, f"{name} start {n}", attempt) for name in names] for n in range(2, starts + 1)]
        drawn = ascent.draw(padded, generators, report, others=others)
        images = drawn.images if drawn.alpha is None else over_grey(drawn.images, drawn.alpha)
        robust, clean = (
            measure(ascent.trunk, ascent.objective, images, padded, count=each) for measure in (robust_score, score)
        )
        which = torch.full((len(padded),), attempt)
        whole = Pictures(drawn.images, robust, clean, which, drawn.rescued, drawn.alpha, drawn.importance)
        tries.append(_map(whole, lambda value: value[:each]))
    return _best(tries, ascent.group)


def _best(tries: list[Pictures], group: int) -> Pictures:
    """Each picture by its best attempt; pictures of a group, which belong together, by their best attempt together."""
    scores = torch.stack([attempt.scores for attempt in tries]).nan_to_num(nan=-torch.inf)
    together = scores.reshape(len(tries), -1, group).sum(2)
    chosen = together.argmax(0).repeat_interleave(group)
    each = torch.arange(len(chosen))
    return Pictures(**{name: _stacked(tries, name, (chosen, each)) for name in vars(tries[0])})


def _map(pictures: Pictures, function: Callable[[Tensor], Tensor]) -> Pictures:
    """The same function of every field that is there."""
    fields: dict[str, Any] = {
        name: None if value is None else function(value) for name, value in vars(pictures).items()
    }
    return Pictures(**fields)


def _shown(canvas: Canvas, count: int, channels: int) -> Tensor:
    return to_bytes(canvas)[:count, :channels]


def _joined(parts: list[Pictures]) -> Pictures:
    fields: dict[str, Any] = {
        name: None if value is None else torch.cat([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
    }
    return Pictures(**fields)


def _stacked(tries: list[Pictures], name: str, chosen: tuple[Tensor, Tensor]) -> Any:
    parts = [getattr(attempt, name) for attempt in tries]
    return None if parts[0] is None else torch.stack(parts)[chosen]


def _none(shape: tuple[int, int, int]) -> Pictures:
    nothing = torch.empty(0, dtype=torch.long)
    return Pictures(torch.empty(0, *shape, dtype=torch.uint8), torch.empty(0), torch.empty(0), nothing, nothing)


def _started(start: Tensor | None, total: int, shape: tuple[int, int, int]) -> Tensor | None:
    """The images to begin at, one per picture of the objective."""
    if start is None:
        return None
    start = start[None] if start.dim() == 3 else start
    if tuple(start.shape[1:]) != shape or len(start) not in (1, total):
        raise UserError(
            f"the start takes images of shape {shape}, one for all or one for each of the {total} pictures; "
            f"got {tuple(start.shape)}."
        )
    if not start.is_floating_point() or start.min() < 0 or start.max() > 1:
        raise UserError(f"the start takes images in [0, 1]; got {start.dtype} from {start.min()} to {start.max()}.")
    return start.expand(total, -1, -1, -1)


def _halved(chunk: int, group: int, error: RuntimeError) -> int:
    if chunk <= group:
        raise UserError(f"the device has no memory for {chunk} picture(s) at once: take a smaller size.") from error
    smaller = whole_groups(chunk // 2, group)
    warnings.warn(
        f"out of memory: drawing {smaller} pictures at once instead of {chunk}.", RuntimeWarning, stacklevel=4
    )
    return smaller


def _check_borrowed(clip: float | None, patience: int | None, alpha: bool, starts: int) -> None:
    if clip is not None or patience is not None or alpha or starts > 1:
        raise UserError(
            "clip, patience, alpha and starts work picture by picture, which the parameters of lucent's canvas do "
            "not tell."
        )


def _check(
    size: tuple[int, int],
    steps: int,
    lr: float | None,
    attempts: int,
    starts: int,
    clip: float | None,
    patience: int | None,
) -> None:
    if min(size) < 8:
        raise UserError(f"a picture takes at least 8 x 8 pixels; got {size[0]} x {size[1]}.")
    if steps < 1 or attempts < 1 or starts < 1:
        raise UserError(f"steps, attempts and starts start at 1; got {steps}, {attempts} and {starts}.")
    if lr is not None and not 0 < lr < 10:
        raise UserError(f"the learning rate lies between 0 and 10; got {lr}.")
    if (clip is not None and not clip > 0) or (patience is not None and patience < 1):
        raise UserError(f"clip is above 0 and patience at least 1; got {clip} and {patience}.")
