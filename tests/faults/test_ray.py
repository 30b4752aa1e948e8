"""The Ray engine on a cluster of two nodes of one core each: other processes, real deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults_folder import contents
from ray_jobs import deaths, mistakes, naps, places, together, unprepared
from toys import noise_folder, toy_model
from typer.testing import CliRunner

from atlas.build import build
from atlas.cli import app
from atlas.exemplars import find_exemplars
from atlas.render import render_units
from featviz.draw.drawing import Drawing
from featviz.errors import UserError
from featviz.run.engine import Local, Prepare
from featviz.run.ray_engine import RayEngine

NODE = {"num_cpus": 1, "object_store_memory": 200 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a worker node on this machine, each with one core."""
    # For Ray's processes: nothing told to its makers, and this folder's modules found.
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def address(cluster: Any) -> str:
    found: str = cluster.address
    return found


@pytest.fixture(scope="module")
def engine(address: str) -> Iterator[RayEngine]:
    with RayEngine(address, threads=1) as found:
        yield found


def silent(number: int, share: float) -> None: ...


def silently(stage: str, done: int, total: int) -> None: ...


def test_results_come_in_the_order_of_the_jobs_from_several_processes(engine: RayEngine, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    jobs = [(number, float(chance.uniform(0, 0.05))) for number in range(40)]
    jobs[3] = (3, 1.0)  # the others overtake it
    told: list[int] = []
    meet = partial(together, folder=str(tmp_path), many=2)
    made = list(engine.map(meet, jobs, lambda number, share: told.append(number)))
    assert [int(each["number"]) for each in made] == told == list(range(40))
    assert len({int(each["process"]) for each in made}) == 2
    assert os.getpid() not in {int(each["process"]) for each in made}


def test_a_worker_that_is_killed_is_replaced_however_many_jobs_kill_one(engine: RayEngine, tmp_path: Path) -> None:
    jobs = [str(tmp_path / str(number)) for number in range(4)]
    # More deaths than a job may bring, and of one job as many.
    for job, lives in zip(jobs, (3, 0, 1, 0), strict=True):
        Path(job).write_text("x\n" * lives)
    assert [str(each["job"]) for each in engine.map(deaths, jobs, silent)] == jobs


def test_a_machine_that_is_lost_leaves_its_jobs_to_the_others(cluster: Any, engine: RayEngine, tmp_path: Path) -> None:
    node, lost_at, numbers, processes = cluster.list_all_nodes()[-1], 0, list[int](), list[int]()
    meet = partial(together, folder=str(tmp_path), many=2)
    try:
        for each in engine.map(meet, [(number, 0.1) for number in range(40)], silent):
            numbers.append(int(each["number"]))
            processes.append(int(each["process"]))
            if not lost_at and len(set(processes)) == 2:
                lost_at = len(numbers)
                cluster.remove_node(node, allow_graceful=False)
    finally:
        cluster.add_node(**NODE)
        cluster.wait_for_nodes()
    assert numbers == list(range(40))
    assert 0 < lost_at < 20
    assert len(set(processes[-8:])) == 1


def test_an_atlas_whose_workers_are_killed_is_the_same(engine: RayEngine, tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 600)
    killed: dict[str, int] = {}

    def kill(stage: str, done: int, total: int) -> None:
        if stage in ("reading images", "drawing icons") and 0 < done < total and stage not in killed:
            killed[stage] = _newest_worker()
            os.kill(killed[stage], signal.SIGKILL)

    for name, where in (("local", Local(1)), ("ray", engine)):
        build(
            toy_model(), "4", images, out=tmp_path / name, grid=(8, 16), icon=48, steps=4, samples=600, per_image=1,
            min_count=1, reducer="pca", engine=where, workers=0, progress=kill if name == "ray" else silently,
        )  # fmt: skip
    assert set(killed) == {"reading images", "drawing icons"}
    assert len(set(killed.values())) == 2
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def _newest_worker() -> int:
    """The process of the actor that was started last: one of an earlier stage may be on its way out."""
    started: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and (folder / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                started[int(folder.name)] = int(fields[19])
    return max(started, key=lambda process: started[process])


def test_a_job_that_kills_every_worker_is_given_up_with_what_to_do(engine: RayEngine, tmp_path: Path) -> None:
    (tmp_path / "0").write_text("\n".join("x" * 50))
    with pytest.raises(UserError, match=r"a Ray worker died 4 times at the same job .* the same command goes on"):
        list(engine.map(deaths, [str(tmp_path / "0")], silent))


@pytest.mark.parametrize("work", [mistakes, unprepared])
def test_an_error_in_a_worker_arrives_as_it_was(work: Prepare, engine: RayEngine) -> None:
    with pytest.raises(UserError, match=r"this layer has no maps\."):
        list(engine.map(work, [1], silent))


def test_more_threads_than_any_node_has_are_refused_with_what_there_is(address: str, engine: RayEngine) -> None:
    with pytest.raises(UserError, match=r"no node .* room for a worker of 64 thread\(s\) .* 1 cores"):
        list(RayEngine(address, threads=64).map(naps, [(0, 0.0)], silent))


def test_more_workers_than_there_is_room_for_are_refused_instead_of_waited_for(address: str, engine: RayEngine) -> None:
    with pytest.raises(UserError, match=r"--workers 3 of 1 thread\(s\) .* room for, 2\."):
        list(RayEngine(address, workers=3, threads=1).map(naps, [(0, 0.0)], silent))


def test_a_worker_for_which_others_leave_no_room_holds_nothing_up(address: str, engine: RayEngine) -> None:
    jobs = [(number, 0.01) for number in range(6)]
    other = engine.map(naps, [(0, 0.0), (1, 0.0)], silent)
    next(other)  # has a worker on both nodes until it ends
    mine = engine.map(naps, jobs, silent)
    other.close()
    assert [int(each["number"]) for each in mine] == list(range(6))


@pytest.mark.slow
def test_every_command_gives_the_same_bytes_from_local_and_ray(engine: RayEngine, tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 600)
    (images / "300.png").write_bytes(b"damaged")
    for name, where in (("local", Local(1)), ("ray", engine)):
        build(
            toy_model(), "4", images, out=tmp_path / name / "build", grid=(3, 6), icon=32, steps=6, samples=600,
            per_image=1, min_count=1, reducer="pca", cards=True, engine=where, workers=0,
        )  # fmt: skip
        find_exemplars(
            toy_model(), ["1", "4"], images=images, out=tmp_path / name / "exemplars", k=3, matrix=True, engine=where,
            workers=0,
        )  # fmt: skip
        render_units(
            toy_model(), ["4:*"], images=images, out=tmp_path / name / "render", drawing=Drawing(size=32, steps=6),
            engine=where, workers=0,
        )  # fmt: skip
    local, ray = contents(tmp_path / "local"), contents(tmp_path / "ray")
    assert local == ray
    assert {"build/cells.json", "build/icons/level-6.png", "exemplars/exemplars.json", "render/units.json"} <= set(ray)


@pytest.mark.slow
def test_the_command_works_on_the_cluster_that_ray_address_names(
    address: str, engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    words = ["build", "blocks.2", "--samples", "240", "--grid", "4", "--steps", "4", "--icon", "32", "--reducer", "pca"]
    words += ["--workers", "1", "--threads", "1", "--quiet"]
    for name in ("local", "ray"):
        done = CliRunner().invoke(app, [*words, "--engine", name, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    for file in ("cells.json", "icons/level-4.png"):
        assert (tmp_path / "ray" / file).read_bytes() == (tmp_path / "local" / file).read_bytes()


@pytest.mark.slow
def test_a_command_stopped_while_ray_works_says_what_goes_on(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = signal.SIGTERM  # the one that Ray has an answer of its own to
    monkeypatch.setenv("RAY_ADDRESS", address)
    out = tmp_path / "out"
    words = [
        "build",
        "blocks.2",
        "--samples",
        "240",
        "--grid",
        "8",
        "--steps",
        "200",
        "--icon",
        "32",
        "--engine",
        "ray",
        "--workers",
        "1",
        "--reducer",
        "pca",
    ]
    command = [sys.executable, "-c", "from atlas.cli import main; main()", *words, "--threads", "1", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (out / "draft" / "layout.npz").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert f"stopped by {number.name}; to go on from here: atlas build blocks.2" in said


def test_two_workers_share_a_gpu_and_more_than_there_are_is_refused(
    cluster: Any, address: str, engine: RayEngine
) -> None:
    node = cluster.add_node(**{**NODE, "num_cpus": 2, "num_gpus": 1})  # Ray counts GPUs, it does not look for them
    try:
        cluster.wait_for_nodes()
        made = list(RayEngine(address, threads=1, gpus=0.5).map(places, range(40), silent))
        assert {str(each["device"]) for each in made} == {"cuda"}
        assert {str(each["seen"]) for each in made} == {"0"}
        assert len({int(each["process"]) for each in made}) == 2
        with pytest.raises(UserError, match=r"no node .* room for a worker of 1 thread\(s\) and 2 GPU\(s\)"):
            list(RayEngine(address, threads=1, gpus=2).map(places, range(8), silent))
    finally:
        cluster.remove_node(node)


def test_an_engine_that_there_is_none_of_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["build", "--engine", "rai", "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UserError)
    assert "ray" in str(done.exception)
