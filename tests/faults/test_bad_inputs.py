"""No file, folder or table that lies among the images stops a run, and none is passed over in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_corpus import Kind, encoded, make_corpus, solid_png
from PIL import Image
from toys import toy_model

import atlas
from featviz.errors import UserError
from search import open_images
from search.images.datasets import from_stream
from search.images.decode import MOST_BYTES, MOST_PIXELS, UndecodableError, open_upright
from search.images.image_set import Images, readable
from search.scan.scan import Batch, scan

TESTS = Path(__file__).parents[1]
# What the process may take on top of what a scan of a good folder takes: less than one image of the largest size.
MORE_MEMORY = 300 * 2**20
# Every warning shows. The address space is bounded: what asks for gigabytes fails instead of filling the machine.
PRELUDE = """
import json, resource, sys, warnings
from pathlib import Path
import atlas
from bad_corpus import encoded
from search import open_images, scan
from toys import toy_model

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
warnings.simplefilter("always")
class Seen:
    numbers = set()
    def update(self, batch):
        self.numbers |= set(batch.index.tolist())
good = folder.parent / "good"
good.mkdir()
(good / "a.png").write_bytes(encoded("PNG"))
scan(toy_model(), open_images(good), ["4"], [Seen()], workers=0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
if sys.platform == "linux":
    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 4 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
images = open_images(folder)
(folder / "gone.png").unlink(missing_ok=True)
"""
SCAN = """
seen = Seen()
seen.numbers = set()
done = scan(toy_model(), images, ["4"], [seen], views=2, workers=int(sys.argv[3]))
print(json.dumps({
    "used": sorted(images.names[number] for number in seen.numbers),
    "skipped": [[each.name, each.reason] for each in done.skipped],
    "notes": images.notes, "count": len(images), "memory": peak() - before,
}))
"""
BUILD = """
built = atlas.build(
    toy_model(), "4", images, out=out, workers=0, grid=(2,), icon=16, steps=1, samples=4 * len(images), per_image=4,
    min_count=1, reducer="pca", tiles="both",
    effects=False,
)
atlas.load(out)
print(json.dumps({"memory": peak() - before}))
"""


def _run(program: str, folder: Path, out: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """What a program printed in a process of its own, which may not hang, and what it complained of."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    ran = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, str(folder), str(out), *arguments],
        capture_output=True, text=True, timeout=100, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]), ran.stderr


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, list[Kind]]:
    folder = tmp_path / "corpus"
    folder.mkdir()
    kinds = make_corpus(folder)
    assert len({kind.title for kind in kinds}) == len(kinds) >= 60
    return folder, kinds


@pytest.mark.parametrize("workers", [0, 1])
def test_a_scan_uses_every_image_it_can_and_names_every_other_entry_with_a_reason(
    corpus: tuple[Path, list[Kind]], tmp_path: Path, count_line: Callable[[str], None], workers: int
) -> None:
    folder, kinds = corpus
    found, complaints = _run(SCAN, folder, tmp_path / "out", str(workers))
    assert complaints == ""
    assert found["memory"] < MORE_MEMORY
    skipped, used = dict(found["skipped"]), set(found["used"])
    assert len(skipped) + len(used) == found["count"]
    for kind in kinds:
        name = readable(kind.name)
        if kind.fate == "noted":
            assert any(repr(name) in note for note in found["notes"]), kind
        elif kind.fate == "either":
            assert (name in skipped) != (kind.name in used), kind
        else:
            assert (name in skipped, kind.name in used) == (kind.fate == "skipped", kind.fate == "used"), kind
    for name, reason in skipped.items():
        assert reason.strip(), name
        assert str(tmp_path) not in reason
        assert repr(str(tmp_path))[1:-1] not in reason
    if workers == 0:
        count_line(f"bad inputs: {len(kinds)} kinds, 0 crashes, 0 hangs, {len(skipped)} skipped and named")


def test_an_atlas_is_built_on_what_can_be_used_and_its_manifest_names_the_rest(
    corpus: tuple[Path, list[Kind]], tmp_path: Path
) -> None:
    folder, kinds = corpus
    found, complaints = _run(BUILD, folder, tmp_path / "out")
    assert complaints == ""
    assert found["memory"] < MORE_MEMORY
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["images"]
    skipped = {entry["name"]: entry["reason"] for entry in manifest["skipped"]}
    assert {readable(kind.name) for kind in kinds if kind.fate == "skipped"} <= skipped.keys()
    assert all(reason.strip() and str(tmp_path) not in reason for reason in skipped.values())
    assert manifest["used"] + len(skipped) == manifest["found"]
    assert len(manifest["notes"]) == 2
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert str(tmp_path) not in page


# Folders


def _good(folder: Path, *names: str) -> Path:
    for name in names or ("a.png",):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded("PNG"))
    return folder


def test_a_folder_nested_more_deeply_than_a_path_can_say_is_noted(tmp_path: Path) -> None:
    _good(tmp_path)
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(20):  # 20 times 251 signs: a path ends at 4,096
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
        Path("lost.png").write_bytes(encoded("PNG"))
    finally:
        os.fchdir(here)
        os.close(here)
    images = open_images(tmp_path)
    assert images.names == ("a.png",)
    (note,) = images.notes
    assert "1 folder(s) could not be read" in note
    assert str(tmp_path) not in note


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_noted(tmp_path: Path) -> None:
    _good(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    try:
        images = open_images(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert images.names == ("a.png",)
    assert "'closed/ (" in images.notes[0]


def test_a_folder_of_links_to_folders_says_so_where_it_holds_no_images(tmp_path: Path) -> None:
    _good(tmp_path / "else")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "n01440764").symlink_to(tmp_path / "else")
    with pytest.raises(UserError, match=r"holds no images .* link\(s\) to folders were not followed: 'n01440764'"):
        open_images(tmp_path / "links")


def test_many_entries_of_one_kind_make_one_short_note(tmp_path: Path) -> None:
    _good(tmp_path)
    for number in range(1000):
        (tmp_path / f"link-{number:04d}").symlink_to(tmp_path)
    (note,) = open_images(tmp_path).notes
    assert note.startswith("1000 link(s)")
    assert "'link-0000'" in note
    assert "and 995 more" in note
    assert len(note) < 300


# Sizes


def test_an_image_of_the_most_pixels_is_decoded_and_one_row_more_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Image.MAX_IMAGE_PIXELS or 0) >= MOST_PIXELS
    monkeypatch.setattr("search.images.decode.MOST_PIXELS", 5000)
    (tmp_path / "a.png").write_bytes(solid_png(100, 50))
    (tmp_path / "b.png").write_bytes(solid_png(100, 51))
    assert open_upright(tmp_path / "a.png").size == (100, 50)
    with pytest.raises(UndecodableError, match="100 x 51 pixels; at most 5,000"):
        open_upright(tmp_path / "b.png")


def test_a_file_of_the_most_bytes_is_looked_at_and_one_byte_more_is_not(tmp_path: Path) -> None:
    file = tmp_path / "a.webp"
    file.write_bytes(encoded("PNG"))
    os.truncate(file, MOST_BYTES)
    assert open_upright(file).size == (40, 30)
    os.truncate(file, MOST_BYTES + 1)
    with pytest.raises(UndecodableError, match="larger than 1,073,741,824 bytes"):
        open_upright(file)


def test_a_bomb_in_a_stream_or_in_shards_is_refused_as_one_in_a_folder(tmp_path: Path) -> None:
    bomb, good = solid_png(11_000, 11_000), encoded("PNG")
    images = from_stream([(good, 0), (bomb, 1)], tmp_path / "kept")
    assert len(images) == 2
    with pytest.raises(UndecodableError, match="11000 x 11000 pixels"):
        images.open(1)
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for file in images.files:
            shard.add(file, file.name)
    shards = open_images(str(tmp_path / "a.tar"))
    assert shards.open(0).size == (40, 30)
    with pytest.raises(UndecodableError, match="11000 x 11000 pixels"):
        shards.open(1)


# labels.csv: each damage is refused in words, or borne with a note.

HEADER = "file,class_index,name\n"
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "needs the columns file and class_index"),
    "blank lines": (b"\n\n\n", "needs the columns"),
    "columns missing": (b"file,name\na.png,cat\n", r"it has \['file', 'name'\]"),
    "semicolons": (b"file;class_index\na.png;1\n", "needs the columns"),
    "no header": (b"a.png,1\nb.png,2\n", "needs the columns"),
    "NUL bytes": (b"file,class_index\na.png,1\0\n", "holds NUL bytes"),
    "UTF-16": ((HEADER + "a.png,1,cat\n").encode("utf-16"), "UTF-16 text .* should be a UTF-8 text"),
    "UTF-16 without a mark": ((HEADER + "a.png,1,cat\n").encode("utf-16-le"), "UTF-16"),
    "UTF-32": ((HEADER + "a.png,1,cat\n").encode("utf-32"), "UTF-16"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(50), "NUL bytes|needs the columns"),
    "a field of 200,000 signs": (b"file,class_index\n" + b"x" * 200_000 + b",1\n", "field larger than field limit"),
    "a quote never closed": (b'file,class_index\n"a.png,1\n' + b"b.png,2\n" * 30_000, "field larger than field limit"),
    "a line without end": (b"x" * (2**20 + 5), "a line of 1,048,576 signs"),
}
# Labels of a.png and b.png, and what the notes say.
BORNE: dict[str, tuple[bytes, tuple[int, int], tuple[str, ...]]] = {
    "header alone": (b"file,class_index\n", (-1, -1), ()),
    "byte order mark": (b"\xef\xbb\xbffile,class_index\na.png,1\n", (1, -1), ()),
    "CR line ends": (b"file,class_index\ra.png,1\rb.png,2\r", (1, 2), ()),
    "mixed line ends": (b"file,class_index\r\na.png,1\rb.png,2\n", (1, 2), ()),
    "rows twice": (b"file,class_index\na.png,1\na.png,1\n", (1, -1), ()),
    "contradicting rows": (b"file,class_index\na.png,1\na.png,2\n", (2, -1), ("1 image(s) more than one class",)),
    "huge class index": (b"file,class_index\na.png,99999999999999999999\n", (-1, -1), ("is no class's number",)),
    "class index of 2^31": (b"file,class_index\na.png,2147483648\nb.png,2147483647\n", (-1, 2**31 - 1),
                            ("1 image(s) a class_index that is no class's number, such as '2147483648' of 'a.png'",)),
    "class index of 5,000 digits": (b"file,class_index\na.png," + b"9" * 5000, (-1, -1), ("no class's number",)),
    "negative class index": (b"file,class_index\na.png,-5\nb.png,-1\n", (-1, -1), ("1 image(s)", "'-5' of 'a.png'")),
    "class index with a point": (b"file,class_index\na.png,1.0\n", (-1, -1), ("'1.0' of 'a.png'",)),
    "class index in words": (b"file,class_index\na.png,nan\n", (-1, -1), ("'nan' of 'a.png'",)),
    "ragged rows": (b"file,class_index\na.png\nb.png,2,x,y\n\n,7\n", (-1, 2), ()),
    "columns twice": (b"file,class_index,class_index\na.png,1,2\n", (2, -1), ()),
    "not UTF-8": (b"file,class_index,name\na.png,1,caf\xe9\nsch\xf6n.png,2,x\n", (1, -1),
                  ("1 file(s) that are not there", "sch\N{REPLACEMENT CHARACTER}n.png")),
    "a path out of the folder": (b"file,class_index\n../outside.jpg,3\na.png,1\n", (1, -1), ("'../outside.jpg'",)),
    "a path out and in again": (b"file,class_index\n../images/a.png,3\n", (-1, -1), ("1 file(s)",)),
    "absolute paths": (b"file,class_index\n/etc/passwd,3\n", (-1, -1), ("'/etc/passwd'",)),
    "dots before the name": (b"file,class_index\n./a.png,1\nsub/../b.png,2\n", (1, 2), ()),
    "back slashes": (b"file,class_index\n.\\a.png,1\n", (1, -1), ()),
    "web addresses": (b"file,class_index\nhttp://localhost:1/a.png,1\n", (-1, -1), ("1 file(s)",)),
    "100,000 files that are not there": (
        b"file,class_index\n" + b"".join(b"%d.png,1\n" % number for number in range(100_000)), (-1, -1),
        ("names 100000 file(s) that are not there, such as '0.png'",)),
}  # fmt: skip


def _with_table(tmp_path: Path, table: bytes) -> Path:
    (tmp_path / "outside.jpg").write_bytes(encoded("JPEG"))
    folder = _good(tmp_path / "images", "a.png", "b.png")
    (folder / "labels.csv").write_bytes(table)
    return folder


@pytest.mark.parametrize("damage", REFUSED)
def test_a_table_that_cannot_be_read_is_refused_with_what_it_should_be(tmp_path: Path, damage: str) -> None:
    table, words = REFUSED[damage]
    with pytest.raises(UserError, match=words) as caught:
        open_images(_with_table(tmp_path, table))
    assert "labels.csv" in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("damage", BORNE)
def test_a_table_with_odd_rows_is_read_and_the_odd_ones_are_noted(tmp_path: Path, damage: str) -> None:
    table, labels, words = BORNE[damage]
    images = open_images(_with_table(tmp_path, table))
    assert images.names == ("a.png", "b.png")
    assert images.labels == labels
    assert len(images.notes) == bool(words)
    assert all(word in note for word in words for note in images.notes)
    assert json.dumps(images.notes, ensure_ascii=False).encode()


@pytest.mark.parametrize("kind", ["folder", "link to nothing", "FIFO"])
def test_a_labels_csv_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    table = _good(tmp_path) / "labels.csv"
    {"folder": Path.mkdir, "link to nothing": lambda path: path.symlink_to("nowhere"), "FIFO": os.mkfifo}[kind](table)
    with pytest.raises(UserError, match=r"labels\.csv is no file"):
        open_images(tmp_path)


def test_ten_gigabytes_of_zeros_as_a_table_are_refused_at_once(tmp_path: Path) -> None:
    table = _with_table(tmp_path, b"file,class_index\n") / "labels.csv"
    os.truncate(table, 10 * 2**30)
    with pytest.raises(UserError, match=r"labels\.csv"):
        open_images(tmp_path / "images")


def test_rows_that_name_files_outside_have_nothing_outside_opened(tmp_path: Path) -> None:
    rows = ["../outside.jpg", "/etc/hostname", str(tmp_path / "outside.jpg"), "a.png/../../outside.jpg", "a.png"]
    table = HEADER + "".join(f"{row},1,x\n" for row in rows)
    folder = _with_table(tmp_path, table.encode())
    opened: list[str] = []
    watching = True
    sys.addaudithook(lambda event, found: opened.append(str(found[0])) if watching and event == "open" else None)
    try:
        images = open_images(folder)
        scan(toy_model(), images, ["4"], [_Nothing()], workers=0)
    finally:
        watching = False
    assert not [path for path in opened if "outside" in path or "hostname" in path]
    assert any(path.endswith("a.png") for path in opened)
    assert images.labels == (1, -1)
    assert images.names == ("a.png", "b.png")


class _Nothing:
    def update(self, batch: Batch) -> None: ...


def test_a_class_larger_than_any_network_has_does_not_stop_a_build(tmp_path: Path) -> None:
    folder = _with_table(tmp_path, b"file,class_index\na.png,2147483647\nb.png,7\n")
    built = atlas.build(
        toy_model(), "4", folder, grid=(2,), icon=16, steps=1, samples=32, min_count=1, reducer="pca", workers=0
    )
    assert built.manifest["images"]["used"] == 2


def test_an_image_set_without_files_says_what_its_items_raise(tmp_path: Path) -> None:
    class Broken:
        def __getitem__(self, number: int) -> Image.Image:
            if number:
                raise RuntimeError("no such row")
            return Image.new("RGB", (9, 9))

    images = Images("broken", ("x/0", "x/1"), (-1, -1), ("", ""), dataset=Broken())
    done = scan(toy_model(), images, ["4"], [_Nothing()], workers=0)
    assert [(each.name, each.reason) for each in done.skipped] == [("x/1", "RuntimeError: no such row")]
