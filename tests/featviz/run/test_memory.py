from __future__ import annotations

import subprocess
import sys

import pytest

# How many pages the tensors of a pass over layers have to be given, once a first pass has freed its own. A single
# tensor would not do: whatever comes to lie right behind it can keep its place from being used again.
SCRIPT = """
import resource, torch
from featviz.memory import keep_freed_memory
{call}
def run():
    for megabytes in (64, 48, 32, 64, 32, 48, 64, 32):
        torch.ones(megabytes * 2**18)
run()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", SCRIPT.format(call=call)], capture_output=True, check=True).stdout)
        for call in ("keep_freed_memory()", "")
    )
    assert kept < given_back / 3
