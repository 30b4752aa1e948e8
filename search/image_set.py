"""Images with names and labels, in a stable order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from featviz.models import Preprocess

from .decode import central_view, open_upright, opened, upright_size

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2 .avif".split())
# Larger numbers of classes are mistakes, and may not fit where numbers are kept.
_MOST_CLASSES = 2**31


@dataclass(frozen=True)
class Images:
    """Images in a stable order: `names[i]`, `labels[i]` (-1 where unknown), `class_names[i]` belong together.

    `source`: a folder's path or a data set's name; `files`: the files, where there are; `dataset`: else the map-style
    data set behind it, whose items begin with an image; `content`: a digest of what is in that; `archives`: the files
    that it is read from, where they are known; `notes`: what is odd about the source.
    """

    source: str
    names: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    files: tuple[Path, ...] = ()
    dataset: Any = None
    content: str = ""
    notes: tuple[str, ...] = ()
    archives: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int) -> Image.Image:
        """Image `index` as upright 8-bit RGB; raises `UndecodableError` for a file that cannot be decoded.

        Of a data set, what its items raise.
        """
        if self.files:
            return open_upright(self.files[index])
        item = self.dataset[index]
        return open_upright(item[0] if isinstance(item, (tuple, list)) else item)

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of image `index`, upright; of a file, its header alone is read."""
        if not self.files:
            return self.open(index).size
        with opened(self.files[index]) as image:
            return upright_size(image)

    @property
    def modified(self) -> str:
        """When the newest file or archive was last changed (UTC), and a digest over when each was; '' without any."""
        digest, newest, files = hashlib.sha256(), 0.0, self.files or self.archives
        for file in files:
            changed = 0
            with suppress(OSError):  # gone, or in a folder that cannot be entered
                changed = file.stat().st_mtime_ns
            digest.update(f"{changed}\n".encode())
            newest = max(newest, changed / 1e9)
        when = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
        return f"{when} {digest.hexdigest()[:8]}" if files else ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, labels, file sizes and content, first 16 hexadecimal digits."""
        digest = hashlib.sha256(self.content.encode())
        for number, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            size = -1
            with suppress(OSError):
                size = self.files[number].stat().st_size if self.files else -1
            digest.update(f"{name}\0{label}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def first_views(images: Images, how: Preprocess, count: int, numbers: Iterable[int] | None = None) -> Tensor:
    """Central views of the first images that can be opened, (up to count, channels, h, w) in [0, 1].

    numbers: which images to try, in their order; by default all.
    """
    views: list[Tensor] = []
    for number in range(len(images)) if numbers is None else numbers:
        if len(views) == count:
            break
        with suppress(Exception):  # Pillow's decoders raise almost anything; the scan says which images are damaged
            views.append(central_view(images.open(number), how))
    return torch.stack(views) if views else torch.zeros(0, how.channels, *how.size)


def readable(name: str) -> str:
    """A name with a replacement sign for each byte that is not UTF-8: JSON and terminals take no others."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def class_number(value: object) -> int:
    """A class's number as a table or a data set gives it, in digits or as an integer; -1 for anything else."""
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    # Python reads no more than some thousand digits.
    number = int(text) if text.isdecimal() and len(text) < 20 else -1
    return number if number < _MOST_CLASSES else -1
