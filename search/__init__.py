"""search: one pass over a data set that finds what a network's units respond to."""

from .check import Check, check
from .datasets import from_huggingface, from_shards, from_stream
from .exemplars import Exemplars, exemplars
from .hierarchy import Hierarchy
from .images import Images, open_images
from .index import load_exemplars
from .layer_exemplars import Exemplar
from .loading import Skipped
from .matrix import Matrix, open_matrix
from .names import UnitName, names
from .naming import Name
from .readout import Readout
from .record import Record
from .reference import natural_spectrum, references
from .scan import Batch, Consumer, Scanned, scan
from .torch_datasets import from_dataset
from .vocabulary import Concepts, Labels, Predictions, Vocabulary

__all__ = [
    "Check",
    "check",
    "Batch",
    "Concepts",
    "Consumer",
    "Exemplar",
    "Exemplars",
    "Hierarchy",
    "Images",
    "Labels",
    "Matrix",
    "Name",
    "Predictions",
    "Readout",
    "Record",
    "Scanned",
    "Skipped",
    "UnitName",
    "Vocabulary",
    "exemplars",
    "from_dataset",
    "from_huggingface",
    "from_shards",
    "from_stream",
    "load_exemplars",
    "names",
    "natural_spectrum",
    "open_images",
    "open_matrix",
    "references",
    "scan",
]
