"""The optimisation loop itself, for one micro-batch: canvas -> views -> score -> gradient -> step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas, CanvasMaker
from .objectives import Activations, Objective
from .rectifiers import LeakyGradients
from .transforms import Transform
from .trunk import Trunk

# A picture that stops early has not beaten its best score by this share of it.
_PROGRESS = 1e-3


@dataclass(frozen=True)
class Drawn:
    """One micro-batch as the loop leaves it."""

    images: Tensor
    rescued: Tensor
    alpha: Tensor | None
    importance: Tensor | None


@dataclass(frozen=True)
class Ascent:
    """The loop itself, for one micro-batch at a time."""

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
    settle: float = 0.0
    clip: float | None = None
    patience: int | None = None

    def draw(
        self, numbers: list[int], generators: list[torch.Generator], report: Callable[[int, Tensor, Canvas], None]
    ) -> Drawn:
        """The pictures `numbers`, one generator each; after each step `report(step, scores, canvas)`."""
        device = self.trunk.device
        canvas = self.canvas(generators, self.trunk.preprocess.channels, self.size, device)
        if self.start is not None:
            canvas.begin_at(self.start[numbers].to(device))
        index = torch.tensor(numbers, device=device)
        peak = canvas.lr if self.lr is None else self.lr
        optimizer = torch.optim.Adam(canvas.parameters, lr=peak, fused=True)
        rescued = torch.zeros(len(numbers), dtype=torch.long, device=device)
        weight = torch.zeros(len(numbers), *self.size, device=device)
        rest = _Rest(len(numbers), self.patience, device)
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = peak * one_cycle((step + 0.5) / self.steps)
            images = canvas.images()
            if self.importance:
                images.retain_grad()
            shown = over_noise(images, generators) if self.alpha else images
            views = self.transform(shown, generators) if step < (1 - self.settle) * self.steps else shown
            scores, gradients, shut = self._gradients(images, views, index)
            optimizer.zero_grad()
            _backward((images, views), gradients)
            drop_broken(canvas.parameters)
            if self.clip is not None:
                clip_each(canvas.parameters, self.clip)
            drawing = ~rest.resting
            rest.step(optimizer, canvas.parameters, scores)
            rescued += shut & drawing
            if self.importance and images.grad is not None:
                weight += images.grad.abs().mean(1).nan_to_num(0, 0, 0) * drawing[:, None, None]
            report(step + 1, scores, canvas)
            if rest.all:
                break
        return self._developed(canvas, rescued, weight)

    def _gradients(
        self, images: Tensor, views: Tensor, index: Tensor
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None], Tensor]:
        """Scores (n,), the ascent's gradients at the images and at the views, and which pictures had to be rescued."""
        scores, at_images, at_views = self._pass(images, views, index)
        if at_views is None:
            return scores, (at_images, None), torch.zeros(len(images), dtype=torch.bool, device=images.device)
        shut = at_views.flatten(1).abs().amax(1) == 0
        if shut.any():
            with LeakyGradients():
                _, _, leaky = self._pass(images, views, index)
            if leaky is not None:
                at_views = torch.where(shut[:, None, None, None], leaky, at_views)
        return scores, (at_images, at_views), shut

    def _pass(self, images: Tensor, views: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        shown, seen = (tensor.detach().requires_grad_() for tensor in (images, views))
        pictures = shown[:, :-1] if self.alpha else shown
        scores = self.objective(Activations(self.trunk(seen), pictures, index))
        wish = scores
        if self.alpha:
            # A share of the score goes with the opaque area, so that opacity stays where it earns its keep.
            wish = scores - scores.detach().clamp(min=0) * shown[:, -1].mean((1, 2))
        if wish.requires_grad:
            (-wish.sum()).backward()  # type: ignore[no-untyped-call]
        return scores.detach(), shown.grad, seen.grad

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

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor], scores: Tensor) -> None:
        if self.patience is None:
            optimizer.step()
            return
        resting = self.resting
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer.step()
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter[resting] = old[resting]
        better = scores > self.best + _PROGRESS * self.best.abs().nan_to_num(posinf=0)
        self.best = torch.where(better, scores, self.best)
        self.idle = torch.where(better & ~resting, 0, self.idle + 1)


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


def _backward(tensors: tuple[Tensor, Tensor], gradients: tuple[Tensor | None, Tensor | None]) -> None:
    pairs = [(tensor, gradient) for tensor, gradient in zip(tensors, gradients, strict=True) if gradient is not None]
    if pairs:
        torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
