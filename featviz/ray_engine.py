"""The engine that has the workers of a Ray cluster do the jobs (extra: ray)."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch

from .engine import Place, Prepare, Report, Work, check_threads, decoders_beside
from .errors import UserError
from .keep import Arrays

# Jobs that each worker has before it, and results that wait for an earlier one: more would only fill memory.
_AHEAD, _WAITING = 2, 4
# How often a worker that died is started again, and a job that died with it.
_RETRIES = 3


@dataclass(frozen=True)
class RayEngine:
    """Workers of a Ray cluster, or of this machine where none is running; results are those of `Local`.

    address: of the cluster, such as `10.0.0.1:6379`; None takes what RAY_ADDRESS names, else starts Ray on this
    machine, and stops it at the end of the `with`. workers: how many, 0 for as many as there is room for. threads: of
    each worker, 0 for as many as torch has here. gpus: that each worker takes, 0.5 for two on one; its network then
    runs there.

    A worker that dies is started again with the job it had, up to three times. Raises `UserError` where Ray is missing
    or has no room for one worker.
    """

    address: str | None = None
    workers: int = 0
    threads: int = 0
    gpus: float = 0.0
    connected: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_threads(self.threads)
        if self.workers < 0 or not 0 <= self.gpus <= 64:
            raise UserError(f"--workers starts at 1 and --gpus lies between 0 and 64; got {self.workers}, {self.gpus}.")

    def __enter__(self) -> RayEngine:
        # A connection that was there before is not ours to end.
        object.__setattr__(self, "connected", not _ray().is_initialized())
        _connect(self.address)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.connected:
            _ray().shutdown()

    def map(self, prepare: Prepare, jobs: Sequence[Any], report: Report) -> Iterator[Arrays]:
        if not jobs:
            return
        ray = _connect(self.address)
        threads = self.threads or torch.get_num_threads()
        place = Place("cuda" if self.gpus else "cpu", decoders_beside(threads))
        count = min(len(jobs), self.workers or _room(ray, threads, self.gpus))
        _check_room(ray, self.workers, threads, self.gpus)
        options = {"num_cpus": threads, "num_gpus": self.gpus, "max_restarts": _RETRIES, "max_task_retries": _RETRIES}
        kind = ray.remote(**options)(_Worker)
        shared = ray.put(prepare)
        # In a list: what an actor begins with by reference itself could not be had again after a restart.
        workers = [kind.remote([shared], place, threads) for _ in range(count)]
        try:
            yield from _in_order(ray, workers, jobs, report)
        finally:
            for worker in workers:
                ray.kill(worker)


class _Worker:
    """An actor: prepared once, then given job after job."""

    def __init__(self, prepare: Sequence[Any], place: Place, threads: int) -> None:
        torch.set_num_threads(threads)
        self._prepare, self._place = prepare, place
        self._work: Work | None = None

    def ready(self) -> None:
        """Answers once there is room for it."""

    def do(self, job: Any) -> Arrays:
        if self._work is None:  # not at its beginning, where an error would count as a death
            self._work = _ray().get(self._prepare[0])(self._place)
        return next(self._work([job], lambda number, share: None))


def _in_order(ray: Any, workers: Sequence[Any], jobs: Sequence[Any], report: Report) -> Iterator[Arrays]:
    """The results by the order of the jobs, each job given to the first worker that has room for it."""
    idle: deque[Any] = deque()
    # A worker for which others leave no room yet is given nothing: earlier results would wait for it.
    starting = {worker.ready.remote(): worker for worker in workers}
    flying: dict[Any, tuple[int, Any]] = {}
    waiting: dict[int, Arrays] = {}
    given, told = 0, 0
    while told < len(jobs):
        while idle and given < len(jobs) and given - told < (_AHEAD + _WAITING) * len(workers):
            worker = idle.popleft()
            flying[worker.do.remote(jobs[given])] = (given, worker)
            given += 1
        for done in ray.wait([*starting, *flying], num_returns=1)[0]:
            if done in starting:
                _result(ray, done)
                idle.extend([starting.pop(done)] * _AHEAD)
                continue
            number, worker = flying.pop(done)
            waiting[number] = _result(ray, done)
            idle.append(worker)
        while told in waiting:
            report(told, 1.0)
            yield waiting.pop(told)
            told += 1


def _result(ray: Any, done: Any) -> Arrays:
    try:
        found: Arrays = ray.get(done) or {}
    except ray.exceptions.RayTaskError as error:
        # Ray's own class of the error is one of the error's; the error itself reads better.
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise UserError(
            f"a Ray worker died {_RETRIES + 1} times at the same job ({str(error).splitlines()[0]}). What was finished "
            "is kept: fewer workers or more memory for each, and the same command goes on."
        ) from error
    # What Ray shares between processes cannot be written into.
    return {name: values.copy() for name, values in found.items()}


def _ray() -> Any:
    # Set before Ray is imported: it reports its use to its makers otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'activation-atlas[ray]'") from error
    return ray


def _connect(address: str | None) -> Any:
    ray = _ray()
    if not ray.is_initialized():
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise UserError(f"no Ray cluster answers at {address or os.environ.get('RAY_ADDRESS')}: {first}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has its own answer, which says nothing of how to go on
    return ray


def _room(ray: Any, threads: int, gpus: float) -> int:
    """How many workers the cluster's nodes have room for, at least one."""
    room = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        by_cpu = int(has.get("CPU", 0) // threads)
        room += min(by_cpu, int(has.get("GPU", 0) / gpus)) if gpus else by_cpu
    return max(1, room)


def _check_room(ray: Any, workers: int, threads: int, gpus: float) -> None:
    """Raise `UserError` where the nodes cannot hold a worker, or so many, which would be waited for without end."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(has.get("CPU", 0) >= threads and has.get("GPU", 0) >= min(gpus, 1e9) for has in nodes):
        best = ", ".join(f"{has.get('CPU', 0):.0f} cores and {has.get('GPU', 0):.0f} GPUs" for has in nodes)
        raise UserError(
            f"no node of the Ray cluster has room for a worker of {threads} thread(s) and {gpus:g} GPU(s); there are "
            f"{best}. Take fewer --threads or --gpus."
        )
    if workers > _room(ray, threads, gpus):
        raise UserError(
            f"--workers {workers} of {threads} thread(s) and {gpus:g} GPU(s) are more than the cluster has room for, "
            f"{_room(ray, threads, gpus)}. Take fewer, or fewer --threads or --gpus for each."
        )
