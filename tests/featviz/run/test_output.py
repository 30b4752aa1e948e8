from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featviz.errors import UserError
from featviz.run.output import OutputFolder

IDENTITY = {"command": "build", "settings": {"seed": 0, "grid": (10, 20)}}


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_finished_once_its_manifest_is_there(tmp_path: Path) -> None:
    out = OutputFolder.claim(tmp_path / "a" / "b", IDENTITY)
    assert not out.finished
    out.finish({"command": "build"})
    assert out.finished
    assert not out.draft.exists()
    assert json.loads((out.path / "manifest.json").read_text())["identity"]["settings"]["grid"] == [10, 20]


def test_the_same_work_resumes_and_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    first = OutputFolder.claim(tmp_path, IDENTITY).arrays("stage", lambda: {"x": np.arange(3), "t": np.array("é")})
    again = OutputFolder.claim(tmp_path, IDENTITY).arrays("stage", lambda: pytest.fail("computed again"))
    assert np.array_equal(first["x"], again["x"])
    assert str(again["t"]) == "é"


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_and_nothing_is_touched(tmp_path: Path, finished: bool) -> None:
    out = OutputFolder.claim(tmp_path, IDENTITY)
    out.write("picture.png", lambda path: path.write_bytes(b"picture"))
    if finished:
        out.finish({})
    before = _snapshot(tmp_path)
    with pytest.raises(UserError, match=r"seed was 0, is 1.*--overwrite"):
        OutputFolder.claim(tmp_path, {"command": "build", "settings": {"seed": 1, "grid": [10, 20]}})
    assert _snapshot(tmp_path) == before


def test_overwrite_replaces_our_own_folder_only(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    OutputFolder.claim(ours, IDENTITY).finish({})
    fresh = OutputFolder.claim(ours, {"command": "other"}, overwrite=True)
    assert not fresh.finished
    others.mkdir()
    (others / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        OutputFolder.claim(others, IDENTITY, overwrite=True)
    assert (others / "thesis.txt").read_text() == "years of work"


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match="is a file"):
        OutputFolder.claim(file, IDENTITY)
    with pytest.raises(UserError, match="cannot be written"):
        OutputFolder.claim(file / "below", IDENTITY)
    assert file.read_text() == "x"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where not even root may make folders")
def test_a_place_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be written"):
        OutputFolder.claim("/proc/atlas-out", IDENTITY)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    out = OutputFolder.claim(tmp_path, IDENTITY)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        out.write("page.html", fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft"]


def test_a_damaged_manifest_counts_as_another_work(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{ cut off")
    with pytest.raises(UserError, match="a finished folder whose settings cannot be read"):
        OutputFolder.claim(tmp_path, IDENTITY)


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    out = OutputFolder.claim(tmp_path, IDENTITY)
    with pytest.raises(ValueError, match="JSON"):
        out.write_json("x.json", {"x": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_a_step_may_be_kept_twice(tmp_path: Path) -> None:
    out = OutputFolder.claim(tmp_path, IDENTITY)
    for number in (1, 2):
        out.advance("scan", 7, {"x": np.full(3, number)})
    kept = out.latest("scan")
    assert kept is not None
    assert (kept[0], kept[1]["x"].tolist()) == (7, [2, 2, 2])


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({"from": None}, {"from": {"command": "build", "k": 4}}, r"\(from is of other work\)"),
        ({"from": {"command": "build", "k": 3}}, {"from": {"command": "build", "k": 4}}, r"\(from is of other work\)"),
        (
            {"k": 1, "from": {"command": "build", "k": 3}},
            {"k": 2, "from": {"command": "build", "k": 3}},
            "k was 1, is 2",
        ),
        ({"sample_of": None}, {"sample_of": {"command": "build"}}, r"\(the activations are of another atlas\)"),
        ({"images": "0f"}, {"images": "1f"}, r"\(the images are not the same"),
        ({"images": None}, {"images": "1f"}, r"\(images was None, is '1f'\)"),
        ({"command": "unit"}, {"command": "build"}, "a finished folder of `unit`, not of `build`"),
    ],
)
def test_a_refusal_says_what_differs(first: Any, second: Any, told: str, tmp_path: Path) -> None:
    OutputFolder.claim(tmp_path, {"command": "classes", **first}).finish({})
    with pytest.raises(UserError, match=told):
        OutputFolder.claim(tmp_path, {"command": "classes", **second})


def test_work_that_goes_step_by_step_keeps_its_last_step_alone(tmp_path: Path) -> None:
    out = OutputFolder.claim(tmp_path, IDENTITY)
    assert out.latest("scan") is None
    for step in (9, 10, 200):
        out.advance("scan", step, {"x": np.arange(step)})
    again = OutputFolder.claim(tmp_path, IDENTITY).latest("scan")
    assert again is not None
    assert (again[0], len(again[1]["x"])) == (200, 200)
    assert len(list(out.draft.glob("*.npz"))) == 1


def test_of_two_steps_that_a_killed_run_left_the_later_counts(tmp_path: Path) -> None:
    out = OutputFolder.claim(tmp_path, IDENTITY)
    out.advance("scan", 5, {"x": np.zeros(1)})
    before = next(out.draft.glob("scan-*.npz"))
    kept = before.read_bytes()
    out.advance("scan", 40, {"x": np.ones(1)})
    before.write_bytes(kept)
    found = out.latest("scan")
    assert found is not None
    assert (found[0], float(found[1]["x"][0])) == (40, 1.0)


def test_overwrite_goes_on_with_unfinished_work_of_its_own_and_makes_finished_work_again(tmp_path: Path) -> None:
    for state in ("unfinished", "unfinished, by other images", "finished"):
        out = tmp_path / state
        first = OutputFolder.claim(out, IDENTITY, unchanged={"images last changed": "1"})
        first.arrays("layout", lambda: {"xy": np.zeros(1)})
        if state == "finished":
            first.finish({})
        changed = "2" if state.endswith("other images") else "1"
        again = OutputFolder.claim(out, IDENTITY, overwrite=True, unchanged={"images last changed": changed})
        assert not again.finished
        assert again.has("layout") == (state == "unfinished")


def test_a_run_killed_while_it_overwrites_leaves_nothing_that_passes_for_its_work(tmp_path: Path) -> None:
    """At each moment of the clearing, from the marker on."""
    for gone in ([], ["draft/layout.npz"], ["manifest.json"], ["manifest.json", "atlas.png", "draft/layout.npz"]):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        old = OutputFolder.claim(out, {"seed": 0})
        old.arrays("layout", lambda: {"xy": np.zeros(1)})
        old.write_text("atlas.png", "old")
        old.write_json("manifest.json", {"identity": {"seed": 0}})
        (out / "draft" / "identity.json").write_text('{"clearing": true}')
        for name in gone:
            (out / name).unlink()
        new = OutputFolder.claim(out, {"seed": 1}, overwrite=not gone)
        assert not new.finished
        assert not new.has("layout")
        assert not (out / "atlas.png").exists()


def test_a_result_without_its_end_counts_as_none(tmp_path: Path) -> None:
    folder = OutputFolder.claim(tmp_path, {})
    folder.arrays("layout", lambda: {"xy": np.ones(1)})
    file = folder.draft / "layout.npz"
    file.write_bytes(file.read_bytes()[:40])
    assert not folder.has("layout")
    assert folder.arrays("layout", lambda: {"xy": np.zeros(1)})["xy"] == 0
    (folder.draft / "scan-000000000004.npz").write_bytes(b"")
    assert folder.latest("scan") is None
