from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from toys import noise_folder, toy_model

from featviz.errors import UserError
from featviz.network.models import Preprocess
from search.images.bands import Bands
from search.images.decode import UndecodableError, central_view, cut, in_unit, open_upright
from search.images.images import open_images
from search.images.pictures import as_picture, open_picture
from search.scan.scan import scan

tifffile = pytest.importorskip("tifffile")


def _how(channels: int, **said: Any) -> Preprocess:
    return Preprocess((16, 16), (0.5,) * channels, (0.5,) * channels, **said)


def _values(channels: int, kind: str, size: tuple[int, int] = (24, 30)) -> NDArray[Any]:
    rng = np.random.default_rng(channels)
    if kind == "float32":
        return rng.random((channels, *size), np.float32)
    return rng.integers(0, np.iinfo(kind).max, (channels, *size), kind, endpoint=True)


def _written(folder: Path, way: str, values: NDArray[Any]) -> Path:
    file = folder / f"image.{way.partition(' ')[0]}"
    last = np.ascontiguousarray(values.transpose(1, 2, 0))
    if way == "npy first":
        np.save(file, values)
    elif way == "npy last":
        np.save(file, last)
    elif way == "npz":
        np.savez_compressed(file, bands=values)
    elif way == "tif planes":
        tifffile.imwrite(file, values, planarconfig="separate", photometric="minisblack", compression="zlib")
    elif way == "tif interleaved":
        tifffile.imwrite(file, last, planarconfig="contig", photometric="minisblack")
    else:
        with tifffile.TiffWriter(file) as pages:
            for band in values:
                pages.write(band, contiguous=False)
    return file


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("way", ["npy first", "npy last", "npz", "tif planes", "tif interleaved", "tif pages"])
def test_bands_are_read_exactly(tmp_path: Path, way: str, kind: str) -> None:
    values = _values(7, kind)
    found = open_picture(_written(tmp_path, way, values), _how(7, show=(3, 2, 1)))
    assert isinstance(found, Bands)
    assert found.size == (30, 24)
    whole = {"uint8": 255, "uint16": 65535, "float32": 1}[kind]
    assert np.array_equal(np.rint(found.values * whole).astype(kind) if whole > 1 else found.values, values)
    shown = np.asarray(found.shown())
    assert np.array_equal(shown, np.rint(found.values[[3, 2, 1]] * 255).astype(np.uint8).transpose(1, 2, 0))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_view_of_bands_is_that_of_each_band(interpolation: Literal["bilinear", "bicubic"]) -> None:
    values, how = _values(5, "float32", (40, 52)), _how(5, interpolation=interpolation)
    found = Bands(values, (0, 1, 2))
    # Antialiased, torch's kernels are Pillow's.
    twin = F.interpolate(torch.from_numpy(values)[None], (16, 16), mode=interpolation, antialias=True)[0].clamp(0, 1)
    assert torch.allclose(cut(found, (0, 0, 52, 40), how), twin, atol=1e-5)
    box = (4.5, 2.25, 47.0, 38.5)
    for band, of_all in zip(values, cut(found, box, how), strict=True):
        eighths = Image.fromarray(np.rint(band * 255).astype(np.uint8)).convert("RGB")
        alone = cut(eighths, box, _how(1, interpolation=interpolation))[0] / 255
        assert (of_all - alone).abs().max() < 3 / 255


def test_a_photograph_as_an_array_is_the_photograph(tmp_path: Path) -> None:
    photo = open_upright(noise_folder(tmp_path, 1) / "000.png")
    pixels = np.array(photo)
    expected = central_view(photo, _how(3))
    for given in (pixels, pixels.transpose(2, 0, 1), torch.from_numpy(pixels).permute(2, 0, 1) / 255):
        assert torch.equal(central_view(as_picture(given, _how(3)), _how(3)), expected)
    deep = as_picture(pixels.astype(np.uint16) * 257, _how(3))
    assert (central_view(deep, _how(3)) - expected).abs().max() < 1.01 / 255
    grey = central_view(as_picture(pixels.astype(np.float64) / 255 * 0.999, _how(1)), _how(1))
    assert (grey - central_view(photo, _how(1))).abs().max() < 3 / 255


def test_the_range_says_what_stored_numbers_mean(tmp_path: Path) -> None:
    values = np.array([0, 1000, 3000, 9000], np.int16).reshape(4, 1, 1).repeat(16, 1).repeat(16, 2)
    found = as_picture(values, _how(4, range=(1000.0, 5000.0)))
    assert central_view(found, _how(4))[:, 0, 0].tolist() == [0, 0, 0.5, 1]
    twelve_bits = Image.fromarray(np.full((20, 20), 2048, np.uint16))
    twelve_bits.save(tmp_path / "x.png")
    how = _how(1, range=(0.0, 4096.0))
    assert central_view(open_picture(tmp_path / "x.png", how), how).mean() == pytest.approx(0.5)
    assert np.asarray(open_images(tmp_path, how).open(0)).mean() == 128


def _deep(rows: int = 20) -> NDArray[np.uint16]:
    """Red of 2000, green of 5000 and blue that rises from 0 to 10000 over the columns."""
    red, green, blue = (np.full((rows, 24), value, np.uint16) for value in (2000, 5000, 0))
    return np.stack([red, green, blue + np.linspace(0, 10_000, 24).astype(np.uint16)], 2)


def _png16(values: NDArray[np.uint16]) -> bytes:
    """A PNG of 16-bit RGB, which Pillow does not write."""
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    framed = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_deep_colours_are_read_exactly(tmp_path: Path, planes: str, compression: str | None) -> None:
    deep, file = _deep(), tmp_path / "x.tif"
    stored = deep if planes == "contig" else deep.transpose(2, 0, 1)
    tifffile.imwrite(file, stored, photometric="rgb", planarconfig=planes, compression=compression)
    ranged = open_picture(file, _how(3, range=(0, 10_000)))
    assert isinstance(ranged, Bands)
    assert np.allclose(ranged.values, deep.transpose(2, 0, 1) / 10_000, atol=1e-6)
    plain = central_view(open_picture(file, _how(3, crop=1.0)), _how(3, crop=1.0))
    expected = central_view(as_picture(deep, _how(3)), _how(3, crop=1.0))
    assert (in_unit(plain) - expected).abs().max() < 1.51 / 255  # Pillow rounds down


def test_colours_that_would_be_cut_down_are_refused(tmp_path: Path) -> None:
    ranged = _how(3, range=(0, 10_000))
    (tmp_path / "x.png").write_bytes(_png16(_deep()))
    (tmp_path / "x.ppm").write_bytes(b"P6 24 20 65535\n" + _deep().astype(">u2").tobytes())
    for name in ("x.png", "x.ppm"):
        with pytest.raises(UndecodableError, match=r"deeper than 8 bits.*save it as \.npy"):
            open_picture(tmp_path / name, ranged)
        assert open_picture(tmp_path / name, _how(3)).size == (24, 20)


def test_what_pillow_misreads_is_refused_without_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "x.tif", _deep().transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "y.tif", np.full((20, 24), -1, np.int8))
    signed = open_picture(tmp_path / "y.tif", _how(1, range=(-2, 2)))
    assert isinstance(signed, Bands)
    assert np.allclose(signed.values, 0.25)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for name, told in (("x.tif", "planes of 16 bits"), ("y.tif", "signed numbers of 8 bits")):
        for how in (_how(3), _how(3, range=(0, 10_000))):
            with pytest.raises(UndecodableError, match=told):
                open_picture(tmp_path / name, how)


def test_a_palette_stays_what_it_is_under_a_range(tmp_path: Path) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[0] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "x.tif", np.full((20, 24), 51, np.uint8), photometric="palette", colormap=colours)
    found = open_picture(tmp_path / "x.tif", _how(3, range=(0, 255)))
    assert isinstance(found, Bands)
    assert np.allclose(found.values[:, 0, 0], (0.2, 0, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once_however_it_is_read(tmp_path: Path, orientation: int) -> None:
    tag = [(274, 3, 1, orientation, True)]
    for number, values in enumerate((_deep() // 256, _deep())):
        pixels = values.astype(np.uint8) if number == 0 else values
        tifffile.imwrite(tmp_path / f"{number}.tif", pixels, photometric="rgb", extratags=tag)
    expected = np.asarray(open_upright(tmp_path / "0.tif")).transpose(2, 0, 1)
    ranged = open_picture(tmp_path / "0.tif", _how(3, range=(0, 255)))
    deep = open_picture(tmp_path / "1.tif", _how(3, range=(0, 65_535)))
    assert isinstance(ranged, Bands)
    assert isinstance(deep, Bands)
    assert np.array_equal(np.rint(ranged.values * 255), expected)
    assert np.array_equal(np.rint(deep.values * 65_535) // 256, expected)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_what_is_stored_as_darkness_is_seen_as_light(tmp_path: Path, kind: Literal["uint8", "uint16"]) -> None:
    stored = (_values(1, kind)[0] // 2) * 2
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite")
    most = np.iinfo(kind).max
    seen = np.asarray(open_picture(tmp_path / "x.tif", _how(3)))[:, :, 0] / 255
    assert np.abs(seen - (1 - stored / most)).max() < 0.51 / 255
    ranged = open_picture(tmp_path / "x.tif", _how(1, range=(0, most)))  # a range is one of stored numbers
    assert isinstance(ranged, Bands)
    assert np.allclose(ranged.values[0], stored / most, atol=1e-6)


def test_a_kind_that_the_network_cannot_be_fed_is_refused(tmp_path: Path) -> None:
    noise = noise_folder(tmp_path / "rgb", 1) / "000.png"
    photo = open_upright(noise)
    photo.convert("RGBA").save(tmp_path / "four.png")
    bands = ("B2", "B3", "B4", "B8")
    for file in (noise, tmp_path / "four.png"):
        with pytest.raises(UserError, match=r"4 bands \(B2, B3, B4, B8\), and .*\.png holds a photograph \(RGB"):
            open_picture(file, _how(4, bands=bands))
    with pytest.raises(UserError, match="holds a photograph"):
        cut(photo, (0, 0, 8, 8), _how(2))
    for shape, told in (((5, 20, 20), "holds 5 x 20 x 20"), ((4, 20, 4), "may come first or last")):
        np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
        with pytest.raises(UserError, match=told):
            open_picture(tmp_path / "x.npy", _how(4))
    np.save(tmp_path / "x.npy", np.full((4, 20, 20), 700.0))
    with pytest.raises(UserError, match=r"from 700 to 700.*range=\(0, 10000\)"):
        open_picture(tmp_path / "x.npy", _how(4))
    with pytest.raises(UserError, match="Normalize makes: leave it out"):
        as_picture(torch.randn(3, 20, 20), _how(3))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((4, 8, 8), np.nan), "not finite"),
        (np.zeros(512), "its shape 512 is none"),
        (np.zeros((10, 512)), "its shape 10 x 512 is none"),
        (np.array(["a"]), "images are of numbers"),
    ],
)
def test_what_is_no_image_is_skipped_with_a_reason(tmp_path: Path, values: NDArray[Any], told: str) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(UndecodableError, match=told):
        open_picture(tmp_path / "x.npy", _how(4))
    np.savez(tmp_path / "y.npz", one=values, two=values)
    with pytest.raises(UndecodableError, match=r"2 arrays \(one, two\)"):
        open_picture(tmp_path / "y.npz", _how(4))


def test_damaged_arrays_are_told_of(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 64, 64)))
    whole = (tmp_path / "x.npy").read_bytes()
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    for name, data in (("x.npy", whole[:999]), ("y.npz", whole), ("z.tif", whole), ("o.npy", None)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(UndecodableError):
            open_picture(tmp_path / name, _how(4))


def test_photographs_and_arrays_share_a_scan(tmp_path: Path) -> None:
    """Both in one batch, though the first are 8 bits and the others floats."""
    folder = noise_folder(tmp_path, 3, size=32)
    for file in sorted(folder.glob("*.png")):
        deep = np.asarray(open_upright(file)).astype(np.uint16) * 257
        np.save(folder / f"{file.stem}-deep.npy", deep)
    np.save(folder / "directions.npy", np.random.default_rng(0).normal(size=(20, 64)))

    class Seen:
        def __init__(self) -> None:
            self.rows: dict[int, torch.Tensor] = {}

        def update(self, batch: Any) -> None:
            self.rows |= dict(zip(batch.index.tolist(), batch.pixels, strict=True))

    seen, images = Seen(), open_images(folder)
    scanned = scan(toy_model(), images, ["0"], [seen], workers=0)  # type: ignore[list-item]
    assert [entry.name for entry in scanned.skipped] == ["directions.npy"]
    assert "float64 numbers from" in scanned.skipped[0].reason
    names = [Path(images.names[number]).stem for number in seen.rows]
    pixels = dict(zip(names, seen.rows.values(), strict=True))
    assert len(pixels) == 6
    for name in ("000", "001", "002"):
        assert (pixels[name] - pixels[f"{name}-deep"]).abs().max() < 1.01 / 255
    assert in_unit(torch.tensor([255], dtype=torch.uint8)) == 1
