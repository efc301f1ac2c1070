"""What a deletion request will cost, learned from timing the real steps on parts of the data and with stand-ins for models to come."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure.accounting.guarantee import Guarantee
from erasure.engine.fits import Fits, passed, remembered
from erasure.engine.given_data import GivenData
from erasure.engine.given_models import GivenBlock, GivenModel, MeasuredModels, knows_all
from erasure.engine.given_unlearning import Teachers, Unlearnings
from erasure.engine.sharded_fits import ShardedFit
from erasure.errors import ErasureError
from erasure.measures.contract import Measure, Outputs
from erasure.records.rows import Row
from erasure.training.randomness import derive
from erasure.unlearners.contract import Unlearner
from erasure.workflows.deletion_plan import OfferedMethod, StepPrices

__all__ = ["Rehearsal", "candidate_prices", "pass_seconds", "retraining_price"]

_TRIALS = (0.025, 0.1)
"""Shares of the data on which what nobody has timed yet is timed; the line through both tells what does not grow with the data."""
_MIN_TRIAL = 8
_TRAINED, _MIN_TRAINED = 20, 64
"""One sample in so many is trained on to time a training, but a few batches at least."""
_KNOWN = 5
"""Models that are there already and whose time is looked up."""
_PASSED = 2048
"""Samples of a partition that a pass is timed on."""
_SPREAD = 0.1
"""How far the answers of stand-ins scatter, in standard deviations of the model's own."""
_SURER = 1.5
"""How much surer those are that stand for originals."""
_ORIGINAL, _UNLEARNED, _ASKED = 1000, 1001, 2000
"""Seeds of the noise of stand-ins; golds count from 0."""


def retraining_price(fits: Fits, data: GivenData, known: Sequence[tuple[Tensor, int]], seed: int) -> float:
    """Seconds of one retraining: of models that are there already, else trials on parts of the data, extended to all of it.

    Args:
        fits: Trains models.
        data: The data.
        known: Ids and seeds of models that may be there.
        seed: Of the trials.
    """
    there = [(ids, number) for ids, number in known if fits.has(ids, number)]
    if there:
        return statistics.median(fits.model(ids, number).elapsed_s for ids, number in there[:_KNOWN])
    retain = data.partitions["retain"]
    pool, n_networks = retain, 1
    if isinstance(fits.fit, ShardedFit):
        pool, n_networks = fits.fit.of_one_shard(retain), fits.fit.n_trained(retain)
    some = pool[:: max(1, min(_TRAINED, len(pool) // _MIN_TRAINED))]
    few = some[: max(_MIN_TRIAL, len(some) // 8)]
    fits.model(few, derive(seed, "trial", 0), "a model to warm up")
    names = ("a model on a small part of the data, to time it", "a model on a part of the data, to time it")
    took = [
        fits.model(ids, derive(seed, "trial", number), name).elapsed_s
        for number, (ids, name) in enumerate(zip((few, some), names, strict=True), start=1)
    ]
    return _extended((len(few), len(some)), (took[0], took[1]), len(retain), n_networks)


def _extended(sizes: tuple[int, int], took: tuple[float, float], size: int, n_starts: int = 1) -> float:
    """The line through two timings at another size, which so many share that each has a start; neither part of it is negative."""
    if sizes[0] == sizes[1]:
        return took[1] * size / sizes[1]
    slope = min(max((took[1] - took[0]) / (sizes[1] - sizes[0]), 0.0), took[1] / sizes[1])
    return n_starts * (took[1] - slope * sizes[1]) + slope * size


def candidate_prices(
    methods: Sequence[tuple[str, Unlearner]], unlearnings: Unlearnings, original: GivenModel, seed: int
) -> list[OfferedMethod]:
    """What each method takes on all of the data, from trials on two parts of it; the cheapest first.

    Args:
        methods: Labels and methods.
        unlearnings: Applies them.
        original: The model.
        seed: Of the trials.
    """
    data, trials = unlearnings.data, [_part_of(unlearnings, original, share) for share in _TRIALS]
    sizes = [len(trial.data.partitions["train"]) for trial in trials]
    found = []
    for label, unlearner in methods:
        reason = unlearner.unsupported_reason(data.model_input)
        missing = sorted({"validation", "test"} & set(unlearner.partition_names()) - set(data.partitions))
        if reason is None and missing:
            reason = f"it reads a {missing[0]} set"
        took, promise = 0.0, Guarantee()
        if reason is None:
            try:
                runs = [
                    [trial.apply(unlearner, original, derive(seed, "trial", number)) for number in (0, 1)] for trial in trials
                ]
                fastest = [min(run.total_s for run in pair) for pair in runs]
                promise = runs[-1][0].guarantee
                took = _extended((sizes[0], sizes[1]), (fastest[0], fastest[1]), len(data.partitions["train"]))
            except ErasureError as error:
                reason = str(error)
        found.append(OfferedMethod(label, unlearner, took, reason or "", promise))
    return sorted(found, key=lambda each: each.seconds)


def _part_of(unlearnings: Unlearnings, original: GivenModel, share: float) -> Unlearnings:
    """What applies methods to a share of the data."""
    data, parts = unlearnings.data, {}
    for name in ("forget", "retain"):
        ids = data.partitions[name]
        parts[name] = ids[:: max(1, min(round(1 / share), len(ids) // _MIN_TRIAL))]
    parts["train"] = parts["forget"].new_tensor(sorted([*parts["forget"].tolist(), *parts["retain"].tolist()]))
    teachers = Teachers("the original, whose answers take as long", lambda _: original) if unlearnings.teachers else None
    is_part = len(parts["train"]) < len(data.partitions["train"])
    return Unlearnings(data.narrowed(**parts), unlearnings.like, unlearnings.store, unlearnings.fits, teachers, is_part=is_part)


def pass_seconds(data: GivenData, original: GivenModel) -> float:
    """Seconds of one pass of the model over everything that is measured, from a part of it."""
    total = 0.0
    for name in {"forget", "retain", "test"} & set(data.partitions):
        some = data.partitions[name][:_PASSED]
        start = time.perf_counter()
        passed(original.load(), data, some)
        total += (time.perf_counter() - start) * len(data.partitions[name]) / max(1, len(some))
    return total


# Measuring, judging and publishing


@dataclass(frozen=True, eq=False, kw_only=True)
class Rehearsal:
    """Measures, judges and publishes stand-ins for the models to come, the model in use with noise in its answers, to time it.

    Args:
        data: The data.
        own: The model in use.
        measures: What is measured.
        n_originals: Originals that the real evidence will have; one where nothing is compared.
        n_golds: Golds of each; 0 where nothing is compared.
        write: Judges the blocks and their rows, and writes evidence and report below a folder.
        publish: Makes the answer in the folder, from what ``write`` gave.
    """

    data: GivenData
    own: GivenModel
    measures: Sequence[Measure]
    n_originals: int
    n_golds: int
    write: Callable[[Sequence[GivenBlock], Sequence[Row], MeasuredModels, Path], object]
    publish: Callable[[object, Path], None]

    def timed(self) -> StepPrices:
        """Seconds of each step; what only the first of two rehearsals took is the price of a new process."""
        first, second = self._once(), self._once()
        steps = ("judging_s", "report_s", "answer_s")
        start = sum(max(0.0, getattr(first, name) - getattr(second, name)) for name in steps)
        return replace(second, start_s=start)

    def _once(self) -> StepPrices:
        measured = MeasuredModels(data=self.data, measures=self.measures, name="rehearsal", made=self._asked)
        golds = [self._stand_in(number) for number in range(self.n_golds)]
        block = GivenBlock(
            original=self._stand_in(_ORIGINAL, _SURER), golds=golds, unlearned={"rehearsal": self._stand_in(_UNLEARNED)}
        )
        for model in (block.original, *golds, *block.unlearned.values()):
            for name in {"forget", "retain", "test"} & set(self.data.partitions):
                model.outputs(self.data.partitions[name])  # passes have a price of their own
        clock = [time.perf_counter()]
        rows = [replace(row, status="ok", reason="") for row in measured.rows([block])]
        clock.append(time.perf_counter())
        numbers = range(self.n_originals)
        blocks = [replace(block, number=number) for number in numbers]
        rows = [replace(row, seed_train=number) for number in numbers for row in rows]
        with tempfile.TemporaryDirectory(prefix="erasure-") as folder:
            written = self.write(blocks, rows, measured, Path(folder))
            clock.append(time.perf_counter())
            self.publish(written, Path(folder))
            clock.append(time.perf_counter())
        judging, report, answer = (after - before for before, after in itertools.pairwise(clock))
        return StepPrices(judging_s=judging / (2 + self.n_golds), report_s=report, answer_s=answer)

    def _asked(self, request: Any) -> GivenModel:
        """What a measure compares with: originals know more of the forgotten samples than others."""
        return self._stand_in(_ASKED + request.number, _SURER if knows_all(request) else 1.0)

    def _stand_in(self, number: int, surer: float = 1.0) -> GivenModel:
        def outputs(ids: Tensor) -> Outputs:
            said = self.own.outputs(ids)
            generator = torch.Generator().manual_seed(number)
            noise = torch.randn(said.losses.shape, generator=generator).to(said.losses)
            scattered = torch.randn(said.logits.shape, generator=generator).to(said.logits)
            scale = said.logits.std().nan_to_num(1.0)
            return replace(
                said,
                logits=surer * said.logits + _SPREAD * scale * scattered,
                losses=said.losses / surer * (1 + _SPREAD * noise).clamp_min(0.5),
            )

        return replace(self.own, outputs=remembered(outputs))
