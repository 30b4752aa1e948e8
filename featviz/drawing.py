"""How superstimuli are drawn: the settings, and what follows from them for a unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from .canvas import CANVASES, DECAY, CanvasMaker, Fourier, canvas_maker
from .errors import UserError, unknown
from .maximize import DEFAULT_TRANSFORM
from .models import Model
from .spectrum import Spectrum
from .transforms import Affine
from .trunk import Precision
from .units import Unit

Transparency = Literal["none", "learned", "importance"]
# The exponent of 1 / f for classes: with DECAY their objects drown in large blotches.
CLASS_DECAY = 1.3


@dataclass(frozen=True)
class Drawing:
    """How superstimuli are drawn.

    `size` 0: the network's own input size for classes and neurons, 128 for channels; `lr` 0: the canvas's own;
    `diversity`: so many pictures per unit, unlike each other; `transparency`: `learned`, an opacity is drawn with the
    picture, or `importance`, what moved the unit is opaque; `start`: an image file to begin at; `precision` and
    `compiled`: see `Trunk`. The other fields are `maximize`'s.
    """

    canvas: str = "fourier"
    size: int = 0
    steps: int = 256
    lr: float = 0.0
    attempts: int = 1
    diversity: int = 1
    transparency: Transparency = "none"
    start: str = ""
    settle: float = 0.0
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
        if self.precision not in get_args(Precision):
            raise unknown("precision", self.precision, list(get_args(Precision)))
        if not 0 <= self.settle <= 1:
            raise UserError(f"--settle is a share of the steps, from 0 to 1; got {self.settle}.")

    def pixels(self, unit: Unit, model: Model) -> tuple[int, int]:
        """(height, width) of the unit's picture."""
        if self.size:
            return (self.size, self.size)
        return model.preprocess.size if unit.position is not None or unit.is_class else (128, 128)

    def transform(self, unit: Unit, model: Model) -> Affine:
        """What the unit's picture must survive.

        A class is one thing of any size anywhere, so it is looked at from near and far; a channel repeats itself.
        """
        if not unit.is_class:
            return DEFAULT_TRANSFORM
        return Affine(shift=min(self.pixels(unit, model)) / 5, scale=(0.6, 1.4), degrees=15)

    def maker(self, unit: Unit, spectrum: Spectrum | None = None) -> CanvasMaker:
        """The canvas that `canvas` names; `maco` takes a spectrum."""
        if self.canvas == "fourier":
            return partial(Fourier, decay=CLASS_DECAY if unit.is_class else DECAY)
        return canvas_maker(self.canvas, spectrum)
