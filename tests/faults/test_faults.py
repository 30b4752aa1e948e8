"""Full disks, folders that cannot be written, signals, two runs at once, images that change under a run."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults_folder import contents
from toys import noise_folder, toy_model
from typer.testing import CliRunner

from atlas.build import build
from atlas.cli import app
from featviz.errors import UserError
from featviz.run.output import OutputFolder

SMALL = {"grid": (3,), "icon": 32, "steps": 4, "samples": 60, "min_count": 1, "reducer": "pca"}
# The command itself, on the embedded network and photographs: long enough to be stopped, quick to resume.
_COMMAND = ["build", "blocks.2", "--samples", "240", "--grid", "4", "--steps", "40", "--icon", "32", "--reducer", "pca"]


class StopRun(Exception):  # noqa: N818
    pass


def stop_in(stage: str) -> Callable[[str, int, int], None]:
    def progress(name: str, done: int, total: int) -> None:
        if name == stage:
            raise StopRun

    return progress


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    """`atlas build` in a process group of its own, as a shell starts it."""
    words = [sys.executable, "-c", "from atlas.cli import main; main()", *_COMMAND, "--out", str(out), *more]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not found():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 40)
    build(toy_model(), "4", images, out=tmp_path / "whole", **SMALL)
    ballast = small_disk / "ballast"
    out = small_disk / "out"
    ballast.write_bytes(bytes(900_000))
    with pytest.raises((OSError, UserError), match="No space left"):
        build(toy_model(), "4", images, out=out, **SMALL)
    assert not (out / "manifest.json").exists()
    ballast.unlink()
    build(toy_model(), "4", images, out=out, **SMALL)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_full_disk_is_told_in_one_paragraph(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    process = start(small_disk / "out")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "No space left on device" in said
    assert "Traceback" not in said


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    seen: list[str] = []
    with pytest.raises(UserError, match="cannot be written: Read-only file system"):
        build(
            toy_model(), "4", noise_folder(tmp_path / "images"), out=small_disk / "out",
            progress=lambda stage, done, total: seen.append(stage), **SMALL,
        )  # fmt: skip
    assert not seen


@pytest.mark.parametrize("change", ["same size, other content", "an older file of the same size", "gone"])
def test_images_that_change_between_start_and_resume_are_noticed(change: str, tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 40)
    with pytest.raises(StopRun):
        build(toy_model(), "4", images, out=tmp_path / "out", progress=stop_in("drawing icons"), **SMALL)
    file = images / "007.png"
    if change == "gone":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[-20] ^= 1
        file.write_bytes(data)
        if change.startswith("an older"):
            os.utime(file, (1e9, 1e9))
    with pytest.raises(UserError, match=r"unfinished folder made with other settings .*images (are not|were changed)"):
        build(toy_model(), "4", images, out=tmp_path / "out", **SMALL)
    build(toy_model(), "4", images, out=tmp_path / "out", overwrite=True, **SMALL)


def test_a_finished_folder_does_not_ask_when_its_images_were_copied(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 40)
    build(toy_model(), "4", images, out=tmp_path / "out", **SMALL)
    copy = shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copyfile)
    assert build(toy_model(), "4", copy, out=tmp_path / "out", **SMALL).cells


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_what_goes_on_and_does(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out with space"
    longer = ["--steps", "60", "--grid", "2"]  # it must not end before the signal comes
    process = start(out, "--overwrite", *longer)
    wait_for((out / "draft" / "layout.npz").is_file, process)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    told = said.partition("to go on from here: ")[2]
    again = shlex.split(told)
    assert again == ["atlas", *_COMMAND, "--out", str(out), "--overwrite", *longer]
    result = CliRunner().invoke(app, again[1:])
    assert result.exit_code == 0, result.output
    assert (out / "manifest.json").is_file()


@pytest.mark.slow
def test_of_two_runs_into_one_folder_the_second_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(out, "--workers", "1")
    wait_for(lambda: (out / "draft" / "identity.json").is_file(), first)
    second = start(out)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"is being written by another run (process {first.pid})" in " ".join(said.split())
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    # At once: processes that decode images for the first may still be there.
    assert CliRunner().invoke(app, [*_COMMAND, "--out", str(out)]).exit_code == 0
    assert not (out / "draft").exists()


def test_one_process_may_take_a_folder_up_again_after_an_error(tmp_path: Path) -> None:
    first = OutputFolder.claim(tmp_path / "out", {})
    again = OutputFolder.claim(tmp_path / "out", {})
    again.finish({})
    assert first.finished
    assert not (tmp_path / "out" / "draft").exists()
