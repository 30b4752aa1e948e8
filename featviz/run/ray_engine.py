"""The engine that has the workers of a Ray cluster do the jobs (extra: ray)."""

from __future__ import annotations

import heapq
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch

from ..errors import UserError
from .engine import Place, Prepare, Report, Work, check_threads, decoders_beside
from .keep import Arrays
from .memory import keep_freed_memory

# Jobs that each worker has before it, and results that wait for an earlier one: more would only fill memory.
_AHEAD, _WAITING = 2, 4
# How often a job is given to another worker when the one that did it died.
_RETRIES = 3
# Seconds after which those who wait look whether the cluster still has room for a worker.
_LOOK = 30.0
# Seconds in which a cluster's head takes a connection; Ray itself tries for minutes where nobody listens.
_PATIENCE = 10.0


@dataclass(frozen=True)
class RayEngine:
    """Workers of a Ray cluster, or of this machine where none is named; results are those of `Local`.

    address: of the cluster, such as `10.0.0.1:6379`; None takes what RAY_ADDRESS names, else starts Ray on this
    machine, and stops it at the end of the `with`. workers: how many, 0 for as many as there is room for. threads: of
    each worker, 0 for as many as torch has here. gpus: that each worker takes, 0.5 for two on one; its network then
    runs there.

    A worker that dies, or whose machine is gone, is replaced where there is room; its jobs go to whoever is idle, each
    up to three times. Raises `UserError` where Ray is missing or has no room for one worker.
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
        # Not started again by Ray itself: it would give a job to the same worker only, and wait where there is no room.
        kind = ray.remote(num_cpus=threads, num_gpus=self.gpus, max_restarts=0, max_task_retries=0)(_Worker)
        shared = ray.put(prepare)
        crew = _Crew(ray, lambda: kind.remote(place, threads), lambda: _check_room(ray, 0, threads, self.gpus))
        try:
            for _ in range(count):
                crew.hire()
            yield from _in_order(crew, [([shared], job) for job in jobs], report)
        finally:
            crew.dismiss()


class _Worker:
    """An actor: prepared once, then given job after job."""

    def __init__(self, place: Place, threads: int) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._place = place
        self._work: Work | None = None

    def ready(self) -> None:
        """Answers once there is room for it."""

    def do(self, prepare: Sequence[Any], job: Any) -> Arrays:
        """prepare: a reference to it, in a list, so that it is fetched once and not for every job."""
        if self._work is None:  # not at its beginning, where an error would count as a death
            self._work = _ray().get(prepare[0])(self._place)
        return next(self._work([job], lambda number, share: None))


class _Crew:
    """Workers, the jobs that each has before it, and how often a job has ended a worker."""

    def __init__(self, ray: Any, new_worker: Callable[[], Any], check_room: Callable[[], None]) -> None:
        self._ray, self._new_worker, self._check_room = ray, new_worker, check_room
        self.workers: list[Any] = []
        # Each as often as it has room for another job.
        self.idle: deque[Any] = deque()
        # A worker for which others leave no room yet is given nothing: earlier results would wait for it.
        self._starting: dict[Any, Any] = {}
        self._flying: dict[Any, tuple[int, Any]] = {}
        self._deaths: Counter[int] = Counter()

    def hire(self) -> None:
        """Ask for a worker, which is idle once there is room for it."""
        worker = self._new_worker()
        self.workers.append(worker)
        self._starting[worker.ready.remote()] = worker

    def give(self, number: int, arguments: tuple[Any, Any]) -> None:
        """Give job `number` to the worker that has been idle for longest."""
        worker = self.idle.popleft()
        self._flying[worker.do.remote(*arguments)] = (number, worker)

    def wait(self) -> tuple[dict[int, Arrays], list[int]]:
        """Results by the numbers of their jobs as soon as there is one, and jobs whose worker died: to be given again.

        Raises what a job raised, and `UserError` for a job that ends worker after worker, or without room for any.
        """
        waited = [*self._starting, *self._flying]
        for done in self._ray.wait(waited, num_returns=1, timeout=_LOOK)[0]:
            number, worker = self._flying[done] if done in self._flying else (-1, self._starting[done])
            try:
                found = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                # Ray's own class of the error is one of the error's; the error itself reads better.
                raise error.cause from error
            except self._ray.exceptions.RayError as error:
                return {}, self._replace(worker, error)
            if done in self._starting:
                del self._starting[done], self._deaths[-1]
                self._rest(worker)
                return {}, []
            del self._flying[done]
            self.idle.append(worker)
            # What Ray shares between processes cannot be written into.
            return {number: {name: values.copy() for name, values in found.items()}}, []
        if not self._flying:
            self._check_room()
        return {}, []

    def dismiss(self) -> None:
        """End the workers."""
        # A generator that a traceback keeps alive may end after the connection.
        for worker in self.workers if self._ray.is_initialized() else ():
            self._ray.kill(worker)

    def _replace(self, gone: Any, error: Exception) -> list[int]:
        """Hire another worker for one that died; the jobs that it had."""
        self._ray.kill(gone)  # of a machine that does not answer, it may come back
        self._starting = {wait: worker for wait, worker in self._starting.items() if worker is not gone}
        jobs = [number for number, worker in self._flying.values() if worker is gone]
        self._flying = {wait: entry for wait, entry in self._flying.items() if entry[1] is not gone}
        # A worker does its jobs in the order it got them, so that it died at the first; or, without one, starting,
        # which a machine that is lost does to as many as it has.
        at, limit = (jobs[0], _RETRIES) if jobs else (-1, _RETRIES + len(self.workers))
        self._deaths[at] += 1
        if self._deaths[at] > limit:
            where = f"{limit + 1} times at the same job" if jobs else "again and again before it had a job"
            raise UserError(
                f"a Ray worker died {where} ({str(error).splitlines()[0]}). What was finished is kept: fewer workers "
                "or more memory for each, and the same command goes on."
            ) from error
        self.workers.remove(gone)
        # The idle ones have to answer before they are given anything: they may have been on the same machine.
        for worker in dict.fromkeys(worker for worker in self.idle if worker is not gone):
            self._starting[worker.ready.remote()] = worker
        self.idle.clear()
        self.hire()
        return jobs

    def _rest(self, worker: Any) -> None:
        """Have a worker that answered be idle as often as it has room."""
        busy = sum(each is worker for _, each in self._flying.values())
        self.idle = deque(each for each in self.idle if each is not worker)
        self.idle.extend([worker] * (_AHEAD - busy))


def _in_order(crew: _Crew, jobs: Sequence[tuple[Any, Any]], report: Report) -> Iterator[Arrays]:
    """The results in the order of the jobs; each, the arguments of `do`, goes to the first worker that has room."""
    ahead = (_AHEAD + _WAITING) * len(crew.workers)
    todo, told = list(range(len(jobs))), 0
    waiting: dict[int, Arrays] = {}
    while told < len(jobs):
        while crew.idle and todo and todo[0] < told + ahead:
            number = heapq.heappop(todo)
            crew.give(number, jobs[number])
        found, again = crew.wait()
        waiting |= found
        for number in again:
            heapq.heappush(todo, number)
        while told in waiting:
            report(told, 1.0)
            yield waiting.pop(told)
            told += 1


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
        named = address or os.environ.get("RAY_ADDRESS")
        if named:
            _check_answers(named)
        try:
            # Without an address, Ray would join whatever cluster runs on this machine.
            ray.init(
                address=named or "local", include_dashboard=False, log_to_driver=False, logging_level="ERROR"
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise UserError(_why_not(named, error)) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has its own answer, which says nothing of how to go on
    return ray


def _check_answers(address: str) -> None:
    """Raise `UserError` where nobody listens at HOST:PORT; other addresses, such as `auto`, are for Ray to find."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}). `ray start --head` starts one; without an address "
            "(RAY_ADDRESS), workers of this machine do the work."
        ) from error


def _why_not(address: str | None, error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if address and ("token" in str(error).lower() or "auth" in type(error).__name__.lower()):
        return (
            f"the Ray cluster at {address} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
            f"RAY_AUTH_TOKEN_PATH) to what its head was started with. Ray says: {first}"
        )
    return f"no Ray cluster answers at {address}: {first}" if address else f"Ray does not start here: {first}"


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
