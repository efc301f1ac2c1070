"""Stages as tasks of a Ray cluster: one that is running, or one that is started on this machine for the run.

Where all nodes see the store's directory, workers publish there and only names and events travel. Otherwise each node keeps a store of its
own, what a stage needs comes to it through Ray's object store, and what it computes goes back the same way and is published here. A stage
whose worker or node is lost is tried again elsewhere.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from erasure.errors import ErasureError, MissingDependency, RequirementNotMet, StoreError
from erasure.events import Event, Said, StageFailed
from erasure.experiment.bench import Workbench
from erasure.experiment.executors import serial
from erasure.experiment.executors.processes import MOST_DEATHS, n_workers
from erasure.experiment.executors.schedule import Schedule
from erasure.experiment.executors.workplace import Workplace
from erasure.experiment.stages import Stage
from erasure.store import Store
from erasure.store.transfer import export_objects, import_objects

__all__ = ["execute"]

_BENCHES: dict[str, tuple[Workbench, list[Event]]] = {}
"""Workbenches of this worker process, by run."""


def execute(
    stages: Mapping[str, Stage], bench: Workbench, *, workers: int | None = None, address: str | None = None, shared: bool = True
) -> dict[str, str]:
    """Run what the store lacks on a Ray cluster.

    Args:
        stages: Stage by address.
        bench: Has the store and the options.
        workers: How many stages run at a time on a cluster that is started for the run.
        address: Address of a running cluster.
        shared: Whether all nodes see the store's directory.

    Returns:
        Address to reason, for every stage that is not in the store afterwards.

    Raises:
        MissingDependency: If Ray is not installed.
        RequirementNotMet: If there is no cluster at the address.
        StoreError: If the store itself cannot be used.
    """
    if len(bench.store.contains_many(stages)) == len(stages):
        return serial.execute(stages, bench)
    with _cluster(bench, address, workers) as ray:
        return _Run(ray, stages, bench, shared=shared).failed()


class _Run:
    """One plan on a cluster."""

    def __init__(self, ray: Any, stages: Mapping[str, Stage], bench: Workbench, *, shared: bool) -> None:
        self.ray, self.stages, self.bench, self.shared = ray, stages, bench, shared
        self.schedule, self.deaths = Schedule(stages), Counter[str]()
        workplace = Workplace.of(bench)
        self.token = hashlib.sha256(repr((workplace, *stages)).encode()).hexdigest()
        self.sent = ray.put((workplace, dict(stages)))
        gpus = {"num_gpus": 1} if bench.device.type == "cuda" else {}
        cpus = workplace.numerics.threads
        self.task = ray.remote(num_cpus=cpus, max_retries=0, num_returns=2, **gpus)(_run_stage)
        self.shipped: dict[str, Any] = {}
        self.running: dict[Any, tuple[Stage, Any]] = {}
        self.most = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)) // cpus)

    def failed(self) -> dict[str, str]:
        """Run everything; address to reason of what failed."""
        while self.schedule.n_left:
            self._hand_out()
            if not self.running:
                continue
            done, _ = self.ray.wait(list(self.running), num_returns=1)
            for ticket in done:
                self._hear(ticket)
        return self.schedule.failed

    def _hand_out(self) -> None:
        while (stage := self.schedule.take()) is not None:
            if self.bench.store.contains(stage.address):
                reason = serial.attempt(stage, self.bench, len(self.stages))
                self.schedule.fail(stage, reason) if reason else self.schedule.finish(stage)
            elif len(self.running) < self.most:
                needed = {} if self.shared else {address: self._ship(address) for address in self._needs(stage)}
                ticket, made = self.task.remote(self.token, [self.sent], stage.address, needed, shared=self.shared)
                self.running[ticket] = (stage, made)
            else:
                self.schedule.put_back(stage)
                return

    def _needs(self, stage: Stage) -> set[str]:
        """Objects that a stage reads: what it requires, and the data under all of it."""
        scene = stage.job.scene
        return {where for where in (*stage.requires, scene.data, scene.split) if self.bench.store.contains(where)}

    def _ship(self, address: str) -> Any:
        if address not in self.shipped:
            self.shipped[address] = self.ray.put(_packed(self.bench.store, address))
        return self.shipped[address]

    def _hear(self, ticket: Any) -> None:
        stage, made = self.running.pop(ticket)
        try:
            reason, broken, events = self.ray.get(ticket)
        except (self.ray.exceptions.RayTaskError, self.ray.exceptions.RaySystemError) as error:
            self._fail(stage, f"{stage.name}: {error}")
            return
        except self.ray.exceptions.RayError as error:  # its worker or node is gone
            self.deaths[stage.address] += 1
            if self.deaths[stage.address] < MOST_DEATHS:
                self.bench.listener(Said(f"{stage.name}: its worker was lost; the stage is tried elsewhere", level="warning"))
                self.schedule.put_back(stage)
            else:
                self._fail(stage, f"the worker was lost {MOST_DEATHS} times in {stage.name} ({type(error).__name__})")
            return
        for event in events:
            self.bench.listener(event)
        if broken:
            raise StoreError(reason)
        if reason:
            self.schedule.fail(stage, reason)
            return
        if not self.shared:
            self.shipped[stage.address] = made
            _unpacked(self.bench.store, self.ray.get(made))
        self.schedule.finish(stage)

    def _fail(self, stage: Stage, reason: str) -> None:
        self.bench.listener(StageFailed(stage.name, stage.kind, stage.address, reason=reason, total=len(self.stages)))
        self.schedule.fail(stage, reason)


def _run_stage(
    token: str, sent: list[Any], address: str, needed: Mapping[str, Any], *, shared: bool
) -> tuple[tuple[str, bool, list[Event]], bytes]:
    """In a worker: run one stage; why it failed, whether the store is at fault, what happened, and the object where it has to travel."""
    import ray

    workplace, stages = ray.get(sent[0])
    if token not in _BENCHES:
        events: list[Event] = []
        here = workplace if shared else replace(workplace, store=_own_store(token), base=None)
        _BENCHES[token] = (here.bench(events.append), events)
    bench, events = _BENCHES[token]
    events.clear()
    try:
        for where, packed in needed.items():
            if not bench.store.contains(where):
                _unpacked(bench.store, ray.get(packed))
        reason = serial.attempt(stages[address], bench, len(stages))
        made = b"" if shared or reason else _packed(bench.store, address)
    except ErasureError as error:
        return (str(error), True, list(events)), b""
    return (reason, False, list(events)), made


def _own_store(token: str) -> Path:
    return Path(tempfile.gettempdir()) / f"erasure-{token[:16]}" / "store"


def _packed(store: Store, address: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="erasure-") as directory:
        path = Path(directory) / "object.tar"
        export_objects(store, [address], path)
        return path.read_bytes()


def _unpacked(store: Store, packed: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="erasure-") as directory:
        path = Path(directory) / "object.tar"
        path.write_bytes(packed)
        refused = import_objects(store, path).refused
    if refused:
        raise StoreError(f"an object was damaged on its way through the cluster: {next(iter(refused.values()))}")


@contextmanager
def _cluster(bench: Workbench, address: str | None, workers: int | None) -> Iterator[Any]:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency("ray", "ray", "the ray executor") from error
    was_running = ray.is_initialized()
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    if address is None:
        options |= {"num_cpus": n_workers(1, workers and workers * bench.options.threads)}
    try:
        if not was_running:
            ray.init(address, **(options if address is None else {"logging_level": "ERROR", "log_to_driver": False}))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RequirementNotMet(f"there is no Ray cluster at {address}: {error}") from error
    try:
        yield ray
    finally:
        if not was_running:
            ray.shutdown()
