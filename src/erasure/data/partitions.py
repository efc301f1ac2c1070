"""Partitions: ids over one data set, made by splitters in order and inspected before anything is trained."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from erasure.data.contract import ScoredSplitter, Scores, Splitter, Training
from erasure.data.dataset import Dataset
from erasure.errors import PartitionError, nearest
from erasure.training.batches import TensorColumn
from erasure.training.graph_requests import RequestedGraph
from erasure.training.links import LinkColumn, request_of
from erasure.training.randomness import derive

__all__ = ["ALL", "DISCARDED", "PartitionIssue", "build_partitions", "ids_of", "inspect_partitions", "scores_at"]

ALL = "all"
"""The partition that always exists."""

DISCARDED = "-"
"""The name that throws a part away."""


@dataclass(frozen=True)
class PartitionIssue:
    """One thing about the partitions that makes results wrong (``error``) or surprising (``warning``).

    Args:
        severity: ``error`` if nothing that is trained on these partitions can be believed.
        partition: Name of the partition.
        message: What was found, one sentence without a full stop.
    """

    severity: Literal["error", "warning"]
    partition: str
    message: str

    def __str__(self) -> str:
        return f'{self.severity}: partition "{self.partition}": {self.message}'


def ids_of(partitions: Mapping[str, Tensor], name: str) -> Tensor:
    """Ids of a partition.

    Raises:
        PartitionError: If there is none of that name; lists those there are.
    """
    if name in partitions:
        return partitions[name]
    there = ", ".join(f'"{each}"' for each in partitions) or "none"
    hint = nearest(name, partitions)
    raise PartitionError(f'there is no partition "{name}" at this point; there are {there}{f"; {hint}" if hint else ""}')


def _log(message: str) -> None:
    logging.getLogger(__name__).warning(message)


def build_partitions(
    data: Dataset,
    splitters: Sequence[Splitter],
    seed: int,
    *,
    notify: Callable[[str], None] = _log,
    scores: Mapping[int, Scores] | None = None,
) -> dict[str, Tensor]:
    """The partitions that splitters make, one splitter after the other.

    Every splitter draws from a stream of its own, named after its parts, so adding, removing or moving one never changes what
    another draws.

    Args:
        data: The data set.
        splitters: In order; each may cut what an earlier one made. A later definition of a name replaces the earlier one.
        seed: Root of the splitters' random streams.
        notify: Told what happened that may not have been meant, one sentence a time.
        scores: Of splitters that need some, by their place, where they are known; others are computed.

    Returns:
        Name to ids, int64, in order of definition; ``all`` first. The order within a partition is stable.

    Raises:
        PartitionError: If a splitter asks for what is not there; says which splitter.
    """
    return _Partitions(data, seed, notify, scores or {}).after(splitters).partitions


def scores_at(
    data: Dataset, splitters: Sequence[Splitter], seed: int, place: int, training: Training, *, scores: Mapping[int, Scores]
) -> Scores:
    """Scores that the splitter at a place needs.

    Args:
        data: The data set.
        splitters: All of them; those before the place are applied first.
        seed: Root of the splitters' random streams.
        place: Which splitter.
        training: How models are trained.
        scores: Of earlier splitters that need some, by their place.

    Raises:
        PartitionError: If they cannot be computed; says which splitter.
    """
    made = _Partitions(data, seed, lambda message: None, scores).after(splitters[:place])
    splitter = splitters[place]
    if not isinstance(splitter, ScoredSplitter):
        raise TypeError(f"{type(splitter).__name__} needs no scores")
    with _named(place, splitter):
        return splitter.scores(made.data, made.partitions, _stream(splitter, seed), training)


class _Partitions:
    """The partitions so far, and the data as the next splitter sees them."""

    def __init__(self, data: Dataset, seed: int, notify: Callable[[str], None], scores: Mapping[int, Scores]) -> None:
        self.data, self.seed, self.notify, self.scores = data, seed, notify, scores
        self.partitions: dict[str, Tensor] = {ALL: torch.arange(len(data), dtype=torch.int64)}
        self._settled: dict[str, str] = {}

    def after(self, splitters: Sequence[Splitter]) -> _Partitions:
        for place, splitter in enumerate(splitters):
            self._split(place, splitter)
        return self

    def _split(self, place: int, splitter: Splitter) -> None:
        partitions, names = self.partitions, splitter.parts
        with _named(place, splitter) as where:
            _check_names(names)
            _check_settled(names, self._settled)
            if isinstance(splitter, ScoredSplitter) and place in self.scores:
                parts = splitter.split_by(self.scores[place], partitions)
            else:
                parts = splitter.split(self.data, partitions, _stream(splitter, self.seed))
            _check_parts(parts, names)
        for name, ids in zip(names, parts, strict=True):
            if name == DISCARDED:
                continue
            if name in partitions and name not in splitter.redefines():
                n = len(partitions[name])
                self.notify(f'{where} replaces the partition "{name}" ({n} samples) by {len(ids)} samples')
            partitions.pop(name, None)
            partitions[name] = ids
        self.data = splitter.prepared(self.data, partitions)
        self._settled |= dict.fromkeys(splitter.settles(), where)


def _stream(splitter: Splitter, seed: int) -> np.random.Generator:
    return np.random.default_rng(derive(seed, "split", *splitter.parts_names))


@contextmanager
def _named(place: int, splitter: Splitter) -> Iterator[str]:
    """What goes wrong in a splitter names it."""
    where = f"partitions[{place}] ({type(splitter).__name__})"
    try:
        yield where
    except PartitionError as error:
        failed = PartitionError(f"{where}: {error}")
        failed.splitter = place
        raise failed from error


def _check_settled(names: Sequence[str], settled: Mapping[str, str]) -> None:
    twice = next((name for name in names if name in settled), None)
    if twice is not None:
        raise PartitionError(f'the partition "{twice}" is what {settled[twice]} is about; give the new one another name')


def _check_names(names: Sequence[str]) -> None:
    if ALL in names:
        raise PartitionError(f'"{ALL}" always means the whole data set and cannot be defined again')
    twice = next((name for name, n in Counter(names).items() if n > 1 and name != DISCARDED), None)
    if twice is not None:
        both = "both parts" if len(names) == 2 else "two parts"
        raise PartitionError(f'{both} are called "{twice}"; name one of them "{DISCARDED}" to throw it away')


def _check_parts(parts: Any, names: Sequence[str]) -> None:
    found = list(parts) if isinstance(parts, tuple | list) else [parts]
    are_ids = [isinstance(ids, Tensor) and ids.dtype == torch.int64 and ids.ndim == 1 for ids in found]
    if len(found) != len(names) or not all(are_ids):
        forms = [f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__ for ids in found]
        raise PartitionError(
            f"split() must return a tensor of ids (int64, one dimension) for each of {len(names)} parts; it returned {', '.join(forms)}"
        )


_FEW_CLASSES = 10
"""So many classes may have a single sample each, as in small examples."""


def inspect_partitions(
    partitions: Mapping[str, Tensor],
    data: Dataset,
    *,
    forget: str = "forget",
    retain: str = "retain",
    train: str = "train",
    held_out: Sequence[str] = ("validation", "test"),
    find_duplicates: bool = True,
) -> list[PartitionIssue]:
    """Everything about the partitions that would make an experiment's result wrong or surprising.

    Errors: a training, forget or retain set that is empty; forget and retain overlapping; forget outside train; held-out samples
    in train, forget or retain. Warnings: other empty partitions, a retain set that is not what remains of train, a class that
    retain no longer has, a training set with a single class or nearly as many classes as samples, classes whose names differ in capitals
    only, held-out samples whose input is a byte-for-byte copy of a training sample, forgotten prompts that stand in retain with the same
    answer.

    **Cost**: set operations on ids; ``find_duplicates`` hashes each row of train and of the held-out partitions once, a pass
    over its bytes each, and those of prompts and answers once more.

    Args:
        partitions: Name to ids.
        data: The data set.
        forget: What the forget set is called; a name that does not exist is not inspected.
        retain: What the retain set is called.
        train: What the training set is called.
        held_out: What the partitions are called that nothing may be trained on.
        find_duplicates: Also compare held-out inputs with the training inputs, and forgotten answers with retained ones.

    Returns:
        Issues, errors first; empty if there is nothing to say.
    """
    issues = [
        *_empty(partitions, forget, retain, needed={forget, retain, train}),
        *_overlap(partitions, forget, retain),
    ]
    requested = request_of(data.x)
    if requested is not None:
        issues += _not_deployed(partitions, requested, held_out)
        partitions = _whatever_graph(partitions, requested)
    issues += [
        *_outside(partitions, forget, retain, train),
        *_leaks(partitions, held_out, (train, forget, retain)),
        *_lost_classes(partitions, data, retain, train),
        *_single_class(partitions, data, train),
        *_doubtful_classes(partitions, data, train),
    ]
    if find_duplicates:
        issues += [*_copies(partitions, data, held_out, train, forget), *_kept_answers(partitions, data, forget, retain)]
    return sorted(issues, key=lambda issue: issue.severity != "error")


def _whatever_graph(partitions: Mapping[str, Tensor], requested: RequestedGraph | LinkColumn) -> dict[str, Tensor]:
    """Partitions of nodes or links, whichever graph they see: it is the same samples that leak."""
    n = requested.n_samples
    return {name: ids % n for name, ids in partitions.items() if not len(ids) or int(ids.max()) < len(requested)}


def _not_deployed(
    partitions: Mapping[str, Tensor], requested: RequestedGraph | LinkColumn, held_out: Sequence[str]
) -> Iterator[PartitionIssue]:
    for name in held_out:
        ids = partitions.get(name, torch.empty(0, dtype=torch.int64))
        if bool((ids == requested.seen_in(ids, "before")).any()):
            message = "it is seen in the graph with all that is forgotten; name it in the deployed partitions of the request"
            yield PartitionIssue("warning", name, message)


def _empty(partitions: Mapping[str, Tensor], forget: str, retain: str, needed: set[str]) -> Iterator[PartitionIssue]:
    for name, ids in partitions.items():
        if len(ids) == 0:
            is_all_forgotten = name == retain and len(partitions.get(forget, ()))
            message = f'it is empty, since "{forget}" takes everything; forget less' if is_all_forgotten else "it is empty"
            yield PartitionIssue("error" if name in {*needed, ALL} else "warning", name, message)


def _shared(partitions: Mapping[str, Tensor], first: str, second: str) -> int:
    if first == second or first not in partitions or second not in partitions:
        return 0
    return int(torch.isin(partitions[first], partitions[second]).sum())


def _overlap(partitions: Mapping[str, Tensor], forget: str, retain: str) -> Iterator[PartitionIssue]:
    shared = _shared(partitions, forget, retain)
    if shared:
        yield PartitionIssue("error", forget, f'{shared} of its {len(partitions[forget])} samples are also in "{retain}"')


def _outside(partitions: Mapping[str, Tensor], forget: str, retain: str, train: str) -> Iterator[PartitionIssue]:
    if train not in partitions:
        return
    severities: tuple[tuple[str, Literal["error", "warning"]], ...] = ((forget, "error"), (retain, "warning"))
    for name, severity in severities:
        if name not in partitions:
            continue
        outside = len(partitions[name]) - _shared(partitions, name, train) if name != train else 0
        if outside:
            message = f'{outside} of its {len(partitions[name])} samples are not in "{train}": the original model never saw them'
            yield PartitionIssue(severity, name, message)
    if forget in partitions and retain in partitions and train not in {forget, retain}:
        kept = torch.cat([partitions[forget], partitions[retain]])
        missing = int((~torch.isin(partitions[train], kept)).sum())
        if missing:
            message = f'{missing} of "{train}" are neither in "{forget}" nor in "{retain}": a retrained model loses them too'
            yield PartitionIssue("warning", retain, message)


def _leaks(partitions: Mapping[str, Tensor], held_out: Sequence[str], trained_on: Sequence[str]) -> Iterator[PartitionIssue]:
    for name in held_out:
        leaks = [(used, _shared(partitions, name, used)) for used in trained_on]
        if any(shared for _, shared in leaks):
            where = ", ".join(f'{shared} in "{used}"' for used, shared in leaks if shared)
            yield PartitionIssue("error", name, f"samples that nothing may be trained on are trained on: {where}")


def _present(data: Dataset, ids: Tensor) -> Tensor:
    """One boolean a class: does a sample of ``ids`` have it?"""
    labels = data.y[ids]
    if data.task == "multilabel":
        return (labels > 0.5).any(dim=0)
    return torch.bincount(labels, minlength=data.n_classes) > 0


def _lost_classes(partitions: Mapping[str, Tensor], data: Dataset, retain: str, train: str) -> Iterator[PartitionIssue]:
    if data.task == "generation" or retain not in partitions or len(partitions[retain]) == 0:
        return
    before = _present(data, partitions.get(train, torch.arange(len(data))))
    lost = (before & ~_present(data, partitions[retain])).nonzero().flatten().tolist()
    if lost:
        names = [data.class_name(k) for k in lost]
        listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        yield PartitionIssue("warning", retain, f"it has no sample of {len(lost)} of the classes to be learned: {listed}")


def _doubtful_classes(partitions: Mapping[str, Tensor], data: Dataset, train: str) -> Iterator[PartitionIssue]:
    """Classes that were hardly meant: nearly as many as samples, or called alike but for capitals."""
    if data.task != "classification" or train not in partitions:
        return
    n_samples, n_present = len(partitions[train]), int(_present(data, partitions[train]).sum())
    if n_present > max(_FEW_CLASSES, n_samples // 2):
        message = (
            f"its {n_samples:,} samples are of {n_present:,} classes: is what is learned a class, and not a number or an id?"
        )
        yield PartitionIssue("warning", train, message)
    if data.n_classes > 2 and not data.class_names and len(data.y) and int(data.y.min()) == 1:
        yield PartitionIssue("warning", ALL, "no sample is of class 0, which the model learns all the same: labels count from 0")
    spelt: dict[str, str] = {}
    for name in data.class_names:
        first = spelt.setdefault(name.strip().casefold(), name)
        if first != name:
            yield PartitionIssue("warning", train, f'"{first}" and "{name}" are two classes; write them alike if they are one')


def _single_class(partitions: Mapping[str, Tensor], data: Dataset, train: str) -> Iterator[PartitionIssue]:
    ids = partitions.get(train, torch.empty(0, dtype=torch.int64))
    if data.task in {"multilabel", "generation"} or not len(ids):
        return
    present = _present(data, ids).nonzero().flatten().tolist()
    if len(present) == 1:
        message = f"every sample is of class {data.class_name(present[0])}: there is nothing to learn, and nothing to forget"
        yield PartitionIssue("error" if data.n_classes == 1 else "warning", train, message)


def _fingerprints(x: TensorColumn, ids: Tensor) -> Tensor:
    """One number a row, the same for equal rows and nearly always another for others."""
    generator = torch.Generator().manual_seed(0)
    factors, found = None, []
    for block in torch.split(ids, 4096):
        rows = x.rows(block).contiguous().flatten(1).view(torch.uint8)
        rows = F.pad(rows, (0, -rows.shape[1] % 8)).view(torch.int64)
        if factors is None:
            factors = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator) | 1
        # Products wrap around; the shift brings what only the high bytes differ in down to where it counts.
        found.append(((rows ^ (rows >> 29)) * factors).sum(1))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _digests(x: TensorColumn, ids: Tensor) -> list[bytes]:
    rows = x.rows(ids).contiguous().flatten(1).view(torch.uint8).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def _copies(
    partitions: Mapping[str, Tensor], data: Dataset, held_out: Sequence[str], train: str, forget: str
) -> Iterator[PartitionIssue]:
    present = [name for name in held_out if name in partitions]
    if not present or train not in partitions or not isinstance(data.x, TensorColumn) or data.x.values.numel() == 0:
        return
    trained = partitions[train]
    prints = _fingerprints(data.x, trained)
    for name in present:
        fresh = partitions[name][~torch.isin(partitions[name], trained)]
        own = _fingerprints(data.x, fresh)
        # Only rows that look alike are compared byte for byte.
        suspects, originals = fresh[torch.isin(own, prints)], trained[torch.isin(prints, own)]
        known = _digests(data.x, originals)
        in_forget = torch.isin(originals, partitions[forget]).tolist() if forget in partitions else [False] * len(known)
        forgotten = {each for each, is_forgotten in zip(known, in_forget, strict=True) if is_forgotten}
        alike, hashes = set(known), _digests(data.x, suspects)
        copies, of_forgotten = sum(each in alike for each in hashes), sum(each in forgotten for each in hashes)
        if copies:
            detail = f', {of_forgotten} of them of "{forget}"' if of_forgotten else ""
            message = f'{copies} of its {len(partitions[name])} samples are exact copies of inputs in "{train}"{detail}'
            yield PartitionIssue("warning", name, message)


def _kept_answers(partitions: Mapping[str, Tensor], data: Dataset, forget: str, retain: str) -> Iterator[PartitionIssue]:
    if data.task != "generation" or not isinstance(data.x, TensorColumn) or not {forget, retain} <= partitions.keys():
        return
    x = TensorColumn(data.x.values[:, :2])  # the prompt with the answer that is learned
    forgotten, kept = partitions[forget], partitions[retain]
    suspects = kept[torch.isin(_fingerprints(x, kept), _fingerprints(x, forgotten))]
    known = set(_digests(x, suspects))
    copies = sum(each in known for each in _digests(x, forgotten)) if known else 0
    if copies:
        message = f'{copies} of its {len(forgotten)} prompts stand in "{retain}" too, with the same answer, which cannot be forgotten then'
        yield PartitionIssue("warning", forget, message)
