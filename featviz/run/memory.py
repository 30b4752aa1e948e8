"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's mallopt: when the heap's end goes back to the system, how much it grows by, how many blocks lie outside it.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Have this process keep freed memory for what it allocates next; of use to passes on a CPU, on Linux alone.

    Every layer's maps are tens of megabytes, which glibc otherwise gives back to the system and has zeroed page by page
    for the next layer: a third of the time of a scan. The process then stays as large as it was at its largest.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 2**26)
