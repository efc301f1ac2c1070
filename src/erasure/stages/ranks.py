"""A training on several devices: one process for each, started for the stage and gone when it ends, however it ends."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure.errors import ErasureError, RequirementNotMet, foreign
from erasure.events import EpochFinished, Event, Listener
from erasure.stages.data_spec import DataSpec
from erasure.stages.session import Session
from erasure.stages.spawning import few_threads
from erasure.stages.worker_processes import as_in, context
from erasure.stages.worker_settings import WorkerSettings
from erasure.training.devices import PeakMemory, synchronise
from erasure.training.distributed import Rank, Strategy

__all__ = ["Trained", "on_ranks", "train_on_devices"]

_LAST_WORDS_S = 2.0
"""When one process complains, another may have died of the cause; seconds to wait for that to show."""

Work = Callable[[Rank, torch.device, Path, Listener, Any], Any]
"""What a process does: its rank, its device, a directory that all share, who receives events, and the arguments."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What several devices have made.

    Args:
        state: Weights and buffers.
        elapsed_s: Seconds of the training itself, without the start of the processes.
        peak_memory_mib: Most memory of a process, or None where the platform does not tell.
    """

    state: dict[str, Tensor]
    elapsed_s: float
    peak_memory_mib: float | None


def train_on_devices(session: Session, data: DataSpec, partition: str, seed: int, name: str) -> Trained:
    """Train a model by the recipe on the devices that the numerics ask for.

    Raises:
        What the training raises in the process that fails first.
        RequirementNotMet: If a process dies.
    """
    from safetensors.torch import load_file

    def emit(event: Event) -> None:
        session.listener(replace(event, name=name) if isinstance(event, EpochFinished) else event)

    with tempfile.TemporaryDirectory(prefix="erasure-") as directory:
        arguments = (WorkerSettings.of(session), data, partition, seed)
        facts = on_ranks(
            _train, arguments, session.options.devices, session.options.strategy, session.device.type, Path(directory), emit
        )
        state = load_file(Path(directory) / "model.safetensors")
    memory = [peak for _, peak in facts if peak is not None]
    return Trained(state=state, elapsed_s=facts[0][0], peak_memory_mib=max(memory, default=None))


def _train(rank: Rank, device: torch.device, directory: Path, emit: Listener, arguments: Any) -> tuple[float, float | None]:
    """In a process: train with the others; seconds and peak memory."""
    from safetensors.torch import save_file

    settings, data, partition, seed = arguments
    session = replace(settings, device=str(device)).session(emit if rank.number == 0 else lambda _: None)
    loaded = session.loaded(data)
    start, peak = time.perf_counter(), PeakMemory(device)
    make_trainer = functools.partial(rank.trainer, n_terms=loaded.criterion.n_terms)
    model = session.trained(data, loaded.partitions[partition], seed, make_trainer=make_trainer)
    synchronise(device)
    elapsed_s = time.perf_counter() - start
    weights = rank.weights(model)
    if rank.number == 0:
        save_file(weights, directory / "model.safetensors")
    return elapsed_s, peak.mib()


def on_ranks(
    work: Work, arguments: Any, n: int, strategy: Strategy, device: str, directory: Path, listener: Listener
) -> list[Any]:
    """Do something together in ``n`` processes of this machine.

    Args:
        work: A function of a module; every process calls it.
        arguments: Its last argument.
        n: How many processes, each with a device of its own.
        strategy: ``ddp`` or ``fsdp``.
        device: Type of the devices.
        directory: An empty directory that they may use.
        listener: Receives what they report.

    Returns:
        What each of them returned.

    Raises:
        ErasureError: What the first of them to fail raised.
        RequirementNotMet: If one dies, or fails with an error that is not ours.
    """
    try:
        setup = bytes(ForkingPickler.dumps((work, arguments)))
    except Exception as error:
        raise RequirementNotMet(f"this experiment holds something that cannot be sent to another process ({error})") from error
    with _processes(n, strategy, device, directory, setup) as ranks:
        answers: dict[int, Any] = {}
        while len(answers) < n:
            ready = wait([end for r in ranks if r.number not in answers for end in (r.connection, r.process.sentinel)])
            for rank in ranks:
                if rank.number not in answers and (rank.connection in ready or rank.process.sentinel in ready):
                    _on_message(rank, ranks, answers, listener)
        return [answers[number] for number in range(n)]


@dataclass(eq=False)
class _Process:
    number: int
    process: Any
    connection: Connection


def _on_message(rank: _Process, ranks: list[_Process], answers: dict[int, Any], listener: Listener) -> None:
    try:
        while rank.connection.poll():
            word, said = rank.connection.recv()
            if word == "event":
                listener(said)
            elif word == "done":
                answers[rank.number] = said
                return
            else:
                raise _first_cause(said, ranks)
    except (EOFError, OSError):
        pass
    if not rank.process.is_alive():
        raise _died(rank, len(ranks))


def _first_cause(error: Exception, ranks: list[_Process]) -> Exception:
    """The error of a process, unless it only noticed that another one has died."""
    if isinstance(error, ErasureError) and not isinstance(error, _NotOurs):
        return error
    deadline = time.monotonic() + _LAST_WORDS_S
    while time.monotonic() < deadline:
        for rank in ranks:
            if not rank.process.is_alive() and rank.process.exitcode:
                return _died(rank, len(ranks))
            with suppress(EOFError, OSError):
                while rank.connection.poll():
                    word, said = rank.connection.recv()
                    if word == "failed" and not isinstance(said, _NotOurs):
                        return said  # type: ignore[no-any-return]
        time.sleep(0.05)
    return RequirementNotMet(str(error))


def _died(rank: _Process, n: int) -> RequirementNotMet:
    rank.process.join(5)
    code = rank.process.exitcode
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return RequirementNotMet(f"process {rank.number + 1} of {n} died ({how}); it may need more memory than there is")


class _NotOurs(ErasureError):
    """An error of PyTorch or another library, in words."""


@contextmanager
def _processes(n: int, strategy: Strategy, device: str, directory: Path, setup: bytes) -> Iterator[list[_Process]]:
    how, ranks = context(device, (__name__, "lightning_fabric")), list[_Process]()
    try:
        for number in range(n):
            ours, theirs = how.Pipe()
            place = (number, n, strategy, f"{device}:{number}" if device == "cuda" else device, str(directory))
            with few_threads(), _silent_torch():
                process = how.Process(target=_serve, args=(theirs, dict(os.environ), setup, *place), daemon=True)
                ranks.append(_Process(number, process, ours))
                process.start()
            theirs.close()
        yield ranks
    finally:
        for rank in ranks:
            rank.connection.close()
            if rank.process.is_alive():
                rank.process.kill()
        for rank in ranks:
            if rank.process.pid is not None:
                rank.process.join()


@contextmanager
def _silent_torch() -> Iterator[None]:
    """PyTorch remarks, in every process, that looking for weights that a pass leaves out may be for nothing."""
    name = "TORCH_CPP_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ.setdefault(name, "ERROR")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _serve(
    connection: Connection,
    environment: Mapping[str, str],
    setup: bytes,
    number: int,
    n: int,
    strategy: Strategy,
    device: str,
    directory: str,
) -> None:
    """One of the processes."""
    as_in(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # nothing of ours changes what a layer returns in place
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()

    def emit(event: Event) -> None:
        connection.send(("event", event))

    try:
        work, arguments = ForkingPickler.loads(setup)  # what the parent process wrote, by the pipe it starts processes with
        rank = Rank.joined(number, n, strategy, torch.device(device), Path(directory) / "meeting")
        answer = ("done", work(rank, torch.device(device), Path(directory), emit, arguments))
    except Exception as error:
        ours = error if isinstance(error, ErasureError) and _survives(error) else None
        answer = ("failed", ours or _NotOurs(f"process {number + 1} of {n}: {foreign(error)}"))
    with suppress(OSError):
        connection.send(answer)
    threading.Event().wait()  # the others may still need this one; the parent ends it


def _survives(error: Exception) -> bool:
    """Whether an error can be sent to another process."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except (pickle.PickleError, TypeError, AttributeError):
        return False
    return True


def _end_with_parent(connection: Connection) -> None:
    """Nothing is ever sent here: the end of the pipe is that of the parent."""
    with suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)
