"""Running top-k and bottom-k of many units at once: exactly what sorting everything would give, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from featviz.errors import UserError

# (rows of the batch, units) -> where in its map the value of each lies.
Position = Callable[[Tensor, Tensor], Tensor]
# What stands in an empty place: behind every image.
_NOBODY = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Ranking:
    """The best k of each unit, best first: `values` (units, k) float32, `index` and `position` (units, k) int64.

    Where fewer than k were seen, `index` and `position` are -1 and the value is NaN.
    """

    values: Tensor
    index: Tensor
    position: Tensor


class RunningTopK:
    """The k largest values of each unit, or the smallest, with the image they belong to and where in it they lie.

    Ties go to the smaller image number; NaN never ranks. Merging is associative and order-independent.
    """

    def __init__(self, k: int, *, largest: bool = True) -> None:
        if k < 1:
            raise UserError(f"k starts at 1; got {k}.")
        self.k, self.largest = k, largest
        self._values = torch.empty(0, k)
        self._index = torch.empty(0, k, dtype=torch.int64)
        self._position = torch.empty(0, k, dtype=torch.int64)

    def update(self, values: Tensor, index: Tensor, position: Position | None = None) -> None:
        """Take in the values (n, units) of n images whose numbers are `index` (n,).

        position(rows, units) gives where in its map the value of each (row of the batch, unit) lies; it is asked only
        for values that enter the ranking, which are few.
        """
        values = values.detach().float()
        values = values if self.largest else -values
        self._grow(values.shape[1], values.device)
        index = index.to(values.device)
        enters = self._beats(values, index[:, None])
        units = enters.any(0).nonzero()[:, 0]
        if not len(units):
            return
        candidates = enters[:, units].T
        new_values = torch.where(candidates, values[:, units].T, -torch.inf)
        new_index = torch.where(candidates, index[None].expand(len(units), -1), _NOBODY)
        rows = torch.arange(len(values), device=values.device).expand(len(units), -1)
        # Until the positions are known, a place holds minus the batch's row less two.
        kept = self._best(
            torch.cat([self._values[units], new_values], 1),
            torch.cat([self._index[units], new_index], 1),
            torch.cat([self._position[units], -2 - rows], 1),
        )
        self._values[units], self._index[units], places = kept
        fresh = (places <= -2) & (kept[1] != _NOBODY)
        places = torch.where(fresh, places, places.clamp(min=-1))
        if fresh.any():
            which, _ = fresh.nonzero(as_tuple=True)
            found = -1 if position is None else position(-2 - places[fresh], units[which]).to(places)
            places[fresh] = found
        self._position[units] = places

    def merge(self, other: RunningTopK) -> None:
        """Take in what another ranking of the same k and direction has seen."""
        if (other.k, other.largest) != (self.k, self.largest):
            raise UserError(f"rankings of k = {self.k} and {other.k} cannot be merged, nor largest with smallest.")
        if not len(other._values):
            return
        self._grow(len(other._values), other._values.device)
        self._values, self._index, self._position = self._best(
            torch.cat([self._values, other._values], 1),
            torch.cat([self._index, other._index], 1),
            torch.cat([self._position, other._position], 1),
        )

    def state(self) -> dict[str, Tensor]:
        """`values`, `index`, `position`, (units, k) each, on the CPU; the inside's own, not a `Ranking`."""
        return {"values": self._values.cpu(), "index": self._index.cpu(), "position": self._position.cpu()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._values, self._index, self._position = (state[key].clone() for key in ("values", "index", "position"))

    def ranking(self) -> Ranking:
        """What was found, on the CPU."""
        empty = (self._index == _NOBODY).cpu()
        values = (self._values if self.largest else -self._values).cpu().masked_fill(empty, torch.nan)
        return Ranking(values, self._index.cpu().masked_fill(empty, -1), self._position.cpu().masked_fill(empty, -1))

    def _grow(self, units: int, device: torch.device) -> None:
        if len(self._values) == 0:
            self._values = torch.full((units, self.k), -torch.inf, device=device)
            self._index = torch.full((units, self.k), _NOBODY, device=device)
            self._position = torch.full((units, self.k), -1, dtype=torch.int64, device=device)
        if len(self._values) != units:
            raise UserError(f"the ranking holds {len(self._values)} units; got values of {units}.")
        if self._values.device != device:
            self._values, self._index, self._position = (
                tensor.to(device) for tensor in (self._values, self._index, self._position)
            )

    def _beats(self, values: Tensor, index: Tensor) -> Tensor:
        """Which values (n, units) come before the last one kept of their unit; NaN comes before nothing."""
        last, last_index = self._values[:, -1], self._index[:, -1]
        return (values > last) | ((values == last) & (index < last_index))

    def _best(self, values: Tensor, index: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        by_index = index.argsort(dim=1, stable=True)
        values, index, position = (part.gather(1, by_index) for part in (values, index, position))
        by_value = values.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        return values.gather(1, by_value), index.gather(1, by_value), position.gather(1, by_value)


class PerClassTopK:
    """A `RunningTopK` for each class: its strongest k images of every unit. Memory: classes times units times k."""

    def __init__(self, k: int) -> None:
        self.k = k
        self._classes: dict[int, RunningTopK] = {}

    def update(self, values: Tensor, index: Tensor, labels: Tensor, position: Position) -> None:
        """As `RunningTopK.update`; labels (n,): the images' classes, -1 for those that are left out."""
        for label in torch.unique(labels[labels >= 0]).tolist():
            rows = (labels == label).nonzero()[:, 0].to(values.device)

            def of_part(part: Tensor, units: Tensor, rows: Tensor = rows) -> Tensor:
                return position(rows[part], units)

            ranking = self._classes.setdefault(label, RunningTopK(self.k))
            ranking.update(values[rows], index.to(values.device)[rows], of_part)

    def merge(self, other: PerClassTopK) -> None:
        """Take in what another of the same k has seen."""
        for label, ranking in other._classes.items():
            self._classes.setdefault(label, RunningTopK(self.k)).merge(ranking)

    def state(self) -> dict[str, Tensor]:
        """`labels` (classes,), and `values`, `index`, `position` (classes, units, k)."""
        labels = sorted(self._classes)
        states = [self._classes[label].state() for label in labels]
        stacked = {key: torch.stack([state[key] for state in states]) for key in (states[0] if states else ())}
        return {"labels": torch.tensor(labels, dtype=torch.int64), **stacked}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._classes = {}
        for place, label in enumerate(state["labels"].tolist()):
            self._classes[label] = RunningTopK(self.k)
            self._classes[label].load({key: value[place] for key, value in state.items() if key != "labels"})

    def rankings(self) -> dict[int, Ranking]:
        """Class -> what was found, on the CPU."""
        return {label: self._classes[label].ranking() for label in sorted(self._classes)}
