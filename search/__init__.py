"""search: one pass over a data set that finds what a network's units respond to."""

from .images import Images, from_dataset, open_images
from .scan import Batch, Consumer, Scanned, Skipped, scan

__all__ = ["Batch", "Consumer", "Images", "Scanned", "Skipped", "from_dataset", "open_images", "scan"]
