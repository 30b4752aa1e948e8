"""Any image file arrives as upright 8-bit RGB, and a view shows exactly the part of it that its box names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode, v2

from featviz.network.models import Preprocess
from search.images.decode import Box, central_box, cut, open_upright, random_box

Array = NDArray[np.generic]

SIDES = st.one_of(st.integers(1, 20_000), st.sampled_from([1, 2, 10, 224, 20_000]))
SIZES = st.tuples(SIDES, SIDES)
INPUTS = st.sampled_from([(224, 224), (240, 240), (299, 299), (96, 160), (64, 48), (7, 1)])
EXTREMES = [(1, 1), (1, 5000), (20_000, 10), (10, 20_000), (2, 3), (640, 427)]


def _rgb(file: Path | Image.Image) -> NDArray[np.uint8]:
    image = open_upright(file)
    assert image.mode == "RGB"
    return np.asarray(image)


def _mode(file: Path) -> str:
    with Image.open(file) as image:
        return image.mode


def _grey(values: Array) -> NDArray[np.uint8]:
    return np.repeat(np.asarray(values, dtype=np.uint8)[:, :, None], 3, axis=2)


def _noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _blocks(rows: int, columns: int, channels: int = 3, side: int = 16) -> NDArray[np.uint8]:
    """Flat squares of different colours, which survive a JPEG nearly unchanged."""
    colours = np.random.default_rng(1).integers(30, 226, (rows, columns, channels), dtype=np.uint8)
    return colours.repeat(side, axis=0).repeat(side, axis=1)


def _over_white(colour: Array, alpha: Array) -> NDArray[np.float64]:
    share = np.asarray(alpha, dtype=np.float64)[..., None] / 255
    return np.asarray(colour) * share + 255 * (1 - share)


@cache
def _photo(width: int, height: int) -> Image.Image:
    """Something like a photograph: colour noise whose contrast falls as it gets finer."""
    generator = np.random.default_rng(width)
    total = np.full((height, width, 3), 128.0)
    for octave in range(6):
        coarse = generator.uniform(-1, 1, (3, 2**octave + 2, 2**octave + 2))
        planes = [Image.fromarray(plane).resize((width, height)) for plane in coarse.astype(np.float32)]
        total += 110 / 2**octave * np.stack(planes, axis=2)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def _ramps(width: int, height: int) -> Image.Image:
    """Red rises from left to right, green from top to bottom, blue is 77."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 77)], axis=2).round().astype(np.uint8))


# What arrives


def test_rgb_arrives_as_it_is(tmp_path: Path) -> None:
    pixels = _noise(5, 7, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(_rgb(tmp_path / "a.png"), pixels)


def test_a_decoded_image_is_treated_as_a_file_is(tmp_path: Path) -> None:
    image = Image.fromarray(_noise(5, 7, 4))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(_rgb(image), _rgb(tmp_path / "a.png"))


def test_greyscale_arrives_as_three_equal_channels(tmp_path: Path) -> None:
    values = _noise(5, 7)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(_rgb(tmp_path / "a.png"), _grey(values))


def test_one_bit_arrives_as_black_and_white(tmp_path: Path) -> None:
    bits = _noise(5, 19) > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert _mode(tmp_path / "a.png") == "1"
    np.testing.assert_array_equal(_rgb(tmp_path / "a.png"), _grey(bits * 255))


def _palette(indices: NDArray[np.uint8], colours: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    return image


def test_palette_indices_become_their_colours(tmp_path: Path) -> None:
    indices, colours = _noise(6, 9) % 5, _noise(5, 3, seed=1)
    _palette(indices, colours).save(tmp_path / "a.png")
    assert _mode(tmp_path / "a.png") == "P"
    np.testing.assert_array_equal(_rgb(tmp_path / "a.png"), colours[indices])


def test_a_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    indices, colours = _noise(6, 9) % 5, _noise(5, 3, seed=1)
    for suffix in ("png", "gif"):
        _palette(indices, colours).save(tmp_path / f"a.{suffix}", transparency=2)
        expected = np.where((indices == 2)[:, :, None], 255, colours[indices])
        np.testing.assert_array_equal(_rgb(tmp_path / f"a.{suffix}"), expected)


def test_a_half_transparent_palette_is_laid_over_white(tmp_path: Path) -> None:
    indices, colours, alpha = _noise(6, 9) % 5, _noise(5, 3, seed=1), _noise(5, seed=2)
    _palette(indices, colours).save(tmp_path / "a.png", transparency=alpha.tobytes())
    np.testing.assert_allclose(_rgb(tmp_path / "a.png"), _over_white(colours[indices], alpha[indices]), atol=1)


def test_rgba_is_laid_over_white(tmp_path: Path) -> None:
    pixels = _noise(11, 13, 4)
    pixels[0, :, 3], pixels[1, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = _rgb(tmp_path / "a.png")
    np.testing.assert_allclose(got, _over_white(pixels[..., :3], pixels[..., 3]), atol=1)
    assert (got[0] == 255).all()
    np.testing.assert_array_equal(got[1], pixels[1, :, :3])


def test_grey_with_alpha_is_laid_over_white(tmp_path: Path) -> None:
    pixels = _noise(11, 13, 2)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert _mode(tmp_path / "a.png") == "LA"
    expected = _over_white(_grey(pixels[..., 0]), pixels[..., 1])
    np.testing.assert_allclose(_rgb(tmp_path / "a.png"), expected, atol=1)


def test_a_colour_named_as_transparent_becomes_white(tmp_path: Path) -> None:
    colours = np.array([[[10, 20, 30], [200, 100, 50]]], dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgb.png", transparency=(10, 20, 30))
    Image.fromarray(colours[:, :, 0]).save(tmp_path / "grey.png", transparency=10)
    assert _rgb(tmp_path / "rgb.png").tolist() == [[[255, 255, 255], [200, 100, 50]]]
    assert _rgb(tmp_path / "grey.png").tolist() == [[[255, 255, 255], [200, 200, 200]]]


def test_cmyk_jpeg_arrives_in_the_colours_that_the_inks_print(tmp_path: Path) -> None:
    inks = _blocks(3, 4, channels=4)
    Image.frombytes("CMYK", (inks.shape[1], inks.shape[0]), inks.tobytes()).save(
        tmp_path / "a.jpg", quality=100, subsampling=0
    )
    assert _mode(tmp_path / "a.jpg") == "CMYK"
    light = 255.0 - inks
    np.testing.assert_allclose(_rgb(tmp_path / "a.jpg"), light[..., :3] * light[..., 3:] / 255, atol=3)


@pytest.mark.parametrize(("suffix", "kind"), [("png", "<u2"), ("tif", "<u2"), ("tif", ">u2")])
def test_sixteen_bit_greyscale_keeps_its_share_of_65535(tmp_path: Path, suffix: str, kind: str) -> None:
    shares = _noise(5, 7)
    Image.fromarray((shares.astype(np.uint16) * 257).astype(kind)).save(tmp_path / f"a.{suffix}")
    assert _mode(tmp_path / f"a.{suffix}").startswith("I")
    np.testing.assert_array_equal(_rgb(tmp_path / f"a.{suffix}"), _grey(shares))


def test_a_dark_sixteen_bit_image_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 2570, dtype=np.uint16)).save(tmp_path / "a.png")
    assert (_rgb(tmp_path / "a.png") == 10).all()


def test_32_bit_integers_within_65535_keep_their_share_of_it(tmp_path: Path) -> None:
    shares = _noise(5, 7)
    Image.fromarray(shares.astype(np.int32) * 257).save(tmp_path / "a.tif")
    assert _mode(tmp_path / "a.tif") == "I"
    np.testing.assert_array_equal(_rgb(tmp_path / "a.tif"), _grey(shares))


def test_floats_between_0_and_1_keep_their_share(tmp_path: Path) -> None:
    shares = _noise(5, 7) // 2
    Image.fromarray((shares / 255).astype(np.float32)).save(tmp_path / "a.tif")
    assert _mode(tmp_path / "a.tif") == "F"
    np.testing.assert_array_equal(_rgb(tmp_path / "a.tif"), _grey(shares))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize(("low", "high"), [(0, 1_000_000), (-500, 500), (100_000, 200_000), (-300, -200)])
def test_other_numbers_are_stretched_from_their_least_to_their_greatest(
    tmp_path: Path, kind: type[np.generic], low: int, high: int
) -> None:
    values = np.linspace(low, high, 35).reshape(5, 7).astype(kind)
    Image.fromarray(values).save(tmp_path / "a.tif")
    expected = (values.astype(np.float64) - low) / (high - low) * 255
    np.testing.assert_allclose(_rgb(tmp_path / "a.tif"), _grey(expected.round()), atol=1)


def test_a_float_that_is_no_number_is_black_and_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    values = np.array([[0.2, np.nan, 1.0]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert _rgb(tmp_path / "a.tif")[0, :, 0].tolist() == [51, 0, 255]


def test_infinite_floats_leave_the_finite_ones_visible(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.2, np.inf, -np.inf, 1.0]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    dark, grey, *_, white = _rgb(tmp_path / "a.tif")[0, :, 0].tolist()
    assert dark < grey < white


# EXIF orientation -> what has to be done to the stored rows and columns: the standard's table, in NumPy.
TURNS: dict[int, Callable[[Array], Array]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def _with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", TURNS)
def test_a_jpeg_is_turned_as_its_exif_orientation_says(tmp_path: Path, orientation: int) -> None:
    stored = Image.fromarray(_blocks(2, 3))
    stored.save(tmp_path / "plain.jpg", quality=95)
    stored.save(tmp_path / "tagged.jpg", quality=95, exif=_with_orientation(orientation))
    with Image.open(tmp_path / "plain.jpg") as plain:
        by_hand = TURNS[orientation](np.asarray(plain))
    np.testing.assert_array_equal(_rgb(tmp_path / "tagged.jpg"), by_hand)


@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation_of_one_picture_arrives_as_that_picture(tmp_path: Path, orientation: int) -> None:
    upright = _blocks(2, 3)
    undo = {6: 8, 8: 6}.get(orientation, orientation)  # every other turn is its own inverse
    stored = Image.fromarray(np.ascontiguousarray(TURNS[undo](upright)))
    stored.save(tmp_path / "a.jpg", quality=95, subsampling=0, exif=_with_orientation(orientation))
    got = _rgb(tmp_path / "a.jpg")
    assert got.shape == upright.shape
    np.testing.assert_allclose(got, upright.astype(float), atol=8)


def test_a_palette_image_with_an_orientation_is_turned_too(tmp_path: Path) -> None:
    indices, colours = _noise(2, 3) % 5, _noise(5, 3, seed=1)
    _palette(indices, colours).save(tmp_path / "a.png", exif=_with_orientation(6))
    np.testing.assert_array_equal(_rgb(tmp_path / "a.png"), np.rot90(colours[indices], -1))


def test_a_jpeg_with_unreadable_exif_is_shown_as_stored(tmp_path: Path) -> None:
    stored = Image.fromarray(_blocks(2, 3))
    stored.save(tmp_path / "plain.jpg", quality=95)
    stored.save(tmp_path / "odd.jpg", quality=95, exif=b"Exif\0\0this is no TIFF header")
    np.testing.assert_array_equal(_rgb(tmp_path / "odd.jpg"), _rgb(tmp_path / "plain.jpg"))


def test_an_animated_gif_arrives_as_its_first_frame(tmp_path: Path) -> None:
    colours = [(250, 10, 20), (10, 250, 20), (10, 20, 250)]
    first, *others = (Image.new("RGB", (6, 4), colour) for colour in colours)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=50, loop=0)
    with Image.open(tmp_path / "a.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 3
    assert (_rgb(tmp_path / "a.gif") == colours[0]).all()


@pytest.mark.parametrize("damage", [b"", b"no image at all", b"\xff\xd8\xff\xe0 a JPEG that ends here"])
def test_a_file_that_is_no_image_raises(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(damage)
    with pytest.raises((OSError, SyntaxError)):
        open_upright(tmp_path / "a.jpg")


def test_a_jpeg_that_was_cut_off_raises_instead_of_turning_grey(tmp_path: Path) -> None:
    whole = BytesIO()
    Image.fromarray(_noise(64, 64, 3)).save(whole, "JPEG")
    (tmp_path / "a.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(OSError, match=r"(?i)truncated"):
        open_upright(tmp_path / "a.jpg")


# Boxes


def _inside(box: Box, size: tuple[int, int]) -> bool:
    left, top, right, bottom = box
    return 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def _proportions(box: Box) -> float:
    return (box[2] - box[0]) / (box[3] - box[1])


def _largest_area(size: tuple[int, int], wanted: tuple[int, int]) -> float:
    aspect = wanted[1] / wanted[0]
    return min(size[0], size[1] * aspect) * min(size[1], size[0] / aspect)


@settings(deadline=None, database=None)
@given(size=SIZES, wanted=INPUTS, crop=st.sampled_from([0.8, 0.875, 0.95, 1.0]))
@example(size=(29, 129), wanted=(224, 224), crop=1.0)
@example(size=(129, 29), wanted=(224, 224), crop=1.0)
def test_the_central_box_is_centred_inside_the_image_and_keeps_the_networks_proportions(
    size: tuple[int, int], wanted: tuple[int, int], crop: float
) -> None:
    box = central_box(size, Preprocess(wanted, crop=crop))
    assert _inside(box, size)
    assert _proportions(box) == pytest.approx(wanted[1] / wanted[0], rel=1e-6)
    assert (box[0] + box[2]) / 2 == pytest.approx(size[0] / 2)
    assert (box[1] + box[3]) / 2 == pytest.approx(size[1] / 2)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert area == pytest.approx(crop**2 * _largest_area(size, wanted), rel=1e-6)


@settings(deadline=None, database=None, max_examples=300)
@given(size=SIZES, wanted=INPUTS, seed=st.integers(0, 2**63 - 1))
@example(size=(1, 1), wanted=(224, 224), seed=0)
@example(size=(20_000, 10), wanted=(224, 224), seed=0)
def test_a_random_box_stays_inside_the_image_and_keeps_the_networks_proportions(
    size: tuple[int, int], wanted: tuple[int, int], seed: int
) -> None:
    box = random_box(size, Preprocess(wanted), torch.Generator().manual_seed(seed))
    assert _inside(box, size)
    assert _proportions(box) == pytest.approx(wanted[1] / wanted[0], rel=1e-6)
    share = (box[2] - box[0]) * (box[3] - box[1]) / _largest_area(size, wanted)
    assert 0.2 - 1e-6 <= share <= 1 + 1e-6


@settings(deadline=None, database=None, max_examples=50)
@given(seed=st.integers(0, 2**63 - 1))
def test_a_random_box_depends_on_its_generator_alone(seed: int) -> None:
    first, second = (random_box((640, 427), Preprocess(), torch.Generator().manual_seed(seed)) for _ in range(2))
    assert first == second


def test_random_boxes_spread_evenly_over_areas_and_places() -> None:
    generator, size, how = torch.Generator().manual_seed(0), (640, 427), Preprocess((100, 100))
    boxes = np.array([random_box(size, how, generator) for _ in range(4000)])
    extent = boxes[:, 2:] - boxes[:, :2]
    shares = extent.prod(axis=1) / 427**2
    places = boxes[:, :2] / (np.array(size) - extent)  # 0: at the left or upper edge, 1: at the other
    for values, low, high in [(shares, 0.2, 1.0), (places[:, 0], 0.0, 1.0), (places[:, 1], 0.0, 1.0)]:
        counts, _ = np.histogram(values, bins=8, range=(low, high))
        assert counts.sum() == len(boxes)
        np.testing.assert_allclose(counts, len(boxes) / 8, rtol=0.2)
    dependence = np.corrcoef(np.column_stack([shares, places]), rowvar=False) - np.eye(3)
    assert np.abs(dependence).max() < 0.1


@pytest.mark.parametrize("size", EXTREMES)
@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_views_of_the_smallest_and_the_longest_images_can_be_cut(size: tuple[int, int], crop: float) -> None:
    how, generator = Preprocess((12, 16), crop=crop), torch.Generator().manual_seed(3)
    image = Image.new("RGB", size, (40, 50, 60))
    for box in [central_box(size, how), *(random_box(size, how, generator) for _ in range(20))]:
        assert (cut(image, box, how) == torch.tensor([40, 50, 60])[:, None, None]).all()


def test_the_central_box_of_every_size_can_be_cut() -> None:
    how = Preprocess((224, 224), crop=1.0)
    for side in range(1, 300):
        image = Image.new("RGB", (side, side + 100))
        assert cut(image, central_box(image.size, how), how).shape == (3, 224, 224)


PHOTO_SIZES = [(500, 375), (375, 500), (451, 300), (224, 224), (640, 427), (120, 90), (1500, 1001)]


@pytest.mark.parametrize("size", PHOTO_SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_central_view_is_timms_evaluation_transform(size: tuple[int, int], interpolation: str) -> None:
    how = Preprocess((224, 224), interpolation=interpolation, crop=0.875)
    twin = create_transform((3, 224, 224), interpolation=interpolation, crop_pct=0.875, mean=(0.0,) * 3, std=(1.0,) * 3)
    for image, atol in [(_photo(*size), 2.0), (_ramps(*size), 1.0)]:
        got = cut(image, central_box(size, how), how).float()
        assert (got - twin(image) * 255).abs().mean() < atol


@pytest.mark.parametrize("size", PHOTO_SIZES)
@pytest.mark.parametrize(("crop", "resized"), [(1.0, 224), (224 / 232, 232), (0.875, 256), (0.5, 448)])
def test_the_central_view_is_torchvisions_resize_and_central_crop(
    size: tuple[int, int], crop: float, resized: int
) -> None:
    how = Preprocess((224, 224), interpolation="bilinear", crop=crop)
    twin = v2.Compose([v2.Resize(resized, InterpolationMode.BILINEAR), v2.CenterCrop(224)])
    got = cut(_ramps(*size), central_box(size, how), how).float()
    expected = torch.from_numpy(np.array(twin(_ramps(*size)))).permute(2, 0, 1).float()
    # The ramps are coordinates: one pixel of the resized image is this many grey levels along the shorter side.
    assert (got - expected).abs().max() <= 255 / resized + 1


def test_a_network_that_is_not_square_sees_the_middle_of_its_own_proportions() -> None:
    how = Preprocess((100, 200), crop=1.0)
    assert central_box((300, 300), how) == pytest.approx((0, 75, 300, 225))
    assert central_box((900, 300), how) == pytest.approx((150, 0, 750, 300))
    half = Preprocess((100, 200), crop=0.5)
    assert central_box((300, 300), half) == pytest.approx((75, 112.5, 225, 187.5))


# Cutting


def _along(start: float, stop: float, count: int, total: int) -> torch.Tensor:
    """The ramp's grey levels (of `total` pixels) at the centres of `count` equal parts of start..stop."""
    centres = start + (torch.arange(count) + 0.5) * (stop - start) / count - 0.5
    return centres * 255 / (total - 1)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("box", [(60.0, 40.0, 180.0, 100.0), (0.0, 0.0, 400.0, 200.0), (101.3, 7.7, 150.9, 32.5)])
def test_a_ramp_is_cut_into_the_ramp_of_its_box(box: Box, interpolation: str) -> None:
    how = Preprocess((20, 40), interpolation=interpolation)
    got = cut(_ramps(400, 200), box, how)
    assert got.shape == (3, 20, 40)
    assert got.dtype == torch.uint8
    across, down = _along(box[0], box[2], 40, 400), _along(box[1], box[3], 20, 200)
    torch.testing.assert_close(got[0].float(), across.expand(20, 40), atol=3, rtol=0)
    torch.testing.assert_close(got[1].float(), down[:, None].expand(20, 40), atol=3, rtol=0)
    assert ((got[2].int() - 77).abs() <= 1).all()


def test_a_greyscale_network_sees_one_channel_of_the_usual_weights() -> None:
    how = Preprocess((20, 40), mean=(0.5,), std=(0.5,))
    got = cut(_ramps(400, 200), (60.0, 40.0, 180.0, 100.0), how)
    assert got.shape == (1, 20, 40)
    assert got.dtype == torch.uint8
    red, green = _along(60, 180, 40, 400), _along(40, 100, 20, 200)[:, None]
    torch.testing.assert_close(got[0].float(), 0.299 * red + 0.587 * green + 0.114 * 77, atol=3, rtol=0)


def test_a_box_at_its_own_size_is_the_picture_itself() -> None:
    pixels = _noise(30, 40, 3)
    got = cut(Image.fromarray(pixels), (5.0, 10.0, 25.0, 20.0), Preprocess((10, 20)))
    np.testing.assert_array_equal(got.permute(1, 2, 0), pixels[10:20, 5:25])


def test_bicubic_and_bilinear_are_what_pillow_calls_so() -> None:
    image, box = _photo(90, 70), (10.0, 10.0, 50.0, 50.0)
    for name, filter_ in [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]:
        expected = np.asarray(image.resize((64, 64), filter_, box=box))
        got = cut(image, box, Preprocess((64, 64), interpolation=name)).permute(1, 2, 0)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_large_reduction_averages_all_pixels_as_the_full_filter_does(interpolation: str) -> None:
    image = Image.fromarray(_noise(90, 120, 3)).resize((2400, 1800))
    box = (100.5, 50.25, 1700.5, 1650.25)
    filter_ = Image.Resampling[interpolation.upper()]
    expected = torch.from_numpy(np.array(image.resize((64, 64), filter_, box=box))).permute(2, 0, 1).float()
    got = cut(image, box, Preprocess((64, 64), interpolation=interpolation)).float()
    assert (got - expected).abs().mean() < 1
    assert (got - expected).abs().max() <= 6
