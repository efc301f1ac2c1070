"""``erasure calibrate``: trains the golds of a configuration, and lets them play its methods."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from erasure.analysis.calibration import Calibration, calibrate
from erasure.analysis.gaps import RolePartitions
from erasure.errors import ConfigError, Diagnostic
from erasure.events import Listener, ignore_events
from erasure.experiment.configuration import Experiment, LabelledUnlearner
from erasure.records.rows import Row
from erasure.records.run_folder import RunFolder
from erasure.registry.lookup import Registry
from erasure.unlearners.contract import Unlearner
from erasure.workflows.design import n_tested
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

__all__ = ["DEFAULT_POOL", "calibrate_experiment", "pool_of_golds"]

DEFAULT_POOL = 20
"""Golds of each original that play methods and jury: one block of golds that are trained together."""


def calibrate_experiment(
    experiment: Experiment,
    options: RunOptions | None = None,
    *,
    n_pool: int | None = None,
    n_draws: int = 300,
    listener: Listener = ignore_events,
) -> Calibration:
    """How often would the reports of this configuration accuse a retrained model, and what would they miss?

    Originals and golds are trained, methods are not run. What the store has is not computed again.

    Args:
        experiment: The validated configuration.
        options: Seeds, store and device; their number of originals is that of a report.
        n_pool: Golds of each original to draw from, or of all that share them; by default twenty, or as few as a report takes.
        n_draws: Reports.
        listener: Receives events.

    Raises:
        ConfigError: If the configuration has no methods, or no further golds, or the pool is no larger than a jury.
    """
    n_golds = experiment.evaluator.floor_repeats
    if not experiment.unlearners:
        raise ConfigError([Diagnostic("there is no method whose verdict could be calibrated", "unlearners", kind="requirement")])
    if not n_golds:
        message = "no method is judged without further golds"
        raise ConfigError([Diagnostic(message, "evaluator.floor_repeats", hint="give at least 5", kind="requirement")])
    least = n_golds + (_most_originals(experiment, options or RunOptions()) if experiment.evaluator.shared_golds else 1)
    pool = n_pool if n_pool is not None else max(DEFAULT_POOL, least)
    if pool < least:
        message = f"a jury of {n_golds} golds leaves too few of {pool} to play the method"
        raise ConfigError(
            [Diagnostic(message, "evaluator.floor_repeats", hint=f"give --golds of at least {least}", kind="requirement")]
        )
    rows, roles = pool_of_golds(experiment, pool, options, listener)
    return calibrate(rows, roles, n_golds=n_golds, n_methods=n_tested(experiment), n_draws=n_draws)


def pool_of_golds(
    experiment: Experiment,
    n_pool: int,
    options: RunOptions | None = None,
    listener: Listener = ignore_events,
    *,
    keeps_methods: bool = False,
) -> tuple[tuple[Row, ...], RolePartitions]:
    """Rows of the originals of a configuration and of ``n_pool`` further golds of each, and what the partitions are.

    Args:
        experiment: The validated configuration, with at least one method.
        n_pool: Golds of each original.
        options: Seeds, store and device.
        listener: Receives events.
        keeps_methods: Whether the methods are run and measured as well.
    """
    golds = replace(
        experiment,
        unlearners=experiment.unlearners if keeps_methods else _nothing_but(experiment.unlearners),
        evaluator=experiment.evaluator.replace(floor_repeats=n_pool, trace=None),
    )
    with tempfile.TemporaryDirectory(prefix="erasure-") as directory:
        output = Path(directory) / "golds"
        run_experiment(golds, replace(options or RunOptions(), output=output, report=False), listener)
        folder = RunFolder.load(output)
    sizes = {partition.name: partition.n for group in folder.groups for partition in group.partitions}
    roles = RolePartitions(folder.partitions("forget"), folder.partitions("retain"), folder.partitions("test"), sizes)
    return (*folder.rows, *folder.jury), roles


def _most_originals(experiment: Experiment, options: RunOptions) -> int:
    """Most originals of one split: where they share their golds, each needs one to play a method."""
    seeds = {(each.split, each.train) for each in options.repetitions(experiment)}
    return max(Counter(split for split, _ in seeds).values())


def _nothing_but(methods: Sequence[LabelledUnlearner]) -> tuple[LabelledUnlearner, ...]:
    """What does nothing, on the partitions of the first method: it says which samples are forgotten."""
    first = methods[0].unlearner
    nothing = Registry().resolve("Identity", Unlearner).cls
    made = cast(Unlearner, nothing(forget=first.forget, retain=first.retain, train=first.train))  # type: ignore[call-arg]
    return (LabelledUnlearner(made, "Identity", "Identity"),)
