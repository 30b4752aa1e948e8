"""The unit card: on one page, what one unit responds to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featviz.draw.certificate import Certificate, Reference
from featviz.draw.superstimuli import class_label
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.units import Unit

from ..exemplars.exemplars import Exemplars
from ..exemplars.focus import near_misses
from ..exemplars.layer_exemplars import Exemplar
from ..exemplars.report import finite
from ..images.image_set import readable
from .selectivity import Selectivity, class_selectivity
from .stimuli import FAMILIES, Tuning, orientation_selectivity, tuning
from .sufficiency import Sufficiency, crop_sufficiency


@dataclass(frozen=True)
class UnitCard:
    """What is known of one unit.

    `key`: the name of its readout; `certificates`: of its superstimuli, then of its opposite's; `exemplars`: of its
    readout; `values`, `labels`: (images,) its own activation on each image and the image's class; `selectivity`: None
    where the images have no classes worth the name; `tunings`: by family of stimuli; `similar`: (channel, correlation)
    of channels that go with it; `sufficiency`: for each exemplar, what its crop keeps of the activation; `missed`:
    images that excite the layer's other units as its exemplars do, and leave it cold.
    """

    unit: Unit
    key: str
    name: str
    certificates: tuple[Certificate, ...]
    exemplars: Exemplars
    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    selectivity: Selectivity | None
    tunings: tuple[Tuning, ...]
    similar: tuple[tuple[int, float], ...]
    sufficiency: tuple[Sufficiency, ...]
    missed: tuple[Exemplar, ...]

    @property
    def unmoved(self) -> str:
        """What to say of a unit that no image moves: whatever stands first among them is no exemplar; else ''."""
        if len(self.values) < 2 or self.values.min() < self.values.max():
            return ""
        return f"{self.values[0]:.3g} on all {len(self.values)} images: none of them moves it"


def unit_card(
    model: Model,
    unit: Unit,
    certificates: Sequence[Certificate],
    exemplars: Exemplars,
    reference: Reference,
    *,
    seed: int = 0,
) -> UnitCard:
    """Put a unit's card together; the tuning curves are measured here.

    exemplars: of the unit's readout alone; reference: what the data set says about the unit.
    """
    if not len(reference.values):
        raise UserError(f"{unit} has no finite activation on any of the images: there is nothing to show.")
    key, found = next(iter(exemplars.layers.items()))
    every = np.array(exemplars.images.labels, dtype=np.int64)
    labels = every if reference.images is None else every[reference.images]
    extent = float(min(max(found.extent), min(model.preprocess.size)))
    middle = found.fields.middle(found.grid[0] // 2, found.grid[1] // 2)
    families = [family(model.preprocess.size, extent, middle=middle) for family in FAMILIES.values()]
    tunings = [
        tuning(model, found.readout, stimuli, sign=unit.sign, trunk=exemplars.trunk(key)) for stimuli in families
    ]
    return UnitCard(
        unit,
        key,
        _name(model, unit, exemplars, key),
        tuple(certificates),
        exemplars,
        reference.values,
        labels,
        class_selectivity(reference.values, labels, seed=seed),
        tuple(tunings),
        tuple(found.correlations.similar(unit.channel)),
        tuple(crop_sufficiency(exemplars, key, unit.channel)),
        tuple(near_misses(exemplars, key, unit.channel)),
    )


def _name(model: Model, unit: Unit, exemplars: Exemplars, key: str) -> str:
    """The unit's address, and what it is called where a name holds for the channel."""
    address = f"{unit} {class_label(unit, model)}".strip()
    found = exemplars.called.get((key, unit.channel)) if unit.sign > 0 and unit.position is None else None
    return address if found is None or found.name is None or unit.is_class else f"{address}, {found.name.told}"


def as_json(card: UnitCard) -> dict[str, object]:
    """The card's figures, without pictures."""
    return {
        "unit": str(card.unit),
        "name": card.name,
        "images": len(card.values),
        "median": float(np.median(card.values)),
        "unmoved": card.unmoved or None,
        "selectivity": None if card.selectivity is None else vars(card.selectivity),
        "sufficiency": [
            {name: None if value is None else finite(value) for name, value in vars(entry).items()}
            for entry in card.sufficiency
        ],
        "near_misses": [
            {"image": entry.image, "path": readable(entry.name), "value": finite(entry.value)} for entry in card.missed
        ],
        "similar": [{"channel": channel, "correlation": value} for channel, value in card.similar],
        "tuning": {found.name: _tuning_json(found, card.unit) for found in card.tunings},
    }


def _tuning_json(found: Tuning, unit: Unit) -> dict[str, object]:
    curve = [finite(value) for value in found.responses[:, unit.channel].tolist()]
    known: dict[str, object] = {found.along: found.values.tolist(), "responses": curve}
    if found.along == "orientation":
        preferred, strength = orientation_selectivity(found, period=180 if found.name == "bars" else 360)
        known |= {
            "preferred": finite(float(preferred[unit.channel])),
            "selectivity": finite(float(strength[unit.channel])),
        }
    return known
