"""Nineteen further golds trained as a run trains its jury, in blocks, against one stage for each of them.

The same golds of the digits, from the same seeds: an MLP and the CNN of the proof of concept. Both ways train, publish into a store, run
every gold on the three partitions and measure its accuracy on each. They take turns, and the median of the ratios of CPU seconds is what
counts. ``python benchmarks/jury.py [--rounds 1] [--model MLP]`` exits with 1 if the ratio of the whole price is above its limit, or if
golds trained together say something else about more than 1 % of the samples.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from erasure.experiment.configuration import load_experiment
from erasure.planning import group_planner
from erasure.planning.plan import Plan
from erasure.planning.planner import build_plan
from erasure.planning.seeds import Seeds
from erasure.stages.blocks import split_member
from erasure.stages.inference import RunModel, outputs_of
from erasure.stages.measuring import CheckModel, MeasureModel
from erasure.stages.session import Session
from erasure.stages.stage import Stage, run_stage
from erasure.store import Store

N_GOLDS = 19
LIMIT_DISAGREEMENT = 0.01
PARTITIONS = ("forget", "retain", "test")


@dataclass(frozen=True)
class Case:
    model: str
    epochs: int
    limit: float


CASES = (Case("MLP", 20, 0.2), Case("CNN", 25, 0.6))


def planned(case: Case, *, in_blocks: bool) -> Plan:
    """The proof of concept's recipe with nineteen further golds and nothing but accuracies."""
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in PARTITIONS]
    parts = {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1}
    configuration = {
        "data": {
            "data_source": {"class": "Sklearn", "parameters": {"name": "digits"}},
            "partitions": [
                {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                {"class": "Percentage", "parameters": parts},
            ],
            "batch_size": 32,
        },
        "predictor": {
            "model": case.model,
            "epochs": case.epochs,
            "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}},
        },
        "unlearners": ["Identity"],
        "evaluator": {"measures": accuracies, "floor_repeats": N_GOLDS},
    }
    before = group_planner.unsuited
    if not in_blocks:
        group_planner.unsuited = lambda *_: "one by one"  # type: ignore[assignment]
    try:
        return build_plan(load_experiment(configuration), [Seeds.all(0)])
    finally:
        group_planner.unsuited = before


def jury(plan: Plan) -> Sequence[str]:
    (repetition,) = plan.repetitions
    return [floor.model for floor in repetition.floors]


@dataclass(frozen=True)
class Price:
    """CPU seconds that a jury costs: of its training, of its passes over the partitions, and of its values."""

    training: float
    passes: float
    values: float

    @property
    def whole(self) -> float:
        return self.training + self.passes + self.values


def timed(plan: Plan, folder: Path) -> tuple[Price, list[torch.Tensor]]:
    """What the jury costs, and what each gold says of the test set."""
    session = Session(Store(folder), torch.device("cpu"), plan.numerics)
    golds = set(jury(plan))
    places = {split_member(model)[0] for model in golds}
    mine: dict[str, list[Stage]] = {"training": [], "passes": [], "values": []}
    for address, stage in plan.stages.items():
        if address in places:
            mine["training"].append(stage)
        elif isinstance(stage, RunModel) and stage.model in places:
            mine["passes"].append(stage)
        elif isinstance(stage, MeasureModel) and stage.model in golds:
            mine["values"].append(stage)
        elif not isinstance(stage, CheckModel):  # what a run without a jury does too; what it imports is no price of a jury
            run_stage(session, stage)
    (data,) = plan.data
    seconds = {}
    for part, stages in mine.items():
        start = time.process_time()
        for stage in stages:
            run_stage(session, stage)
        seconds[part] = time.process_time() - start
    return Price(**seconds), [outputs_of(session, data, model, "test").predictions for model in jury(plan)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=[case.model for case in CASES], help="One of the networks alone.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    missed = False
    parts = [each.name for each in fields(Price)]
    print(
        f"{'19 golds of the digits':24}{'blocks':>10}{'alone':>10}"
        + "".join(f"{part:>10}" for part in (*parts, "whole", "limit", "different"))
    )
    for case in CASES:
        if given.model not in {None, case.model}:
            continue
        found: dict[bool, list[Price]] = {True: [], False: []}
        said: dict[bool, list[torch.Tensor]] = {}
        for _ in range(given.rounds):
            for in_blocks in (True, False):
                with tempfile.TemporaryDirectory() as folder:
                    price, said[in_blocks] = timed(planned(case, in_blocks=in_blocks), Path(folder))
                found[in_blocks].append(price)
        ratios = [
            statistics.median(getattr(a, part) / getattr(b, part) for a, b in zip(found[True], found[False], strict=True))
            for part in (*parts, "whole")
        ]
        different = statistics.mean(float(a.ne(b).float().mean()) for a, b in zip(said[True], said[False], strict=True))
        seconds = [statistics.median(each.whole for each in found[way]) for way in (True, False)]
        bad = ratios[-1] > case.limit or different > LIMIT_DISAGREEMENT
        missed |= bad
        numbers = "".join(f"{each:>10.2f}" for each in seconds) + "".join(f"{each:>10.3f}" for each in (*ratios, case.limit))
        print(f"{case.model:24}{numbers}{different:>10.2%}{'  MISSED' if bad else ''}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
