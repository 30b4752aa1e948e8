"""Images with names and labels, in a stable order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .decode import open_upright

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2 .avif".split())

# EXIF's tag for how a camera was held, and its values for a quarter turn.
_ORIENTATION, _ON_ITS_SIDE = 0x0112, frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class Images:
    """Images in a stable order: `names[i]`, `labels[i]` (-1 where unknown), `class_names[i]` belong together.

    `source`: a folder's path or a data set's name; `files`: the files, where there are; `dataset`: else the map-style
    data set behind it, whose items begin with an image; `content`: a digest of what is in that; `notes`: what is odd
    about the source.
    """

    source: str
    names: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    files: tuple[Path, ...] = ()
    dataset: Any = None
    content: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int) -> Image.Image:
        """Image `index` as upright 8-bit RGB; raises what Pillow raises where it cannot be decoded."""
        if self.files:
            return open_upright(self.files[index])
        item = self.dataset[index]
        return open_upright(item[0] if isinstance(item, (tuple, list)) else item)

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of image `index`, upright; of a file, its header alone is read."""
        if not self.files:
            return self.open(index).size
        with Image.open(self.files[index]) as image:
            # A PNG without EXIF data would be decoded to its end in search of some.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
            return (image.size[1], image.size[0]) if turned else image.size

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, labels, file sizes and content, first 16 hexadecimal digits."""
        digest = hashlib.sha256(self.content.encode())
        for number, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            size = self.files[number].stat().st_size if self.files and self.files[number].exists() else -1
            digest.update(f"{name}\0{label}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]
