"""search: one pass over a data set that finds what a network's units respond to."""

from .datasets import from_dataset, from_huggingface, from_shards, from_stream
from .exemplars import Exemplars, exemplars
from .images import Images, open_images
from .index import load_exemplars
from .layer_exemplars import Exemplar
from .loading import Skipped
from .matrix import Matrix, open_matrix
from .readout import Readout
from .record import Record
from .reference import natural_spectrum, references
from .scan import Batch, Consumer, Scanned, scan

__all__ = [
    "Batch",
    "Consumer",
    "Exemplar",
    "Exemplars",
    "Images",
    "Matrix",
    "Readout",
    "Record",
    "Scanned",
    "Skipped",
    "exemplars",
    "from_dataset",
    "from_huggingface",
    "from_shards",
    "from_stream",
    "load_exemplars",
    "natural_spectrum",
    "open_images",
    "open_matrix",
    "references",
    "scan",
]
