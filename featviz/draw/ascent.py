"""The optimisation loop itself, for one micro-batch: canvas -> views -> score -> gradient -> step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..network.gradients import backward_told, check_gradient, flat_refused
from ..network.rectifiers import LeakyGradients
from ..network.trunk import Trunk
from .canvas import Canvas, CanvasMaker
from .objectives import Activations, Objective, group_of
from .rising import rising
from .robust import robust_score
from .transforms import Transform, at

# A picture that stops early has not beaten its best score by this share of it.
_PROGRESS = 1e-3
# Where a picture has several starts, so large a share of the steps shows which of them gets highest.
SCOUTING = 0.12


@dataclass(frozen=True)
class Drawn:
    """One micro-batch as the loop leaves it."""

    images: Tensor
    rescued: Tensor
    alpha: Tensor | None
    importance: Tensor | None


@dataclass(frozen=True)
class Ascent:
    """The loop itself, for one micro-batch at a time.

    `prior`: a further objective while drawing, which the scores leave out; see `maximize`, also for the rest.
    """

    trunk: Trunk
    objective: Objective
    canvas: CanvasMaker
    transform: Transform
    size: tuple[int, int]
    steps: int
    lr: float | None = None
    start: Tensor | None = None
    alpha: bool = False
    importance: bool = False
    clip: float | None = None
    patience: int | None = None
    prior: Objective | None = None

    @property
    def group(self) -> int:
        """So many consecutive pictures are drawn together."""
        return group_of(self.objective, self.prior)

    def draw(
        self,
        numbers: list[int],
        generators: list[torch.Generator],
        report: Callable[[int, Tensor, Canvas], None],
        *,
        others: Sequence[list[torch.Generator]] = (),
    ) -> Drawn:
        """The pictures `numbers`, one generator each; after each step `report(step, scores, canvas)`.

        others: generators of further starts, of which each picture goes on with the one that gets highest.
        """
        run = _Run(self, numbers, generators)
        if others:
            self._choose_start(run, [_Run(self, numbers, each) for each in others], report)
        while run.step < self.steps and not run.rest.all:
            scores = run.advance()
            report(run.step, scores, run.canvas)
        return self._developed(run.canvas, run.rescued, run.weight)

    def _choose_start(self, run: _Run, others: list[_Run], report: Callable[[int, Tensor, Canvas], None]) -> None:
        """Draw all starts for a while, and have each picture of `run` go on with its best.

        What a start gets to is what its last steps score, a third of them: one step's random views say little.
        """
        steps = max(1, round(SCOUTING * self.steps))
        for each in others:
            each.scout(steps, lambda step, scores, canvas: None)
        run.scout(steps, report)
        for each in others:
            better = _by_group(each.reached, self.group) > _by_group(run.reached, self.group)
            run.take(each, better.repeat_interleave(self.group))

    def _gradients(
        self, images: Tensor, views: Tensor, index: Tensor, grey: Tensor
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None], Tensor]:
        """Scores (n,), the ascent's gradients at the images and at the views, and which pictures had to be rescued.

        grey: (n,) what `of_grey` says.
        """
        scores, at_images, at_views, fallen = self._pass(images, views, index, grey)
        if at_views is None:
            return scores, (at_images, None), torch.zeros(len(images), dtype=torch.bool, device=images.device)
        shut = at_views.flatten(1).abs().amax(1) == 0
        if shut.any():
            with LeakyGradients():
                _, _, leaky, _ = self._pass(images, views, index, grey)
            if leaky is not None:
                at_views = torch.where(shut[:, None, None, None], leaky, at_views)
        return scores, (at_images, at_views), shut | fallen

    def _pass(
        self, images: Tensor, views: Tensor, index: Tensor, grey: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Scores (n,), the gradients at images and views, and (n,) where the unit's own function only fell."""
        shown, seen = (tensor.detach().requires_grad_() for tensor in (images, views))
        pictures = shown[:, :-1] if self.alpha else shown
        maps = self.trunk(seen)
        check_gradient(maps, self.trunk.name)
        acts = Activations(maps, pictures, index)
        climbed = [rising(acts.maps[layer]) for layer in self.objective.layers]
        scores = self.objective(acts)
        wish = scores
        if self.prior is not None:
            # In the size of what is gained, so that one weight suits every unit, and logits that all lie below 0.
            wish = wish + (scores.detach() - grey).abs() * self.prior(acts)
        if self.alpha:
            # A share of the gain goes with the opaque area, so that opacity stays where it earns its keep.
            wish = wish - (scores.detach() - grey).clamp(min=0) * shown[:, -1].mean((1, 2))
        if wish.requires_grad:
            with backward_told(self.trunk.name):
                (-wish.sum()).backward()  # type: ignore[no-untyped-call]
        fallen = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for each in climbed:
            if each is not None and each.shut is not None:
                fallen = fallen | each.shut
        return scores.detach(), shown.grad, seen.grad, fallen

    def of_grey(self, index: Tensor) -> Tensor:
        """The scores (n,) of mid-grey in place of the pictures; 0 where nothing is weighed against what is gained."""
        if self.prior is None and not self.alpha:
            return torch.zeros(len(index), device=index.device)
        grey = torch.full((1, self.trunk.preprocess.channels, *self.size), 0.5, device=self.trunk.device)
        grey = grey.expand(len(index), -1, -1, -1)
        with torch.no_grad():
            return self.objective(Activations(self.trunk(grey), grey, index))

    def _robust(self, canvas: Canvas, index: Tensor) -> Tensor:
        """The robust scores (n,) of the pictures as they are now."""
        images = to_bytes(canvas)
        pictures = over_grey(images[:, :-1], images[:, -1]) if self.alpha else images
        return robust_score(self.trunk, self.objective, pictures, index.tolist(), chunk=len(images)).to(index.device)

    def _developed(self, canvas: Canvas, rescued: Tensor, weight: Tensor) -> Drawn:
        images = to_bytes(canvas)
        opacity = images[:, -1] if self.alpha else None
        largest = weight.amax((1, 2), keepdim=True).clamp(min=1e-20)
        return Drawn(
            images[:, :-1] if self.alpha else images,
            rescued.cpu(),
            opacity,
            (weight / largest).cpu() if self.importance else None,
        )


class _Run:
    """A drawing under way: the canvas, what moves it, and how far it is."""

    def __init__(self, how: Ascent, numbers: list[int], generators: list[torch.Generator]) -> None:
        device = how.trunk.device
        self.how, self.generators, self.step = how, list(generators), 0
        self.canvas = how.canvas(generators, how.trunk.preprocess.channels, how.size, device)
        if how.start is not None:
            self.canvas.begin_at(how.start[numbers].to(device))
        self.index = torch.tensor(numbers, device=device)
        self.grey = how.of_grey(self.index)
        self.peak = self.canvas.lr if how.lr is None else how.lr
        self.optimizer = torch.optim.Adam(self.canvas.parameters, lr=self.peak, fused=True)
        self.rescued = torch.zeros(len(numbers), dtype=torch.long, device=device)
        self.weight = torch.zeros(len(numbers), *how.size, device=device)
        self.rest = _Rest(len(numbers), how.patience, device)
        self.reached = torch.zeros(len(numbers), device=device)

    def advance(self) -> Tensor:
        """One step of the loop; the scores (n,) of its views."""
        how, progress = self.how, (self.step + 0.5) / self.how.steps
        self.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * one_cycle(progress)
        images = self.canvas.images()
        if how.importance:
            images.retain_grad()
        shown = over_noise(images, self.generators) if how.alpha else images
        views = at(how.transform, progress)(shown, self.generators)
        scores, gradients, shut = how._gradients(images, views, self.index, self.grey)
        if self.step == 1 and gradients[1] is not None and not gradients[1].any():
            with flat_refused(how.trunk.name):
                how.trunk(views.detach().requires_grad_())
        self.optimizer.zero_grad()
        _backward((images, views), gradients)
        drop_broken(self.canvas.parameters)
        if how.clip is not None:
            clip_each(self.canvas.parameters, how.clip)
        drawing = ~self.rest.resting
        self.rest.step(self.optimizer, self.canvas.parameters)
        if self.rest.due(self.step):
            self.rest.compare(how._robust(self.canvas, self.index))
        self.rescued += shut & drawing
        if how.importance and images.grad is not None:
            self.weight += images.grad.abs().mean(1).nan_to_num(0, 0, 0) * drawing[:, None, None]
        return scores

    def scout(self, steps: int, report: Callable[[int, Tensor, Canvas], None]) -> None:
        """So many first steps; `reached` is the mean score over the last third of them."""
        counted = max(1, steps // 3)
        for number in range(steps):
            scores = self.advance()
            if number >= steps - counted:
                self.reached += scores.nan_to_num(nan=-torch.inf) / counted
            report(self.step, scores, self.canvas)

    def take(self, other: _Run, which: Tensor) -> None:
        """Go on where `other` is with the pictures of `which` (n,)."""
        with torch.no_grad():
            for mine, theirs in zip(self.canvas.parameters, other.canvas.parameters, strict=True):
                mine[which] = theirs[which]
                for key in ("exp_avg", "exp_avg_sq"):
                    self.optimizer.state[mine][key][which] = other.optimizer.state[theirs][key][which]
        for name in ("rescued", "weight", "reached"):
            getattr(self, name)[which] = getattr(other, name)[which]
        for name in ("best", "idle"):
            getattr(self.rest, name)[which] = getattr(other.rest, name)[which]
        for number in which.nonzero().flatten().tolist():
            self.generators[number] = other.generators[number]


class _Rest:
    """Which pictures have stopped: their parameters stay as they are, whatever the optimiser does."""

    def __init__(self, count: int, patience: int | None, device: torch.device) -> None:
        self.patience = patience
        self.best = torch.full((count,), -torch.inf, device=device)
        self.idle = torch.zeros(count, dtype=torch.long, device=device)

    @property
    def resting(self) -> Tensor:
        """(n,) which have stopped."""
        return torch.zeros_like(self.idle, dtype=torch.bool) if self.patience is None else self.idle >= self.patience

    @property
    def all(self) -> bool:
        return self.patience is not None and bool(self.resting.all())

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        if self.patience is None:
            optimizer.step()
            return
        resting = self.resting
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer.step()
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter[resting] = old[resting]
        self.idle = self.idle + 1

    def due(self, step: int) -> bool:
        """Whether scores are compared after this step: four times within the patience."""
        return self.patience is not None and step % max(1, self.patience // 4) == 0

    def compare(self, scores: Tensor) -> None:
        """A picture that does not rest and has a better score than ever is not idle."""
        better = (scores > self.best + _PROGRESS * self.best.abs().nan_to_num(posinf=0)) & ~self.resting
        self.best = torch.where(better, scores, self.best)
        self.idle = torch.where(better, 0, self.idle)


def _by_group(scores: Tensor, group: int) -> Tensor:
    return scores.view(-1, group).sum(1)


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate at `progress` in [0, 1]: up in the first tenth, then down to 0 along a cosine."""
    warm_up = 0.1
    if progress < warm_up:
        return progress / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up))


def drop_broken(parameters: Sequence[Tensor]) -> None:
    """Set a picture's gradient to 0 where it is not finite: one such step would spoil Adam's memory for good."""
    for parameter in parameters:
        if parameter.grad is None or parameter.grad.dim() == 0:
            continue
        sound = parameter.grad.flatten(1).sum(1).isfinite() if parameter.grad.dim() > 1 else parameter.grad.isfinite()
        if not bool(sound.all()):
            parameter.grad[~sound] = 0


def clip_each(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale each picture's gradient, over all parameters, down to a norm of `limit` where it is larger."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (limit / norms.clamp(min=1e-20)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


def over_noise(images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Images with an opacity as their last channel, laid over a new random background for each.

    A background that changes at every step is no help to the objective, so what matters has to be opaque.
    """
    colors, opacity = images[:, :-1], images[:, -1:]
    coarse = torch.stack([torch.rand((colors.shape[1], 8, 8), generator=generator) for generator in generators])
    background = torch.nn.functional.interpolate(coarse.to(colors), colors.shape[-2:], mode="bilinear")
    return colors * opacity + background * (1 - opacity)


def to_bytes(canvas: Canvas) -> Tensor:
    """The canvas's images as a PNG holds them: uint8 (n, channels, h, w) on the CPU."""
    with torch.no_grad():
        return (canvas.images() * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def over_grey(images: Tensor, alpha: Tensor) -> Tensor:
    """8-bit images (n, channels, h, w) over the grey in the middle, by their opacity (n, h, w): what a reader sees."""
    share = alpha[:, None].float() / 255
    return (images.float() * share + 128 * (1 - share)).round().to(torch.uint8)


def _backward(tensors: tuple[Tensor, Tensor], gradients: tuple[Tensor | None, Tensor | None]) -> None:
    pairs = [(tensor, gradient) for tensor, gradient in zip(tensors, gradients, strict=True) if gradient is not None]
    if pairs:
        torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
