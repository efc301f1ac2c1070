"""A training that was stopped goes on from its last epoch: checkpoints in the store while it lasts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from erasure.errors import CorruptArtifact, StoreError
from erasure.stages.session import Session
from erasure.store import Artifact
from erasure.store.addresses import address
from erasure.training.history import Checkpoint
from erasure.types import Json

if TYPE_CHECKING:
    from erasure.stages.method_models import EpochLog

__all__ = ["KeptEpochs", "KeptTraining"]


@dataclass(eq=False, kw_only=True)
class KeptTraining:
    """Keeps the last checkpoint of a training in the store, and finds that of an earlier process.

    A checkpoint is kept where the last one is ``session.checkpoint_s`` seconds old, so that short trainings cost nothing. It is an object
    whose address says which training it is of; there are two places, which take turns, so that one is whole at any moment. Both are
    removed when the training ends. Going on gives the bits of going on without a stop.

    Where the weights of every epoch are wanted in the end, those until the checkpoint are kept beside it, each once.

    Args:
        session: Has the store.
        content: What the address of the model is made of that is trained, or unlearned.
        epochs: Weights of every epoch, where they are wanted.
    """

    kind: ClassVar[str] = "checkpoint"

    session: Session
    content: Json
    epochs: KeptEpochs | None = None
    before_s: float = 0.0
    """Seconds that earlier processes took, until the checkpoint."""
    _start: float = field(default_factory=time.perf_counter)
    _last: float = field(default_factory=time.perf_counter)
    _place: int | None = None
    _n_before: int = 0
    """Epochs that were logged before this training began, by the steps before it."""
    _parts: list[KeptTraining] = field(default_factory=list)

    def part(self, number: int) -> KeptTraining:
        """Checkpoints of one step of several, which last until the whole ends."""
        content: Json = {"of": self.content, "step": number}
        self._parts.append(KeptTraining(session=self.session, content=content, epochs=self.epochs))
        return self._parts[-1]

    def found(self) -> Checkpoint | None:
        """The last checkpoint of an earlier process, or None; one that is damaged is removed. Asked once, before the first epoch."""
        self._n_before = 0 if self.epochs is None else len(self.epochs.log.states)
        checkpoints: dict[int, tuple[Checkpoint, dict[str, Any]]] = {}
        for place in (0, 1):
            where = self._address(place)
            if not self.session.store.contains(where):
                continue
            try:
                artifact = self.session.store.open(where)
                artifact.verify()
                checkpoints[place] = _read(artifact)
            except CorruptArtifact:
                self.session.store.remove(where)
        if not checkpoints:
            return None
        place = max(checkpoints, key=lambda place: checkpoints[place][0].epoch)
        checkpoint, described = checkpoints[place]
        if self.epochs is not None and not self.epochs.restored(self._n_before, described.get("log")):
            self._remove()
            return None
        self._place, self.before_s = place, float(described["elapsed_s"])
        return checkpoint

    def is_due(self) -> bool:
        """Whether a checkpoint made now would be kept."""
        return time.perf_counter() - self._last >= self.session.checkpoint_s

    def keep(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint into the store and remove the one before."""
        optimizer, tensors = _parted(checkpoint.optimizer)
        described: dict[str, Any] = {
            "epoch": checkpoint.epoch,
            "optimizer": optimizer,
            "schedule": None if checkpoint.schedule is None else dict(checkpoint.schedule),
            "elapsed_s": self.elapsed_s,
        }
        if not _is_plain(described):
            return  # an optimizer or a schedule that keeps more than numbers
        if self.epochs is not None:
            described["log"] = {"before": self._n_before, **self.epochs.keep()}
        place = 0 if self._place != 0 else 1
        self.session.store.remove(self._address(place))  # one that is older, of a process that was killed here
        with self.session.store.publish(self._address(place), self.kind, self._content(place)) as writer:
            writer.save_json("training", described)
            kept = {"model": checkpoint.model, "optimizer": tensors, "streams": checkpoint.streams, "memory": checkpoint.memory}
            for name, values in kept.items():
                writer.save_tensors(name, {key: value.detach().cpu().contiguous() for key, value in values.items()})
        if self._place is not None:
            self.session.store.remove(self._address(self._place))
        self._place, self._last = place, time.perf_counter()

    def ended(self) -> None:
        """The training is over: remove what was kept."""
        for part in self._parts:
            part.ended()
        if self._place is not None:
            self._remove()
        if self.epochs is not None:
            self.epochs.ended()

    def _remove(self) -> None:
        for place in (0, 1):
            self.session.store.remove(self._address(place))

    @property
    def earlier_s(self) -> float:
        """Seconds that earlier processes took, in all steps."""
        return self.before_s + sum(part.earlier_s for part in self._parts)

    @property
    def elapsed_s(self) -> float:
        """Seconds of this process and of those before."""
        return self.before_s + time.perf_counter() - self._start

    def _content(self, place: int) -> dict[str, Json]:
        return {"training": self.content, "place": place}

    def _address(self, place: int) -> str:
        return address(self.kind, self._content(place))


@dataclass(eq=False, kw_only=True)
class KeptEpochs:
    """Keeps the weights of every epoch in the store, from one checkpoint to the next, for all steps of a method together.

    Args:
        session: Has the store.
        content: What the address of the model is made of that is unlearned.
        log: The weights of this process, and of those before once they are read.
    """

    session: Session
    content: Json
    log: EpochLog
    n_kept: int = 0

    def keep(self) -> dict[str, Any]:
        """Put the weights of epochs that are not there yet into the store; how many there are, and the seconds until now."""
        for epoch in range(self.n_kept + 1, len(self.log.states) + 1):
            where = self._address(epoch)
            self.session.store.remove(where)  # of a process that was killed before its checkpoint
            with self.session.store.publish(where, KeptTraining.kind, self._content(epoch)) as writer:
                writer.save_tensors("model", self.log.states[epoch - 1])
                writer.save_json("log", {"elapsed_s": self.log.elapsed_s[epoch - 1]})
            self.n_kept = epoch
        return {"epochs": len(self.log.states), "elapsed_s": self.log.seconds}

    def restored(self, n_before: int, described: Any) -> bool:
        """Read the weights of the epochs until a checkpoint; whether all are there, and the steps before it had as many as then."""
        if not isinstance(described, dict) or described["before"] != n_before:
            return False
        states, elapsed_s = [], []
        for epoch in range(1, described["epochs"] + 1):
            try:
                artifact = self.session.store.open(self._address(epoch))
                artifact.verify()
                kept: Any = artifact.json("log")
            except StoreError:
                return False
            states.append(artifact.tensors("model"))
            elapsed_s.append(float(kept["elapsed_s"]))
        self.log.go_on(states, elapsed_s, float(described["elapsed_s"]))
        self.n_kept = len(states)
        return True

    def ended(self) -> None:
        """Remove what was kept."""
        for epoch in range(1, len(self.log.states) + 1):
            self.session.store.remove(self._address(epoch))

    def _content(self, epoch: int) -> dict[str, Json]:
        return {"training": self.content, "epoch": epoch}

    def _address(self, epoch: int) -> str:
        return address(KeptTraining.kind, self._content(epoch))


def _read(artifact: Artifact) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint, and what is said of it."""
    described: Any = artifact.json("training")
    checkpoint = Checkpoint(
        epoch=described["epoch"],
        model=artifact.tensors("model"),
        optimizer=_joined(described["optimizer"], artifact.tensors("optimizer")),
        schedule=described["schedule"],
        streams=artifact.tensors("streams"),
        memory=artifact.tensors("memory") if "memory.safetensors" in artifact.files else {},
    )
    return checkpoint, described


def _parted(optimizer: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The state of an optimizer as JSON, and the tensors in it by parameter and name."""
    tensors: dict[str, Tensor] = {}
    state: dict[str, dict[str, Any]] = {}
    for number, values in optimizer["state"].items():
        state[str(number)] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{number}/{name}"] = value
            else:
                state[str(number)][name] = value
    groups = [
        {name: list(value) if isinstance(value, tuple) else value for name, value in group.items()}
        for group in optimizer["param_groups"]
    ]
    return {"state": state, "param_groups": groups}, tensors


def _joined(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of :func:`_parted`."""
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in described["state"].items()}
    for place, value in tensors.items():
        number, _, name = place.partition("/")
        state[int(number)][name] = value
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()} for group in described["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def _is_plain(value: Any) -> bool:
    """Whether a value is JSON: numbers, texts and containers of them."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
