from __future__ import annotations

import subprocess
import sys

import pytest

# How many pages a second tensor of 64 MB has to be given, once a first one is freed.
SCRIPT = """
import resource, torch
from featviz.memory import keep_freed_memory
{call}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    found = [
        int(subprocess.run([sys.executable, "-c", SCRIPT.format(call=call)], capture_output=True, check=True).stdout)
        for call in ("keep_freed_memory()", "")
    ]
    assert found[0] < 1000 < 10_000 < found[1]
