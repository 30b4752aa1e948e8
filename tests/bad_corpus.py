"""A folder of damaged and odd image files and of other things called like images, each of another kind."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, PngImagePlugin

# What becomes of it: its pixels are seen; a scan skips it and says why; one of both, by the decoder's version; it is no
# file, and a note names it.
Fate = Literal["used", "skipped", "either", "noted"]


@dataclass(frozen=True)
class Kind:
    """One kind of damage: the entry's name, relative to the folder, how it is made, what should become of it."""

    title: str
    name: str
    make: Callable[[Path], Any]
    fate: Fate


def make_corpus(folder: Path) -> list[Kind]:
    """Fill the folder with one entry of each kind; returns those that this file system can hold."""
    made = []
    for kind in [*_files(), *_names(), *_entries(folder)]:
        target = folder / kind.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            kind.make(target)
        except OSError:  # no such names, sockets or links here
            continue
        made.append(kind)
    return made


def picture(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    """Smooth noise."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """A picture as a file's bytes."""
    stream = io.BytesIO()
    (image or picture()).save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def solid_png(width: int, height: int, *, claimed: tuple[int, int] | None = None, extra: bytes = b"") -> bytes:
    """A black 1-bit PNG; claimed: the size that its header gives; extra: chunks before the pixels."""
    header = struct.pack(">IIBBBBB", *(claimed or (width, height)), 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + -(-width // 8)) * height), 9)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(*tags: tuple[int, int, int, int], following: int = 0, data: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory at byte 8: (tag, type, count, value) each; `following`: the next one."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + data


def _grey_tiff(width: int = 8, height: int = 8, *more: tuple[int, int, int, int], following: int = 0) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    count = len(tags) + 3 + len(more)
    place = 8 + 2 + 12 * count + 4
    tags += [(273, 4, 1, place), (278, 4, 1, height), (279, 4, 1, width * height), *more]
    return tiff(*tags, following=following, data=bytes(range(64)) * (width * height // 64 if width < 100 else 1))


def _write(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def _patched(data: bytes, start: int, new: bytes) -> bytes:
    return data[:start] + new + data[start + len(new) :]


def _jpeg_claiming(width: int, height: int) -> bytes:
    data = encoded("JPEG")
    return _patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def _exif(orientation: Any, kind: int = 3) -> bytes:
    value = struct.pack("<HHII", 0x0112, kind, 1, orientation)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + value + bytes(4)


def _files() -> list[Kind]:
    kinds = [*_cut_off(), *_disguised(), *_sizes(), *_modes(), *_metadata(), *_animated()]
    return [Kind(title, f"{number:03d}-{name}", _write(data), fate) for number, (title, name, data, fate) in
            enumerate(kinds)]  # fmt: skip


Entry = tuple[str, str, bytes, Fate]


def _cut_off() -> list[Entry]:
    found: list[Entry] = [("zero bytes", "empty.jpg", b"", "skipped"), ("one byte", "byte.png", b"\x89", "skipped")]
    noisy = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for coder, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("GIF", "gif"), ("WEBP", "webp"), ("BMP", "bmp"),
                           ("TIFF", "tif"), ("PPM", "ppm"), ("JPEG2000", "jp2")):  # fmt: skip
        data = encoded(coder, noisy)
        found.append((f"{coder} cut in half", f"half.{suffix}", data[: len(data) // 2], "skipped"))
    jpeg = encoded("JPEG", noisy)
    for title, share in (("after its signature", 0.002), ("in its header", 0.02), ("before its last tenth", 0.9)):
        found.append((f"JPEG cut {title}", f"cut-{share}.jpg", jpeg[: max(3, int(len(jpeg) * share))], "skipped"))
    found += [
        ("JPEG without its end marker", "no-eoi.jpg", jpeg[:-2], "either"),
        ("JPEG with garbage behind its end", "tail.jpg", jpeg + os.urandom(5000), "either"),
        ("JPEG with garbage in the middle", "middle.jpg", _patched(jpeg, len(jpeg) // 2, bytes(200)), "either"),
        ("TIFF compressed and cut", "lzw.tif", encoded("TIFF", noisy, compression="tiff_lzw")[:6000], "skipped"),
        ("PNG without IEND", "no-iend.png", encoded("PNG")[:-12], "either"),
        ("PNG with a wrong checksum of its header", "crc.png", _patched(encoded("PNG"), 29, b"\0\0\0\0"), "skipped"),
        ("PNG without pixels", "no-idat.png", encoded("PNG")[:33] + chunk(b"IEND", b""), "skipped"),
        ("PNG whose pixels are no deflate stream", "no-zlib.png",
         encoded("PNG")[:33] + chunk(b"IDAT", b"x" * 500) + chunk(b"IEND", b""), "skipped"),
        ("GIF without frames", "no-frame.gif", b"GIF89a\x10\0\x10\0\0\0\0;", "skipped"),
        ("TIFF without tags", "no-tags.tif", tiff(), "skipped"),
    ]  # fmt: skip
    return found


def _disguised() -> list[Entry]:
    png, html = encoded("PNG"), b"<!doctype html><html><body><h1>404 Not Found</h1></body></html>"
    return [
        ("text called .jpg", "text.jpg", b"not a picture\n" * 20, "skipped"),
        ("a web page called .jpg", "page.jpg", html, "skipped"),
        ("an SVG called .png", "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "skipped"),
        ("zeros called .png", "zeros.png", bytes(4096), "skipped"),
        ("noise called .webp", "noise.webp", np.random.default_rng(2).bytes(4096), "skipped"),
        ("PNG called .jpg", "png.jpg", png, "used"),
        ("JPEG called .png", "jpeg.png", encoded("JPEG"), "used"),
        ("GIF called .tiff", "gif.tiff", encoded("GIF"), "used"),
        ("WebP called .bmp", "webp.bmp", encoded("WEBP"), "used"),
        ("TIFF called .gif", "tiff.gif", encoded("TIFF"), "used"),
        ("BMP called .JPEG", "bmp.JPEG", encoded("BMP"), "used"),
        ("ICO called .jpg", "icon.jpg", encoded("ICO"), "skipped"),
        ("PSD called .png", "layers.png", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(99),
         "skipped"),
        ("EPS called .jpg, which would run a program", "script.jpg", encoded("EPS"), "skipped"),
        ("PDF called .jpg", "paper.jpg", b"%PDF-1.7\n%%EOF\n", "skipped"),
        ("a zip called .jpg", "archive.jpg", b"PK\5\6" + bytes(18), "skipped"),
        ("a Mac's resource fork", "._photo.jpg", b"\0\5\26\7\0\2\0\0Mac OS X" + bytes(60), "skipped"),
        ("a web page before a PNG", "before.png", html + png, "skipped"),
    ]  # fmt: skip


def _sizes() -> list[Entry]:
    webp = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\0\xff\x3f\0"
    bmp = _patched(encoded("BMP"), 18, struct.pack("<ii", 60_000, 60_000))
    jp2 = encoded("JPEG2000", no_jp2=True)
    return [
        ("1 x 1 pixel", "one.png", encoded("PNG", picture(1, 1)), "used"),
        ("1 x 1 pixel as JPEG", "one.jpg", encoded("JPEG", picture(1, 1)), "used"),
        ("20,000 x 10 pixels", "wide.png", solid_png(20_000, 10), "used"),
        ("10 x 20,000 pixels", "high.png", solid_png(10, 20_000), "used"),
        ("20,000 x 10 pixels as JPEG", "wide.jpg", encoded("JPEG", picture(20_000, 10)), "used"),
        ("1 x 60,000 pixels", "line.png", solid_png(1, 60_000), "used"),
        ("PNG that claims 50,000 x 50,000 pixels", "bomb.png", solid_png(8, 8, claimed=(50_000, 50_000)), "skipped"),
        ("PNG that claims 2^31 - 1 pixels a side", "most.png", solid_png(8, 8, claimed=(2**31 - 1,) * 2), "skipped"),
        ("PNG that claims no pixels", "none.png", solid_png(8, 8, claimed=(0, 0)), "skipped"),
        ("PNG of 20,000 x 20,000 black pixels", "black.png", solid_png(20_000, 20_000), "skipped"),
        ("PNG of more pixels than Pillow takes in silence", "warned.png", solid_png(11_000, 11_000), "skipped"),
        ("JPEG that claims 65,500 x 65,500 pixels", "bomb.jpg", _jpeg_claiming(65_500, 65_500), "skipped"),
        ("JPEG that claims 12,000 x 10,000 pixels", "warned.jpg", _jpeg_claiming(12_000, 10_000), "skipped"),
        ("JPEG that claims no rows", "none.jpg", _jpeg_claiming(40, 0), "skipped"),
        ("GIF that claims 65,535 x 65,535 pixels", "bomb.gif", _patched(encoded("GIF"), 6, b"\xff" * 4), "skipped"),
        ("GIF whose frame is larger than its screen", "frame.gif", _patched(encoded("GIF"), 6, b"\1\0\1\0"), "used"),
        ("WebP that claims 16,384 x 16,384 pixels", "bomb.webp", webp, "skipped"),
        ("BMP that claims 60,000 x 60,000 pixels", "bomb.bmp", bmp, "skipped"),
        ("BMP of negative width", "negative.bmp", _patched(encoded("BMP"), 18, struct.pack("<i", -40)), "skipped"),
        ("TIFF that claims 60,000 x 60,000 pixels", "bomb.tif", _grey_tiff(60_000, 60_000), "skipped"),
        ("PPM that claims 10^9 pixels a side", "bomb.ppm", b"P6 1000000000 1000000000 255\n" + bytes(64), "skipped"),
        ("JPEG 2000 that claims 2^30 pixels a side", "bomb.jp2",
         _patched(jp2, 8, struct.pack(">II", 2**30, 2**30)), "skipped"),
        ("PNG with text that unpacks to 100 MB", "text.png",
         solid_png(8, 8, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9))), "either"),
        ("PNG with a colour profile that unpacks to 100 MB", "profile.png",
         solid_png(8, 8, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9))), "either"),
    ]  # fmt: skip


def _modes() -> list[Entry]:
    deep = np.linspace(0, 65535, 1200).reshape(30, 40)
    floats = (deep / 65535).astype(np.float32)
    floats[:5] = np.nan
    floats[5:7] = np.inf
    seen = picture(mode="P")
    return [
        ("16-bit PNG", "deep.png", encoded("PNG", Image.fromarray(deep.astype(np.uint16))), "used"),
        ("16-bit TIFF", "deep.tif", encoded("TIFF", Image.fromarray(deep.astype(np.uint16))), "used"),
        ("32-bit integer TIFF", "integers.tif", encoded("TIFF", Image.fromarray(deep.astype(np.int32))), "used"),
        ("floating-point TIFF with NaN and infinity", "nan.tif", encoded("TIFF", Image.fromarray(floats)), "used"),
        ("floating-point TIFF of NaN alone", "all-nan.tif",
         encoded("TIFF", Image.fromarray(np.full((8, 8), np.nan, np.float32))), "used"),
        ("CMYK JPEG", "cmyk.jpg", encoded("JPEG", picture(mode="CMYK")), "used"),
        ("greyscale JPEG", "grey.jpg", encoded("JPEG", picture(mode="L")), "used"),
        ("progressive JPEG", "progressive.jpg", encoded("JPEG", progressive=True), "used"),
        ("Lab TIFF", "lab.tif", encoded("TIFF", picture(mode="LAB")), "used"),
        ("palette with alpha", "palette.png", encoded("PNG", seen, transparency=bytes(range(0, 250, 5))), "used"),
        ("palette shorter than its indices", "short.png", _short_palette(), "used"),
        ("1-bit", "bits.png", encoded("PNG", picture(mode="1")), "used"),
        ("grey with alpha", "la.png", encoded("PNG", picture(mode="L").convert("LA")), "used"),
        ("wholly transparent", "clear.png", encoded("PNG", Image.new("RGBA", (20, 20))), "used"),
        ("JPEG 2000 with alpha", "alpha.jp2", encoded("JPEG2000", picture(mode="RGBA")), "used"),
        ("TIFF of several pages", "pages.tif",
         encoded("TIFF", save_all=True, append_images=[picture(9, 9), picture(7, 7, "L")]), "used"),
        ("TIFF whose directory follows itself", "cycle.tif", _grey_tiff(following=8), "used"),
        ("TIFF with 2^32 - 1 values in a tag", "count.tif",
         _grey_tiff(8, 8, (700, 1, 2**32 - 1, 64)), "used"),
        ("TIFF with 2^32 - 1 strips", "strips.tif",
         tiff((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 2**32 - 1, 8)), "skipped"),
        ("TIFF of a compression that does not exist", "method.tif",
         tiff((256, 4, 1, 8), (257, 4, 1, 8), (259, 3, 1, 12345), (262, 3, 1, 1), (273, 4, 1, 8)), "skipped"),
    ]  # fmt: skip


def _short_palette() -> bytes:
    header = struct.pack(">IIBBBBB", 16, 16, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(16 * row % 256, 16 * row % 256 + 16)) for row in range(16))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"PLTE", b"abcdef") + pixels + chunk(b"IEND", b"")


def _metadata() -> list[Entry]:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta tiff:Orientation='9'")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 60_000) + b"\xff" * 200
    return [
        ("EXIF data that are no TIFF", "exif.jpg", encoded("JPEG", exif=b"Exif\0\0no TIFF at all"), "used"),
        ("EXIF data that end too soon", "exif-cut.jpg", encoded("JPEG", exif=b"Exif\0\0II*\0\x08"), "used"),
        ("EXIF data of 60,000 tags", "exif-many.jpg", encoded("JPEG", exif=exif), "used"),
        ("EXIF orientation 99", "turned-99.jpg", encoded("JPEG", exif=_exif(99)), "used"),
        ("EXIF orientation as a fraction", "turned-fraction.jpg", encoded("JPEG", exif=_exif(8, 5)), "used"),
        ("EXIF orientation as text", "turned-text.jpg", encoded("JPEG", exif=_exif(0x41, 2)), "used"),
        ("EXIF orientation 6, all well", "turned.jpg", encoded("JPEG", exif=_exif(6)), "used"),
        ("EXIF broken in a PNG", "exif.png", encoded("PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "used"),
        ("colour profile that is none", "icc.jpg", encoded("JPEG", icc_profile=b"no profile" * 300), "used"),
        ("colour profile that is none, in a PNG", "icc.png", encoded("PNG", icc_profile=b"none"), "used"),
        ("XMP with a bogus orientation", "xmp.png", encoded("PNG", pnginfo=text), "used"),
        ("JPEG comment of 64 kB", "comment.jpg", encoded("JPEG", comment=b"<script>" * 8000), "used"),
        ("JPEG of a resolution of 0", "dpi.jpg", encoded("JPEG", dpi=(0, 0)), "used"),
    ]


def _animated() -> list[Entry]:
    more = {"save_all": True, "append_images": [picture(40, 30, "L"), picture().rotate(90)], "duration": 50}
    return [
        ("animated GIF", "animated.gif", encoded("GIF", **more), "used"),
        ("animated WebP", "animated.webp", encoded("WEBP", **more), "used"),
        ("animated PNG", "animated.png", encoded("PNG", **more), "used"),
        ("animated GIF cut in its second frame", "animated-cut.gif", _cut_gif(more), "either"),
    ]


def _cut_gif(more: dict[str, Any]) -> bytes:
    data = encoded("GIF", **more)
    return data[: data.rindex(b"\x21\xf9") + 30]


def _names() -> list[Kind]:
    """Whole images under names that give trouble elsewhere."""
    good = _write(encoded("PNG"))
    names = {
        "a name with a line end": "line\nend.png",
        "a name with a tab": "tab\tstop.png",
        "a name with an emoji": "smile \N{GRINNING FACE}.png",
        "a name with quotes": "quo'te\"s.png",
        "a name with HTML": "<img src=x onerror=alert(1)>&amp;.png",
        "a name with a back slash": "back\\slash.png",
        "a name with an escape sequence": "esc\x1b[31mred.png",
        "a name with markup of the terminal": "[bold red]x[/].png",
        "a name that is not UTF-8": os.fsdecode(b"latin-\xe9.png"),
        "a folder whose name is not UTF-8": os.fsdecode(b"\xff\xfe/inner.png"),
        "a name that reads from right to left": "\u202egnp.exe.png",
        "a name of 255 bytes": "n" * 251 + ".png",
        "a name that begins with a dash": "-rf.png",
        "a hidden name": ".hidden.png",
        "a name that is a suffix alone": ".png",
        "a name with a comma": "a,b;c.png",
        "a name with blanks at its ends": " blank .png",
        "a name that looks like a pattern": "[a-z]*?.png",
        "a folder nested 120 deep": "deep/" * 120 + "x.png",
    }
    return [
        Kind("damaged, under a name that is not UTF-8", os.fsdecode(b"bad-\xe9\n'.png"), _write(b"no"), "skipped"),
        Kind("damaged, under a name with a line end", "bad\nline.png", _write(b"no"), "skipped"),
        *(Kind(title, name, good, "used") for title, name in names.items()),
    ]


def _entries(folder: Path) -> list[Kind]:
    """Links, folders and things that are no files."""
    outside = folder.parent / f"{folder.name}-outside"
    closed: Fate = "skipped" if os.geteuid() else "used"

    def linked_file(path: Path) -> None:
        outside.mkdir(exist_ok=True)
        (outside / "file.png").write_bytes(encoded("PNG"))
        path.symlink_to(outside / "file.png")

    def linked_folder(path: Path) -> None:
        outside.mkdir(exist_ok=True)
        path.symlink_to(outside)

    def unreadable(path: Path) -> None:
        path.write_bytes(encoded("PNG"))
        path.chmod(0)

    def sparse(path: Path, beginning: bytes = b"") -> None:
        path.write_bytes(beginning)
        os.truncate(path, 10 * 2**30)

    webp = b"RIFF\xff\xff\xff\x7fWEBPVP8X"
    return [
        Kind("link to a file elsewhere", "link.png", linked_file, "used"),
        Kind("link to a folder elsewhere", "linked", linked_folder, "noted"),
        Kind("link to a folder elsewhere, called .jpg", "linked.jpg", linked_folder, "noted"),
        Kind("link to its own folder", "circle", lambda path: path.symlink_to("."), "noted"),
        Kind("link to itself", "self.jpg", lambda path: path.symlink_to("self.jpg"), "skipped"),
        Kind("link to nothing", "nothing.jpg", lambda path: path.symlink_to("nowhere"), "skipped"),
        Kind("link to a device", "device.jpg", lambda path: path.symlink_to("/dev/zero"), "skipped"),
        Kind("folder called .jpg", "folder.jpg", lambda path: path.mkdir(), "noted"),
        Kind("FIFO called .jpg", "fifo.jpg", os.mkfifo, "skipped"),
        Kind("socket called .jpg", "socket.jpg", _socket, "skipped"),
        Kind("file that may not be read", "closed.png", unreadable, closed),
        Kind("10 GB of zeros called .jpg", "sparse.jpg", sparse, "skipped"),
        Kind("10 GB that begin as a WebP", "sparse.webp", lambda path: sparse(path, webp), "skipped"),
        Kind("file that goes between listing and reading", "gone.png", _write(encoded("PNG")), "skipped"),
    ]


def _socket(path: Path) -> None:
    """Bound from within its folder: the whole path may be longer than a socket's may be."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)
