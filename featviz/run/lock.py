"""A lock on a folder that one process holds, and that goes with the process, however it ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has another call
    fcntl = None  # type: ignore[assignment]


class Lock:
    """A file that one process at a time may lock; the process that holds it may lock it again.

    A POSIX record lock: the kernel drops it with the process, and processes that it forked, such as those that decode
    images, do not hold it. Threads of one process are not kept apart.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Whether the lock is held now; the file then names this process."""
        self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)
        if not _locked(self._descriptor):
            os.close(self._descriptor)
            self._descriptor = None
            return False
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())
        return True

    def holder(self) -> str:
        """The process that locked it last."""
        try:
            return self.file.read_text(encoding="utf-8") or "unknown"
        except OSError:
            return "unknown"

    def release(self) -> None:
        """Let another process lock it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _locked(descriptor: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            # Far behind the number that the file holds, which others then can read.
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as error:
        # Any other error is that of a file system without locks, on which nobody can hold one.
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True
