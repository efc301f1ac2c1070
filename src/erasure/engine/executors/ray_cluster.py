"""Stages as tasks of a Ray cluster: one that is running, or one that is started on this machine for the run.

Where all nodes see the store's directory, workers publish there and only names and events travel. Otherwise each node keeps a store of its
own while the run lasts, what a stage needs comes to it through Ray's object store, and all that it computes goes back the same way and is
published here. A stage whose worker or node is lost is tried again elsewhere.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from erasure.engine.executors import serial
from erasure.engine.executors.processes import MAX_DEATHS
from erasure.engine.executors.schedule import StageOrder
from erasure.errors import ErasureError, MissingDependency, RequirementNotMet, StoreError
from erasure.events import Event, Message, StageFailed
from erasure.stages.session import Session
from erasure.stages.spawning import n_workers
from erasure.stages.stage import Stage
from erasure.stages.worker_settings import WorkerSettings
from erasure.store import Store
from erasure.store.transfer import export_objects, import_objects

__all__ = ["execute"]

_SESSIONS: dict[str, tuple[Session, list[Event]]] = {}
"""Sessions of this worker process, by run."""

_STALL_S = 20.0
"""Without news for so long, it is looked whether any node can run a stage at all."""

_CLEANING_S = 30.0

_KNOCK_S = 15.0


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What a worker says of a stage.

    Args:
        reason: Why it failed; empty if it did not.
        fault: What is to blame: the ``stage`` itself, the ``store``, or the ``cluster``, which has lost what the stage needs.
        events: What happened.
    """

    reason: str = ""
    fault: str = "stage"
    events: list[Event] = field(default_factory=list)


def execute(
    stages: Mapping[str, Stage], session: Session, *, workers: int | None = None, address: str | None = None, shared: bool = True
) -> dict[str, str]:
    """Run what the store lacks on a Ray cluster.

    Args:
        stages: Stage by address.
        session: Has the store and the options.
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
    if len(session.store.contains_many(stages)) == len(stages):
        return serial.execute(stages, session)
    with _cluster(session, address, workers) as ray:
        return _Run(ray, stages, session, shared=shared).failed()


class _Run:
    """One plan on a cluster."""

    def __init__(self, ray: Any, stages: Mapping[str, Stage], session: Session, *, shared: bool) -> None:
        self.ray, self.stages, self.session, self.shared = ray, stages, session, shared
        self.schedule, self.deaths = StageOrder(stages), Counter[str]()
        settings = WorkerSettings.of(session)
        self.token = hashlib.sha256(repr((settings, *stages)).encode()).hexdigest()
        self.sent = ray.put((settings, dict(stages)))
        self.resources = {"CPU": float(settings.numerics.threads)} | ({"GPU": 1.0} if session.device.type == "cuda" else {})
        cpus, gpus = settings.numerics.threads, self.resources.get("GPU", 0)
        self.task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, num_returns=2)(_run_stage)
        self.readers = Counter[str]() if shared else Counter(where for stage in stages.values() for where in stage.reads)
        self.shipped: dict[str, Any] = {}
        self.running: dict[Any, tuple[Stage, Any]] = {}
        self.is_stalled = False
        self.most = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)) // cpus)

    def failed(self) -> dict[str, str]:
        """Run everything; address to reason of what failed."""
        try:
            while self.schedule.n_left:
                self._hand_out()
                if not self.running:
                    continue
                done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=_STALL_S)
                for ticket in done:
                    self._on_message(ticket)
                self._look_for_nodes(is_quiet=not done)
        finally:
            if not self.shared:
                self._clean()
        return self.schedule.failed

    def _hand_out(self) -> None:
        while (stage := self.schedule.take()) is not None:
            if self.session.store.contains(stage.address):
                reason = serial.attempt(stage, self.session, len(self.stages))
                self._end(stage, reason)
            elif len(self.running) < self.most:
                here = () if self.shared else self.session.store.contains_many(stage.reads)
                needed = {where: self._ship(where) for where in here}
                ticket, made = self.task.remote(self.token, [self.sent], stage.address, needed, shared=self.shared)
                self.running[ticket] = (stage, made)
            else:
                self.schedule.put_back(stage)
                return

    def _ship(self, address: str) -> Any:
        """The object, from this process: what a node has made would be lost with it."""
        if address not in self.shipped:
            self.shipped[address] = self.ray.put(_packed(self.session.store, [address]))
        return self.shipped[address]

    def _on_message(self, ticket: Any) -> None:
        stage, made = self.running.pop(ticket)
        try:
            answer: _Answer = self.ray.get(ticket)
            objects: bytes = b"" if self.shared else self.ray.get(made)
        except (self.ray.exceptions.RayTaskError, self.ray.exceptions.RaySystemError) as error:
            self._fail(stage, f"{stage.name}: {error}")
            return
        except self.ray.exceptions.RayError as error:  # its worker or node is gone, or what it made with it
            self._lost(stage, type(error).__name__)
            return
        if answer.fault == "cluster":
            self._lost(stage, answer.reason)
            return
        for event in answer.events:
            self.session.listener(event)
        if answer.fault == "store":
            raise StoreError(answer.reason)
        if objects:
            _unpacked(self.session.store, objects)
        self._end(stage, answer.reason)

    def _end(self, stage: Stage, reason: str) -> None:
        """The stage is done or has failed; what nobody needs any more is not kept for shipping."""
        if reason:
            self.schedule.fail(stage, reason)
        else:
            self.schedule.finish(stage)
        if not self.shared:
            needs = stage.reads
            self.readers.subtract(needs)
            for where in needs:
                if self.readers[where] <= 0:
                    self.shipped.pop(where, None)

    def _lost(self, stage: Stage, how: str) -> None:
        self.deaths[stage.address] += 1
        if self.deaths[stage.address] < MAX_DEATHS:
            self.session.listener(Message(f"{stage.name}: its worker was lost; the stage is tried elsewhere", level="warning"))
            for where in stage.reads:
                self.shipped.pop(where, None)
            self.schedule.put_back(stage)
        else:
            self._fail(stage, f"the worker was lost {MAX_DEATHS} times in {stage.name} ({how})")

    def _fail(self, stage: Stage, reason: str) -> None:
        self.session.listener(StageFailed(stage.name, stage.kind, stage.address, reason=reason, total=len(self.stages)))
        self._end(stage, reason)

    def _look_for_nodes(self, *, is_quiet: bool) -> None:
        """Say it, once, if stages wait for a node that the cluster does not have; one may still join."""
        if not is_quiet:
            self.is_stalled = False
        elif not self.is_stalled and not any(self._suits(node) for node in self.ray.nodes()):
            self.is_stalled = True
            wanted = " and ".join(f"{n:g} {name}" for name, n in self.resources.items())
            self.session.listener(
                Message(f"no node of the Ray cluster has {wanted} for a stage; waiting for one", level="warning")
            )

    def _suits(self, node: Mapping[str, Any]) -> bool:
        return bool(node["Alive"]) and all(node["Resources"].get(name, 0) >= n for name, n in self.resources.items())

    def _clean(self) -> None:
        """Remove the nodes' own stores: all that they had is here."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        with suppress(self.ray.exceptions.RayError):
            sweep = self.ray.remote(num_cpus=0, max_retries=0)(_remove_own_store)
            alive = [node["NodeID"] for node in self.ray.nodes() if node["Alive"]]
            strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in alive]
            sweeps = [sweep.options(scheduling_strategy=strategy).remote(self.token) for strategy in strategies]
            self.ray.wait(sweeps, num_returns=len(sweeps), timeout=_CLEANING_S)


def _run_stage(token: str, sent: list[Any], address: str, needed: Mapping[str, Any], *, shared: bool) -> tuple[_Answer, bytes]:
    """In a worker: run one stage; what came of it, and all objects that it made where they have to travel."""
    import ray

    events: list[Event] = []
    try:
        settings, stages = ray.get(sent[0])
        if token not in _SESSIONS:
            here = settings if shared else replace(settings, store=_own_store(token), base=None)
            _SESSIONS[token] = (here.session(events.append), events)
        session, events = _SESSIONS[token]
        events.clear()
        for where, packed in needed.items():
            if not session.store.contains(where):
                _unpacked(session.store, ray.get(packed))
        session.touched.clear()
        reason = serial.attempt(stages[address], session, len(stages))
        made = b"" if shared else _packed(session.store, session.store.contains_many(session.touched - set(needed)))
    except ErasureError as error:
        return _Answer(reason=str(error), fault="store", events=list(events)), b""
    except ray.exceptions.RayError as error:
        return _Answer(reason=type(error).__name__, fault="cluster"), b""
    return _Answer(reason=reason, events=list(events)), made


def _own_store(token: str) -> Path:
    """The directory of this node's store; nodes that are one machine have one each."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return Path(tempfile.gettempdir()) / f"erasure-{token[:16]}-{node[:16]}" / "store"


def _remove_own_store(token: str) -> None:
    shutil.rmtree(_own_store(token).parent, ignore_errors=True)


def _packed(store: Store, addresses: Iterable[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="erasure-") as directory:
        path = Path(directory) / "objects.tar"
        export_objects(store, addresses, path)
        return path.read_bytes()


def _unpacked(store: Store, packed: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="erasure-") as directory:
        path = Path(directory) / "objects.tar"
        path.write_bytes(packed)
        refused = import_objects(store, path).refused
    if refused:
        raise StoreError(f"an object was damaged on its way through the cluster: {next(iter(refused.values()))}")


def _knock(address: str | None) -> None:
    """Ray itself would wait for minutes where nobody answers.

    Raises:
        OSError: If nobody does.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


@contextmanager
def _cluster(session: Session, address: str | None, workers: int | None) -> Iterator[Any]:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency("ray", "ray", "the ray executor") from error
    was_running = ray.is_initialized()
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    if address is None:
        options |= {"num_cpus": n_workers(1, workers and workers * session.options.threads)}
    try:
        if not was_running:
            _knock(address)
            ray.init(address, **(options if address is None else {"logging_level": "ERROR", "log_to_driver": False}))
    except (OSError, RuntimeError, ValueError) as error:
        raise RequirementNotMet(f"there is no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        yield ray
    finally:
        if not was_running:
            ray.shutdown()
