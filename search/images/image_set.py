"""Images with names and labels, in a stable order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from featviz.errors import UserError
from featviz.network.models import Preprocess

from .arrays import ARRAYS, is_array, is_tiff, read_array, read_tiff
from .bands import Bands
from .decode import UndecodableError, central_view, open_upright, opened, upright_size
from .pictures import Picture, as_picture, image_of, open_picture, seen_by_nobody

PHOTOGRAPHS = frozenset(".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2 .avif".split())
SUFFIXES = PHOTOGRAPHS | ARRAYS
# Larger numbers of classes are mistakes, and may not fit where numbers are kept.
_MOST_CLASSES = 2**31


@dataclass(frozen=True)
class Images:
    """Images in a stable order: `names[i]`, `labels[i]` (-1 where unknown), `class_names[i]` belong together.

    `source`: a folder's path or a data set's name; `files`: the files, where there are; `dataset`: else the map-style
    data set behind it, whose items begin with an image; `content`: a digest of what is in that; `archives`: the files
    that it is read from, where they are known; `notes`: what is odd about the source. `numbered`: whether the source
    says the classes' numbers; of sub-folders they are no more than places in the alphabet. `how`: how the network that
    is looked into sees images, for what a reader is shown of bands.
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
    numbered: bool = True
    how: Preprocess | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def seen_by(self, how: Preprocess) -> Images:
        """The same images, of which a reader is shown what a network that sees them so is shown."""
        return replace(self, how=how)

    def picture(self, index: int, how: Preprocess) -> Picture:
        """Image `index` as a network is to see it: a photograph, upright, or a picture of bands; see `open_picture`.

        Of a data set, raises what its items raise.
        """
        if self.files:
            return open_picture(self.files[index], how)
        return as_picture(image_of(self.dataset[index]), how, readable(self.names[index]))

    def open(self, index: int) -> Image.Image:
        """Image `index` as a reader is shown it, upright 8-bit RGB; raises `UndecodableError` where it cannot be read.

        Of bands those that the network's `show` names. Of a data set, what its items raise.
        """
        if self._is_photograph(index):
            try:
                return open_upright(self.files[index])
            except UndecodableError:
                if not is_tiff(self.files[index]):  # of which tifffile may know more
                    raise
        found = self._shown(index)
        return found.shown() if isinstance(found, Bands) else found

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of image `index`, upright; of a photograph's file, its header alone is read."""
        if self._is_photograph(index):
            try:
                with opened(self.files[index]) as image:
                    return upright_size(image)
            except UndecodableError:
                if not is_tiff(self.files[index]):
                    raise
        return self._shown(index).size

    def _is_photograph(self, index: int) -> bool:
        """Whether Pillow reads the image as it is to be shown."""
        if not self.files or is_array(self.files[index]):
            return False
        if self.how is None:
            return True
        return self.how.range is None if self.how.channels in (1, 3) else not is_tiff(self.files[index])

    def _shown(self, index: int) -> Picture:
        """The picture as the network that is looked into sees it; where none is known, with as many bands as it has."""
        if self.files:
            if self.how is not None:
                return open_picture(self.files[index], self.how)
            file = self.files[index]
            found = read_array(file) if is_array(file) else read_tiff(file)
            return as_picture(found, seen_by_nobody(found), file.name)
        item = image_of(self.dataset[index])
        if isinstance(item, Image.Image) and (self.how is None or self.how.range is None):
            return open_upright(item)
        return as_picture(item, self.how or seen_by_nobody(item), readable(self.names[index]))

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

    numbers: which images to try, in their order; by default all. Raises `UserError` as `open_picture` does.
    """
    views: list[Tensor] = []
    for number in range(len(images)) if numbers is None else numbers:
        if len(views) == count:
            break
        try:
            views.append(central_view(images.picture(number, how), how))
        except UserError:
            raise
        except Exception:  # Pillow's decoders raise almost anything; the scan says which images are damaged
            continue
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
