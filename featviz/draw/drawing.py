"""How superstimuli are drawn: the settings, and what follows from them for a unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from ..errors import UserError, unknown
from ..network.models import Model
from ..network.trunk import Precision
from ..network.units import Unit
from .canvas import CANVASES, DECAY, CanvasMaker, Fourier, canvas_maker
from .spectrum import Spectrum
from .transforms import NOISE, Chain, views

Like = Literal["", "photographs"]
Transparency = Literal["none", "learned", "importance"]
# Of a class one start in three may be caught where the class is not; of three starts hardly all.
CLASS_STARTS = 3
# The longest side of a channel's picture, in pixels.
CHANNEL_SIDE = 224
# How much it counts that a picture's channels lie where the network met them in training (`familiarity`).
FAMILIARITY = 3.0
# And, where that is wanted, that the picture's layers see what they see in photographs (`likeness`).
LIKENESS = 2.0
# `start` where every picture begins at what excites its unit the most.
EXEMPLAR = "exemplar"


@dataclass(frozen=True)
class Drawing:
    """How superstimuli are drawn.

    `size` 0: the network's own input size, of channels at most 224 pixels; `lr` 0: the canvas's own; `diversity`: so
    many pictures per unit, unlike each other; `transparency`: `learned`, an opacity is drawn with the picture, or
    `importance`, what moved the unit is opaque; `start`: an image file to begin at, or `exemplar`, the part of an image
    that excites the unit the most; `like`: `photographs`, drawn like those that excite it the most (both take a data
    set); `precision` and `compiled`: see `Trunk`. The other fields are `maximize`'s.
    """

    canvas: str = "fourier"
    size: int = 0
    steps: int = 340
    lr: float = 0.0
    attempts: int = 1
    diversity: int = 1
    transparency: Transparency = "none"
    start: str = ""
    like: Like = ""
    precision: Precision = "float32"
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        # Written so that NaN is refused, too.
        if self.size != 0 and not 16 <= self.size <= 4096:
            raise UserError(f"--size starts at 16 and ends at 4096, or is 0 for the default; got {self.size}.")
        if not 1 <= self.steps <= 10**6 or not 1 <= self.attempts <= 1000:
            raise UserError(
                f"--steps and --attempts start at 1 and end at 1000000 and 1000; got {self.steps} and {self.attempts}."
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed starts at 0 and is smaller than 2^63; got {self.seed}.")
        if not 0 <= self.lr < 10:
            raise UserError(f"--lr lies between 0 (the canvas's own) and 10; got {self.lr}.")
        if self.canvas not in CANVASES:
            raise unknown("canvas", self.canvas, list(CANVASES))
        if self.canvas == "cppn" and self.start:
            raise UserError("the canvas cppn cannot begin at an image; fourier, pixel and maco can.")
        if not 1 <= self.diversity <= 16:
            raise UserError(f"--diversity lies between 1 and 16; got {self.diversity}.")
        if self.transparency not in get_args(Transparency):
            raise unknown("transparency", self.transparency, list(get_args(Transparency)))
        if self.like not in get_args(Like):
            raise unknown("thing to be like", self.like, list(get_args(Like))[1:])
        if self.precision not in get_args(Precision):
            raise unknown("precision", self.precision, list(get_args(Precision)))

    def pixels(self, unit: Unit, model: Model) -> tuple[int, int]:
        """(height, width) of the unit's picture."""
        if self.size:
            return (self.size, self.size)
        height, width = model.preprocess.size
        # At their natural size people understand channels best; larger ones repeat themselves.
        largest = max(height, width) if unit.position is not None or unit.is_class else CHANNEL_SIDE
        share = min(1.0, largest / max(height, width))
        return round(height * share), round(width * share)

    def transform(self, unit: Unit, model: Model, noise: float = NOISE) -> Chain:
        """What the unit's picture must survive; a neuron's has to keep its place in the map, others move."""
        side = min(self.pixels(unit, model))
        if unit.position is not None:
            return views(side, scale=(0.8, 1.25), shift=1 / 16, share=1, noise=noise)
        return views(side, noise=noise)

    def starts(self, unit: Unit) -> int:
        """How many starts the unit's picture has: of a class, some starts are caught where the class is not."""
        return CLASS_STARTS if unit.is_class and not self.start else 1

    def maker(self, spectrum: Spectrum | None = None) -> CanvasMaker:
        """The canvas that `canvas` names; `maco` takes a spectrum."""
        if self.canvas == "fourier":
            return partial(Fourier, decay=DECAY)
        return canvas_maker(self.canvas, spectrum)
