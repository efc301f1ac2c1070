"""Nineteen further golds trained as a run trains its jury, in blocks, against one stage for each of them.

The same golds of the digits, from the same seeds: an MLP and the CNN of the proof of concept. Both ways train, publish into a store, and
run every gold on the three partitions. They take turns, and the median of the ratios of CPU seconds is what counts.
``python benchmarks/jury.py [--rounds 1]`` exits with 1 if a ratio is above its limit, or if golds trained together say something else about
more than 1 % of the samples.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from erasure.experiment.configuration import load_experiment
from erasure.planning import group_planner
from erasure.planning.plan import Plan
from erasure.planning.planner import build_plan
from erasure.planning.seeds import Seeds
from erasure.stages.blocks import split_member
from erasure.stages.inference import outputs_of
from erasure.stages.session import Session
from erasure.stages.stage import run_stage
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


def timed(plan: Plan, folder: Path) -> tuple[float, float, list[torch.Tensor]]:
    """CPU seconds of the training stages, of the passes over the partitions, and what each gold says of the test set."""
    session = Session(Store(folder), torch.device("cpu"), plan.numerics)
    for stage in plan.stages.values():
        if stage.prepares:
            run_stage(session, stage)
    (data,) = plan.data
    session.loaded(data)
    places = dict.fromkeys(split_member(model)[0] for model in jury(plan))
    start = time.process_time()
    for place in places:
        run_stage(session, plan.stages[place])
    middle = time.process_time()
    for stage in plan.stages.values():
        if stage.kind == "outputs" and stage.model in places:
            run_stage(session, stage)
    end = time.process_time()
    said = [outputs_of(session, data, model, "test").predictions for model in jury(plan)]
    return middle - start, end - middle, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    missed = False
    print(f"{'19 golds of the digits':24}{'blocks':>10}{'alone':>10}{'training':>10}{'passes':>10}{'limit':>8}{'different':>11}")
    for case in CASES:
        found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        said: dict[bool, list[torch.Tensor]] = {}
        for _ in range(rounds):
            for in_blocks in (True, False):
                with tempfile.TemporaryDirectory() as folder:
                    trained, passed, said[in_blocks] = timed(planned(case, in_blocks=in_blocks), Path(folder))
                found[in_blocks].append((trained, passed))
        training, passes = (
            statistics.median(a[part] / b[part] for a, b in zip(found[True], found[False], strict=True)) for part in (0, 1)
        )
        different = statistics.mean(float(a.ne(b).float().mean()) for a, b in zip(said[True], said[False], strict=True))
        seconds = [statistics.median(each[0] for each in found[way]) for way in (True, False)]
        bad = training > case.limit or different > LIMIT_DISAGREEMENT
        missed |= bad
        numbers = f"{seconds[0]:>10.2f}{seconds[1]:>10.2f}{training:>10.3f}{passes:>10.3f}{case.limit:>8.2f}{different:>11.2%}"
        print(f"{case.model:24}{numbers}{'  MISSED' if bad else ''}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
