from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from featviz.errors import UserError
from featviz.run.lock import Lock
from featviz.run.output import OutputFolder

_HOLDER = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from featviz.lock import Lock\n"
    "assert Lock(Path(sys.argv[1])).acquire()\n"
    "print('held', flush=True)\n"
    "time.sleep(60)\n"
)


def held_elsewhere(file: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_that_another_process_holds_cannot_be_had_and_says_whose_it_is(tmp_path: Path) -> None:
    other = held_elsewhere(tmp_path / "lock")
    lock = Lock(tmp_path / "lock")
    assert not lock.acquire()
    assert lock.holder() == str(other.pid)
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    assert lock.acquire()
    assert lock.holder() == str(os.getpid())
    lock.release()


def test_a_locked_folder_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "draft").mkdir(parents=True)
    other = held_elsewhere(out / "draft" / "lock")
    with pytest.raises(UserError, match=rf"being written by another run \(process {other.pid}\)"):
        OutputFolder.claim(out, {"a": 1})
    assert [file.name for file in (out / "draft").iterdir()] == ["lock"]
    with pytest.raises(UserError, match="another run"):
        OutputFolder.claim(out, {"a": 1}, overwrite=True)
    other.kill()
    other.communicate()
    OutputFolder.claim(out, {"a": 1})


def _sleep() -> None:
    signal.pause()


def test_a_process_that_was_forked_does_not_hold_the_lock(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert lock.acquire()
    child = multiprocessing.get_context("fork").Process(target=_sleep)
    child.start()
    lock.release()
    other = held_elsewhere(tmp_path / "lock")  # while the child lives
    assert child.is_alive()
    for process in (child, other):
        process.kill()
    child.join()
    other.communicate()


def test_overwriting_keeps_the_lock(tmp_path: Path) -> None:
    OutputFolder.claim(tmp_path, {"a": 1}).write_text("draft/x.txt", "x")
    OutputFolder.claim(tmp_path, {"a": 2}, overwrite=True)
    assert {file.name for file in (tmp_path / "draft").iterdir()} == {"lock", "identity.json"}
    assert held_is_refused(tmp_path / "draft" / "lock")


def held_is_refused(file: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", _HOLDER, str(file)], capture_output=True)
    return done.returncode != 0
