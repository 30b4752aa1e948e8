from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featviz.errors import UserError
from featviz.run.engine import Local, Place, Report, Work, blocks, kept_map, shares
from featviz.run.keep import NOWHERE, Arrays, Under
from featviz.run.output import OutputFolder
from featviz.run.ray_engine import RayEngine, _why_not


def squares(place: Place) -> Work:
    def work(jobs: Sequence[int], report: Report) -> Iterator[Arrays]:
        for number, job in enumerate(jobs):
            report(number, 0.5)
            yield {"square": np.array(job * job)}

    return work


def silent(number: int, share: float) -> None: ...


def test_local_gives_each_jobs_result_in_order() -> None:
    made = Local().map(squares, [3, 1, 2], silent)
    assert [int(each["square"]) for each in made] == [9, 1, 4]


def test_without_jobs_nothing_is_prepared() -> None:
    def never(place: Place) -> Work:
        raise AssertionError

    assert list(Local().map(never, [], silent)) == []


def test_threads_are_those_asked_for_while_it_works_and_the_old_ones_after() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def counted(place: Place) -> Work:
        def work(jobs: Sequence[int], report: Report) -> Iterator[Arrays]:
            for _ in jobs:
                seen.append(torch.get_num_threads())
                yield {}

        return work

    list(Local(threads=before + 1).map(counted, [1, 2], silent))
    assert seen == [before + 1] * 2
    assert torch.get_num_threads() == before


def test_threads_below_0_are_refused() -> None:
    with pytest.raises(UserError, match=r"--threads starts at 1"):
        Local(-1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_of_a_cluster_at_which_nobody_listens_is_refused_at_once(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=rf"no Ray cluster answers at {address} .*refused.* `ray start --head`"):
        RayEngine(address).__enter__()


def test_a_cluster_that_wants_a_token_is_told_from_one_that_does_not_answer() -> None:
    assert "set RAY_AUTH_MODE=token" in _why_not("10.0.0.1:6379", RuntimeError("Unauthenticated: no Token given\nmore"))
    assert _why_not("10.0.0.1:6379", RuntimeError("gone\nmore")) == "no Ray cluster answers at 10.0.0.1:6379: gone"
    assert _why_not(None, RuntimeError("")) == "Ray does not start here: RuntimeError"


@pytest.mark.parametrize("there", [[], [0], [1], [2], [0, 2], [0, 1, 2]])
def test_what_was_kept_is_not_done_again_and_the_order_stays(there: list[int], tmp_path: Path) -> None:
    folder = OutputFolder.claim(tmp_path / "out", {})
    jobs = {f"job-{number}": number + 2 for number in range(3)}
    for number in there:
        folder.arrays(f"job-{number}", lambda: {"square": np.array(-1)})
    told: list[tuple[int, float]] = []
    keep = Under("part", folder) if there == [1] else folder
    for number in there if keep is not folder else []:
        keep.arrays(f"job-{number}", lambda: {"square": np.array(-1)})
    found = kept_map(Local(), keep, squares, jobs, lambda number, share: told.append((number, share)))
    wanted = [-1 if number in there else (number + 2) ** 2 for number in range(3)]
    assert [(name, int(arrays["square"])) for name, arrays in found] == list(zip(jobs, wanted, strict=True))
    assert [number for number, share in told if share == 0.5] == [each for each in range(3) if each not in there]
    assert bool(told) == (len(there) < 3)
    assert all(keep.has(name) for name in jobs)
    again = kept_map(Local(), keep, squares, jobs, lambda number, share: told.clear())
    assert [int(arrays["square"]) for _, arrays in again] == wanted
    assert bool(told) == (len(there) < 3)  # nothing was done again, so that nothing was told


def test_nowhere_keeps_nothing() -> None:
    assert not NOWHERE.has("x")
    assert NOWHERE.room("x") is None
    assert NOWHERE.latest("x") is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.data())
def test_shares_of_jobs_add_up_to_the_whole(sizes: list[int], data: st.DataObject) -> None:
    told: list[tuple[int, int]] = []
    report = shares(lambda stage, done, total: told.append((done, total)), "stage", sizes)
    for number in range(len(sizes)):
        for share in sorted(data.draw(st.lists(st.floats(0, 1), max_size=3))):
            report(number, share)
        report(number, 1.0)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (sum(sizes), sum(sizes))


@given(st.integers(0, 200), st.integers(1, 60))
def test_blocks_hold_everything_once_in_order(count: int, size: int) -> None:
    found = blocks("icons", count, size)
    assert [number for block in found.values() for number in block] == list(range(count))
    assert all(len(block) <= size for block in found.values())
    assert list(found) == sorted(found)
