"""What an atlas depends on besides the weights and the images."""

from __future__ import annotations

from dataclasses import dataclass

from featviz.errors import UserError

TILES = ("icons", "photos", "both")


@dataclass(frozen=True)
class Settings:
    """The settings of an atlas.

    `layer`; `grid`: cells per side, of one level or several; `icon`: pixels per side; `steps`, `attempts`, `lr`,
    `power`, `ridge`: how icons are drawn (`draw_icons`, `whitener`); `samples`: how many vectors, `per_image` from each
    view; `min_count`: cells with fewer stay empty; `reducer`: a name; `effects`: whether effects on the classes are
    worked out, with `relax_pools` by a smooth derivative of max pooling; `tiles`: what a cell shows: its icon, the
    part of a photograph nearest to its mean, or both; `cards`: whether the channels that cells name are drawn.
    """

    layer: str
    grid: tuple[int, ...] = (10, 20)
    icon: int = 80
    steps: int = 128
    samples: int = 8000
    per_image: int = 8
    min_count: int = 5
    reducer: str = "umap"
    attempts: int = 1
    lr: float = 0.15
    power: float = 4.0
    ridge: float = 0.05
    effects: bool = True
    relax_pools: bool = False
    tiles: str = "icons"
    cards: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.grid or min(self.grid) < 1 or max(self.grid) > 1000:
            raise UserError(f"--grid takes sizes from 1 to 1000, such as 20 or 20,40; got {list(self.grid)}.")
        for name, lowest in (("icon", 16), ("steps", 1), ("samples", 1), ("per_image", 1), ("attempts", 1)):
            if getattr(self, name) < lowest:
                option = name.replace("_", "-")
                raise UserError(f"--{option} starts at {lowest}; got {getattr(self, name)}.")
        if self.tiles not in TILES:
            raise UserError(f"--tiles takes {', '.join(TILES)}; got {self.tiles!r}.")
        object.__setattr__(self, "grid", tuple(dict.fromkeys(self.grid)))
