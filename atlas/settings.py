"""What an atlas depends on besides the weights and the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from featviz.errors import UserError, unknown
from featviz.network.trunk import Precision

# What cells are labelled with: names that photographs bear out, or the classes that cells change most.
LabelledBy = Literal["names", "classes"]
TILES = ("icons", "photos", "both")
# The smallest and the largest value of each number; what is larger is a mistake, or needs more memory than there is.
_RANGES = {
    "icon": (16, 4096),
    "steps": (1, 10**6),
    "samples": (1, 10**9),
    "per_image": (1, 10**6),
    "attempts": (1, 1000),
    "min_count": (0, 10**9),
    "power": (0, 100),
    "ridge": (0, 1000),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class Settings:
    """The settings of an atlas.

    `layer`; `grid`: cells per side, of one level or several; `icon`: pixels per side; `steps`, `attempts`, `lr`,
    `power`, `ridge`: how icons are drawn (`draw_icons`, `whitener`); `samples`: how many vectors, `per_image` from each
    view; `min_count`: cells with fewer stay empty; `reducer`: a name; `effects`: whether effects on the classes are
    worked out; `tiles`: what a cell shows: its icon, the
    part of a photograph nearest to its mean, or both; `cards`: whether the channels that cells name are drawn;
    `precision` and `compiled`: see `featviz.Trunk`.
    """

    layer: str
    grid: tuple[int, ...] = (10, 20)
    icon: int = 80
    steps: int = 100
    samples: int = 8000
    per_image: int = 8
    min_count: int = 5
    reducer: str = "umap"
    attempts: int = 1
    lr: float = 0.16
    power: float = 4.0
    ridge: float = 0.05
    effects: bool = True
    tiles: str = "icons"
    cards: bool = False
    precision: Precision = "float32"
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.grid or not all(1 <= size <= 1000 for size in self.grid):
            raise UserError(f"--grid takes sizes from 1 to 1000, such as 20 or 20,40; got {list(self.grid)}.")
        for name, (lowest, highest) in _RANGES.items():
            # Written so that NaN is refused, too.
            if not lowest <= getattr(self, name) <= highest:
                option = name.replace("_", "-")
                raise UserError(f"--{option} starts at {lowest} and ends at {highest}; got {getattr(self, name)}.")
        if not 0 < self.lr < 10:
            raise UserError(f"--lr lies above 0 and below 10; got {self.lr}.")
        if self.tiles not in TILES:
            raise UserError(f"--tiles takes {', '.join(TILES)}; got {self.tiles!r}.")
        if self.precision not in get_args(Precision):
            raise unknown("precision", self.precision, list(get_args(Precision)))
        object.__setattr__(self, "grid", tuple(dict.fromkeys(self.grid)))
