"""Can a machine tell from two pictures which photographs excite a unit? The mechanistic interpretability score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.layers import OUTPUT
from ..network.models import Model, load_model
from ..network.trunk import Trunk

# How steeply the score rises with the difference of the cosines.
TEMPERATURE = 0.16


@dataclass(frozen=True)
class Queries:
    """Photographs as the similarity sees them, (tasks, features): `high` excite the unit the most, `low` the least."""

    high: Tensor
    low: Tensor


def mechanistic_interpretability(queries: Queries, high: Tensor, low: Tensor) -> tuple[float, float]:
    """(score, accuracy) in [0, 1], 0.5 by chance, of matching photographs to a unit's pictures.

    high, low: (pictures, features) of the pictures that excite the unit and of those that excite its opposite. With
    s(q, E) the mean cosine: delta = (s(q+, E+) - s(q+, E-)) - (s(q-, E+) - s(q-, E-)) for each task; the score is the
    mean of sigmoid(delta / 0.16), the accuracy the share of tasks with delta above 0. Zimmermann et al. 2024,
    "Measuring Mechanistic Interpretability at Scale Without Humans"; theirs measures with DreamSim, so the two scores'
    scales differ and only units measured with the same features compare.
    """
    delta = _closer(queries.high, high, low) - _closer(queries.low, high, low)
    return float(torch.sigmoid(delta / TEMPERATURE).mean()), float((delta > 0).float().mean())


def _closer(photographs: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """How much nearer each photograph is to the pictures of the unit than to those of its opposite."""
    photographs, high, low = (F.normalize(features.float(), dim=1) for features in (photographs, high, low))
    return (photographs @ high.T).mean(1) - (photographs @ low.T).mean(1)


def feature_extractor(name: str, *, device: str = "auto") -> Model:
    """A network by name whose output is its features: without the classifier, where the network can drop it (timm)."""
    model = load_model(name, device=device)
    drop = getattr(model.network, "reset_classifier", None)
    if callable(drop):
        drop(0)
    return model


def features(extractor: Trunk, images: Tensor) -> Tensor:
    """(n, features) on the CPU of images (n, channels, h, w) in [0, 1]; `extractor` reads the layer `output`."""
    how = extractor.preprocess
    with torch.inference_mode():
        resized = F.interpolate(images.to(extractor.device), how.size, mode="bilinear", antialias=True)
        if resized.shape[1] != how.channels:
            resized = resized.mean(1, keepdim=True).expand(-1, how.channels, -1, -1)
        return extractor(resized)[OUTPUT].mean((2, 3)).cpu()
