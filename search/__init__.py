"""search: one pass over a data set that finds what a network's units respond to."""

from .exemplars import Exemplar, Exemplars, exemplars
from .images import Images, from_dataset, open_images
from .reference import natural_spectrum, references
from .scan import Batch, Consumer, Scanned, Skipped, scan

__all__ = [
    "Batch",
    "Consumer",
    "Exemplar",
    "Exemplars",
    "Images",
    "Scanned",
    "Skipped",
    "exemplars",
    "from_dataset",
    "natural_spectrum",
    "open_images",
    "references",
    "scan",
]
