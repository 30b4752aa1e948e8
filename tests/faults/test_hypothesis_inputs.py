"""Whatever is typed, tabled or lies in a file: a result, or a `UserError` in words."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_corpus import encoded, picture
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from toys import toy_model

from atlas.commands.options import numbers
from atlas.settings import Settings
from featviz.draw.drawing import Drawing
from featviz.errors import UserError
from featviz.network.layers import find_layer, find_layers, layer_names
from featviz.network.models import Model
from featviz.network.units import Unit, parse_units
from search import open_images
from search.images.datasets import from_stream
from search.images.decode import UndecodableError, open_upright

FEW = settings(deadline=None, database=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(FEW, max_examples=400)
ANY = st.text(max_size=60)
DIGITS = st.text("0123456789²٣-,", min_size=1, max_size=6000)
# Words that are nearly units: they come further than any text.
PARTS = st.sampled_from(
    ["3", "0", "*", ":", "@", ",", "-", "#", "class", "a", "center", "1,1", "0-2", "9" * 5000, "x.npy", "[", "?", "\0",
     "\ud800", "output", " ", "²", "٣", ".", "/", "conv", "1e3"],
)  # fmt: skip
WORDS = st.one_of(ANY, st.lists(PARTS, max_size=9).map("".join))


def _says(error: Exception, word: str, *, never: str = "\0") -> None:
    assert str(error).strip()
    assert word in str(error)
    assert never not in str(error)


@cache
def _model() -> Model:
    return toy_model()


@MANY
@given(WORDS)
@example("3:" + "9" * 5000)
@example("3:0@" + "9" * 5000 + ",0")
@example("3:\0#0")
@example("3:\ud800.npy#0")
@example("3:/dev/zero#0")
@example("class:" + "9" * 5000)
@example("class:")
@example("class: ")
def test_any_text_as_a_unit_names_units_or_says_what_to_write(text: str) -> None:
    with suppress(UserError):
        units = parse_units(text, _model())
        assert units
        assert all(isinstance(unit, Unit) for unit in units)
        for unit in units:
            assert parse_units(str(unit), _model()) == [unit]


@MANY
@given(WORDS)
@example("[")
@example("[!]]")
@example("*" * 50 + "x")
def test_any_text_as_a_layer_or_a_glob_finds_layers_or_says_which_there_are(text: str) -> None:
    network = _model().network
    with suppress(UserError):
        assert find_layers(network, text)
    if text in layer_names(network):
        find_layer(network, text)
    elif text != "output":
        with pytest.raises(UserError, match="the closest are"):
            find_layer(network, text)


@MANY
@given(st.one_of(ANY, DIGITS, st.integers(), st.sampled_from(["a", "B", " c ", "", "d\0", "\ud800"])))
@example("9" * 5000)
@example(10**4000)
def test_any_text_as_a_class_is_its_number_or_an_error_in_words(name: str | int) -> None:
    try:
        index = _model().class_index(name)
    except UserError as error:
        _says(error, "")
    else:
        assert 0 <= index < 4


@FEW
@given(st.one_of(ANY, DIGITS), st.sampled_from([int, float]))
def test_any_text_as_numbers_is_numbers_or_an_error_that_names_the_option(text: str, kind: Any) -> None:
    try:
        assert all(isinstance(each, kind) for each in numbers(text, "--grid", kind))
    except UserError as error:
        _says(error, "--grid")


# Tables

CELLS = st.one_of(
    st.sampled_from(["a.png", "sub/b.png", "file", "class_index", "name", "1", "-1", "9" * 30, "9" * 5000, '"', "'"]),
    ANY,
)
TABLES = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=200).map(lambda data: b"file,class_index,name\n" + data),
    st.lists(st.lists(CELLS, max_size=5).map(",".join), max_size=8).map(
        lambda rows: "\n".join(["file,class_index", *rows]).encode("utf-8", "surrogatepass")
    ),
    ANY.map(lambda text: text.encode("utf-16", "surrogatepass")),
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (folder / name).write_bytes(encoded("PNG", picture(4, 4)))
    return folder


@MANY
@given(TABLES)
def test_any_bytes_as_a_table_of_labels_are_labels_or_an_error_in_words(labelled: Path, table: bytes) -> None:
    (labelled / "labels.csv").write_bytes(table)
    try:
        images = open_images(labelled)
    except UserError as error:
        _says(error, "labels.csv")
        return
    assert images.names == ("a.png", "sub/b.png")
    assert len(images.labels) == len(images.class_names) == 2
    assert all(-1 <= label < 2**31 for label in images.labels)
    assert len("".join(images.notes)) < 1500
    "".join((*images.notes, *images.class_names)).encode("utf-8")  # as JSON has them
    assert images.fingerprint


@FEW
@given(st.one_of(ANY, DIGITS, st.integers(), st.floats(), st.none(), st.booleans(), st.binary(max_size=9)))
def test_any_label_in_a_stream_is_a_class_or_none(tmp_path_factory: pytest.TempPathFactory, label: Any) -> None:
    images = from_stream([(encoded("PNG", picture(4, 4)), label)], tmp_path_factory.mktemp("stream"))
    assert -1 <= images.labels[0] < 2**31


# Directions

ARRAYS = [
    np.zeros((0, 6)), np.zeros((2, 6)), np.zeros(6), np.zeros((2, 6), complex), np.array(["a"]),
    np.full((1, 6), np.nan), np.full((1, 6), 1e300), np.zeros((2, 6), ">f8"), np.zeros((2, 6), np.longdouble),
]  # fmt: skip


@FEW
@given(st.sampled_from(ARRAYS), st.data())
def test_any_file_of_directions_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, array: Any, data: st.DataObject
) -> None:
    stream = io.BytesIO()
    data.draw(st.sampled_from([np.save, np.savez]))(stream, array)
    file = tmp_path_factory.mktemp("directions") / "d.npy"
    file.write_bytes(_mutated(stream.getvalue(), data))
    with suppress(UserError):
        (unit,) = parse_units(f"3:{file}#0", _model())
        assert unit.direction(6).shape == (6,)


# Images

BYTES = {
    (kind, mode): encoded(kind, picture(17, 13, mode), **options)
    for kind, mode, options in [
        ("JPEG", "RGB", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("PNG", "RGBA", {}), ("PNG", "P", {"transparency": 1}), ("PNG", "I;16", {}),
        ("GIF", "P", {"save_all": True, "append_images": [picture(17, 13, "L")]}),
        ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "F", {}), ("TIFF", "1", {"compression": "group4"}),
        ("BMP", "RGB", {}), ("PPM", "RGB", {}), ("JPEG2000", "RGB", {}),
    ]
}  # fmt: skip


def _mutated(whole: bytes, data: st.DataObject) -> bytes:
    """Bytes of which some are changed, left out or added, most of them in the header."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 8))):
        last = max(0, len(changed) - 1)
        start = data.draw(st.one_of(st.integers(0, min(last, 120)), st.integers(0, last)))
        length = data.draw(st.sampled_from([0, 1, 1, 2, 4, 40]))
        changed[start : start + length] = data.draw(st.one_of(st.binary(max_size=4), st.just(b"\xff" * length)))
    return bytes(changed)


@settings(MANY, max_examples=600)
@given(st.sampled_from(sorted(BYTES)), st.data())
def test_any_damage_to_an_image_leaves_an_image_or_a_reason(kind: tuple[str, str], data: st.DataObject) -> None:
    damaged = _mutated(BYTES[kind], data)
    try:
        image = open_upright(io.BytesIO(damaged))
    except UndecodableError as error:
        _says(error, "")
    else:
        assert image.mode == "RGB"
        assert min(image.size) >= 1
        assert isinstance(image, Image.Image)


@FEW
@given(st.sampled_from(sorted(BYTES)), st.data())
def test_a_damaged_file_has_a_size_if_and_only_if_it_has_a_header(
    tmp_path_factory: pytest.TempPathFactory, kind: tuple[str, str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "a.png").write_bytes(_mutated(BYTES[kind], data))
    images = open_images(folder)
    try:
        size = images.size(0)
    except UndecodableError as error:
        _says(error, "", never=str(folder))
        with pytest.raises(UndecodableError):
            images.open(0)
        return
    with suppress(UndecodableError):
        assert images.open(0).size == size


# Settings

NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -1, -0.5, 0, 10**400, 2**63, 1e308])
)
RANGED = ("icon", "steps", "samples", "per_image", "attempts", "min_count", "lr", "power", "ridge", "seed")


@pytest.mark.parametrize("name", RANGED)
@FEW
@given(value=NUMBERS)
def test_any_number_as_a_setting_is_taken_or_refused_by_its_option(name: str, value: float) -> None:
    try:
        made = Settings(layer="x", **{name: value})
    except UserError as error:
        _says(error, f"--{name.replace('_', '-')} ")
    else:
        assert 0 <= getattr(made, name) < 2**63


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -0.001])
@pytest.mark.parametrize("name", ["lr", "power", "ridge", "min_count", "seed"])
def test_settings_that_are_no_numbers_or_negative_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} "):
        Settings(layer="x", **{name: value})


@FEW
@given(st.lists(NUMBERS, max_size=4).map(tuple))
def test_any_numbers_as_grids_are_taken_or_refused(grid: Any) -> None:
    try:
        made = Settings(layer="x", grid=grid)
    except UserError as error:
        _says(error, "--grid")
    else:
        assert made.grid
        assert all(1 <= size <= 1000 for size in made.grid)


@pytest.mark.parametrize("name", ["size", "steps", "lr", "attempts", "diversity", "seed"])
@FEW
@given(value=NUMBERS)
def test_any_number_as_how_pictures_are_drawn_is_taken_or_refused_by_its_option(name: str, value: float) -> None:
    try:
        made = Drawing(**{name: value})
    except UserError as error:
        _says(error, f"--{name}")
    else:
        assert 0 <= getattr(made, name) < 2**63


@pytest.mark.parametrize("name", ["canvas", "transparency", "precision"])
@FEW
@given(value=st.one_of(ANY, st.sampled_from(["", "fourier ", "None", "float64"])))
def test_any_word_as_a_choice_is_one_of_them_or_refused_with_the_closest(name: str, value: Any) -> None:
    with suppress(UserError):
        assert getattr(Drawing(**{name: value}), name) == value


@FEW
@given(ANY)
def test_any_word_as_what_a_cell_shows_is_one_of_them_or_refused(value: str) -> None:
    if value not in ("icons", "photos", "both"):
        with pytest.raises(UserError, match="--tiles takes icons, photos, both"):
            Settings(layer="x", tiles=value)
