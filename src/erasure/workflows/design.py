"""What a planned run can say of its methods, what it costs, and which design fits a budget: before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from erasure.analysis.designs import GOLDS, Outlook, affordable, outlook
from erasure.analysis.labellings import Design
from erasure.errors import RequirementNotMet
from erasure.experiment.configuration import Experiment
from erasure.measures.contract import Measure
from erasure.planning.estimate import Cost, costs, estimate
from erasure.planning.plan import Plan
from erasure.stages.blocks import asks_for_shadows
from erasure.stages.spawning import n_workers
from erasure.stages.stage import Stage
from erasure.stages.training import TrainModel
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan

__all__ = ["designs_within", "outlook_of", "price"]

_ROWS_OF_A_SHADOW_ATTACK = 4


def outlook_of(plan: Plan, past: Mapping[str, Cost] | None = None) -> Outlook:
    """What the design of a plan can say of its methods.

    Args:
        plan: The plan.
        past: What earlier stages took, for the price.
    """
    blocks: dict[tuple[int, int | None], tuple[set[int], int]] = {}
    for repetition in plan.repetitions:
        key = (repetition.seeds.split, None if repetition.shares_jury else repetition.seeds.train)
        blocks.setdefault(key, (set(), len(repetition.floors)))[0].add(repetition.seeds.train)
    counts = tuple((len(originals), golds) for originals, golds in blocks.values())
    design = Design(counts) if counts and all(golds for _, golds in counts) else None
    seconds = price(plan.stages.values(), past) if past is not None else None
    return outlook(design, n_tested(plan.experiment), n_values=n_compared(plan.experiment), price_s=seconds)


def n_tested(experiment: Experiment) -> int:
    """Methods that are tested together: retraining is not, nor is doing nothing."""
    return sum(not entry.unlearner.exact and not entry.unlearner.changes_nothing() for entry in experiment.unlearners)


def n_compared(experiment: Experiment) -> int:
    """About how many values of a method are compared with gold; how many a measure has is not known before it has run."""
    return max(1, sum(_n_values(measure) for measure in experiment.evaluator.measures))


def _n_values(measure: Measure) -> int:
    if not measure.on_jury or measure.ideal is None:
        return 0
    return _ROWS_OF_A_SHADOW_ATTACK if asks_for_shadows(request for request, _ in measure.requests("unlearned")) else 1


def price(stages: Iterable[Stage], past: Mapping[str, Cost]) -> float | None:
    """Seconds of stages, one after the other; None before it is known how long training takes.

    Methods that never ran are taken for a tenth of a training, and measures that never ran for nothing.
    """
    all_stages = list(stages)
    known = {stage.signature: estimate(past, stage.signature) for stage in all_stages}
    trained = [
        found.elapsed_s for stage in all_stages if isinstance(stage, TrainModel) and (found := known[stage.signature]) is not None
    ]
    if not trained:
        return None
    total = 0.0
    for stage in all_stages:
        found = known[stage.signature]
        total += found.elapsed_s if found is not None else trained[0] * (stage.trainings or 0.0)
    return total


def designs_within(budget_s: float, experiment: Experiment, options: RunOptions, store: Store) -> list[Outlook]:
    """Designs that fit a budget, the sharpest first; every original has seeds of its own, and nothing is taken from the store.

    Args:
        budget_s: Seconds.
        experiment: What would be run.
        options: How; its seeds do not matter.
        store: Where earlier stages are, by which the others are priced.

    Raises:
        RequirementNotMet: If nothing like it has been run, so that no price is known; or if nothing fits.
    """
    past = costs(store)
    workers = 1 if options.executor == "serial" else n_workers(options.threads, options.workers)
    alone = {n_golds: _price_of_one(experiment, options, n_golds, past) for n_golds in GOLDS}
    found = affordable(
        budget_s,
        lambda n_originals, n_golds: n_originals * alone[n_golds] / workers,
        n_tested(experiment),
        n_values=n_compared(experiment),
    )
    if not found:
        least = min(alone[n_golds] for n_golds in GOLDS if n_golds >= 5) / workers
        raise RequirementNotMet(
            f"no design that could accuse a method fits in {budget_s:.0f} s: one original with five further golds takes {least:.0f} s"
        )
    return found


def _price_of_one(experiment: Experiment, options: RunOptions, n_golds: int, past: Mapping[str, Cost]) -> float:
    """Seconds of one original with a number of further golds."""
    evaluator = experiment.evaluator.replace(floor_repeats=n_golds)
    plan = make_plan(replace(experiment, evaluator=evaluator), replace(options, seeds=(experiment.globals.seed,), axes={}))
    seconds = price(plan.stages.values(), past)
    if seconds is None:
        raise RequirementNotMet(
            "what this experiment costs is not known before a model of it was trained; run it once, with one seed, and ask again"
        )
    return seconds
