"""search: one pass over a data set that finds what a network's units respond to."""

from .exemplars.exemplars import Exemplars, exemplars
from .exemplars.index import load_exemplars
from .exemplars.layer_exemplars import Exemplar
from .exemplars.names import UnitName, names
from .exemplars.reference import natural_spectrum, references
from .images.check import Check, check
from .images.datasets import from_huggingface, from_shards, from_stream
from .images.images import Images, open_images
from .images.torch_datasets import from_dataset
from .naming.hierarchy import Hierarchy
from .naming.naming import Name
from .naming.vocabulary import Concepts, Labels, Predictions, Vocabulary
from .scan.loading import Skipped
from .scan.matrix import Matrix, open_matrix
from .scan.readout import Readout
from .scan.record import Record
from .scan.scan import Batch, Consumer, Scanned, scan

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
