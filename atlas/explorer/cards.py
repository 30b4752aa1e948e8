"""Cards of the channels that a map's cells name: what each responds to, as far as the map's own sample knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import resized, sheets
from .leaf import Leaf
from .thumbs import Thumbs

# Photographs on a card, bars of its histogram, the side of its superstimulus.
_PHOTOS, _BARS, _SIDE = 6, 24, 128


def channel_cards(
    name: str, leaf: Leaf, columns: list[int], thumbs: Thumbs, blocks: dict[str, str]
) -> list[dict[str, Any]]:
    """A card for each column's channel: how its values are distributed, and the photographs with the strongest.

    Superstimuli that the atlas has go into the blocks NAME/units.
    """
    vectors, drawn = leaf.atlas.sample.vectors, leaf.atlas.superstimuli
    pictured = [channel for channel in map(leaf.channel, columns) if channel in drawn]
    blocks.update(sheets([resized(drawn[channel], _SIDE) for channel in pictured], f"{name}/units", columns=10))
    cards = []
    for column in columns:
        channel, values = leaf.channel(column), vectors[:, column].astype(np.float64)
        counts, edges = np.histogram(values, bins=_BARS)
        rows = _strongest(values, leaf.atlas.sample.image)
        cards.append(
            {
                "channel": channel,
                "mean": round(float(values.mean()), 5),
                "spread": round(float(values.std()), 5),
                "low": round(float(edges[0]), 5),
                "high": round(float(edges[-1]), 5),
                "bars": counts.tolist(),
                "seen": [] if leaf.photographs is None else thumbs.of_rows(leaf.photographs, rows),
                "picture": pictured.index(channel) if channel in drawn else None,
            }
        )
    return cards


def _strongest(values: NDArray[np.float64], image: NDArray[np.int64]) -> list[int]:
    """Rows with the largest values, one of each image."""
    rows: dict[int, int] = {}
    for row in np.argsort(-values, kind="stable"):
        rows.setdefault(int(image[row]), int(row))
        if len(rows) == _PHOTOS:
            break
    return list(rows.values())
