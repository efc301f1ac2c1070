"""How sharp is memory left on retrained models, and how sharp could it be? Golds and originals that are measured by rulers of other seeds.

``python benchmarks/memory.py [--case digits-MLP ...] [--models 40] [--set predictor.epochs=60]`` trains golds and originals of the cases
of ``calibration.py``, takes eight of each as rulers, twelve times by lot, and measures the others. It prints the spread of golds; the least
spread that any weighting of the margins of forgotten samples could reach if these were independent and normal (one over the root
of the sum of squares of what originals are above golds, in standard deviations of a gold, less what chance adds to it); and how often a
report of five originals with four golds each bounds a retrained model within a fifth, and how many originals do so in 60 % of reports, of
normal golds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from calibration import DIGITS, MIN_SAME, digits
from torch import Tensor

from erasure.analysis.equivalence import chance_within, originals_within
from erasure.analysis.findings import MEMORY_MARGIN
from erasure.experiment.configuration import load_experiment
from erasure.functional.membership import confidence_margin
from erasure.functional.residual_memory import memory_left
from erasure.measures.contract import forward_pass
from erasure.planning.planner import build_plan
from erasure.planning.seeds import Seeds
from erasure.stages.session import Session
from erasure.stages.stage import run_stage
from erasure.store import Store
from erasure.training.ensemble import BLOCK_SIZE, train_together
from erasure.training.predictor import build_model

N_RULERS = 8
N_SETS = 12
N_GOLDS = 4


def margins_of(case: str, n_models: int, overrides: Sequence[str] = ()) -> tuple[Tensor, Tensor, Tensor]:
    """Margins of golds and of originals, ``(models, samples)`` each, and which samples are forgotten; the others are unseen."""
    experiment = load_experiment(digits(*DIGITS[case]), overrides=overrides, trust=["calibration"])
    plan = build_plan(experiment, [Seeds.all(0)])
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Store(Path(folder)), torch.device("cpu"), plan.numerics)
        for stage in plan.stages.values():
            if stage.prepares:
                run_stage(session, stage)
        (data,) = plan.data
        loaded = session.loaded(data)
    looked_at = torch.cat([loaded.partitions["forget"], loaded.partitions["test"]])
    options = {"x": loaded.x, "y": loaded.y, "criterion": loaded.criterion}

    def said(partition: str, first: int) -> Tensor:
        found = []
        for start in range(0, n_models, BLOCK_SIZE):
            seeds = range(first + start, first + min(start + BLOCK_SIZE, n_models))
            blanks = [build_model(data.predictor.model, loaded.model_input, seed, session.device) for seed in seeds]
            ids = [loaded.partitions[partition]] * len(seeds)
            models = train_together(blanks, data.predictor, ids=ids, seeds=seeds, batch_size=data.batch_size, **options)
            for model in models:
                outputs = forward_pass(model, ids=looked_at, task="classification", **options)
                found.append(confidence_margin("classification", outputs.logits, outputs.labels))
        return torch.stack(found)

    forgotten = torch.arange(len(looked_at)) < len(loaded.partitions["forget"])
    return said("retain", 1), said("train", 100_001), forgotten


def spreads(golds: Tensor, originals: Tensor, forgotten: Tensor) -> tuple[float, float, float]:
    """Standard deviation of golds, mean and standard deviation of originals, as rulers of other seeds measure them."""
    generator = torch.Generator().manual_seed(0)
    of_golds, means, of_originals = [], [], []
    for _ in range(N_SETS):
        first, second = (torch.randperm(len(models), generator=generator) for models in (golds, originals))
        rulers = golds[first[:N_RULERS]], originals[second[:N_RULERS]]
        left, kept = (
            torch.tensor([memory_left(model, *rulers, forgotten).share for model in models])
            for models in (golds[first[N_RULERS:]], originals[second[N_RULERS:]])
        )
        of_golds.append(float(left.var()))
        means.append(float(kept.mean() - left.mean()))
        of_originals.append(float(kept.var()))
    return float(np.mean(of_golds)) ** 0.5, float(np.mean(means)), float(np.mean(of_originals)) ** 0.5


def least_spread(golds: Tensor, originals: Tensor, forgotten: Tensor) -> float:
    """Spread of golds by the best weights for margins that are independent and normally distributed."""
    mine, others = golds[:, forgotten], originals[:, forgotten]
    apart = (others.mean(0) - mine.mean(0)) ** 2 / mine.var(0)
    by_chance = int(forgotten.sum()) * (1 / len(mine) + 1 / len(others))
    return float((apart.sum() - by_chance).clamp(min=1e-12)) ** -0.5


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=list(DIGITS))
    parser.add_argument("--models", type=int, default=40)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = ("golds, sd", "originals", "sd", "least sd", "5 x 4 bound", "originals for 60 %")
    print(f"{'':14}" + "".join(f"{name:>20}" for name in names))
    for case in given.case or list(DIGITS):
        margins = margins_of(case, given.models, given.overrides)
        gold, original, deviation = spreads(*margins)
        said = (
            f"{gold:.3f}",
            f"{original:.2f}",
            f"{deviation:.3f}",
            f"{least_spread(*margins):.3f}",
            f"{100 * chance_within(gold, 5, MEMORY_MARGIN, n_golds=N_GOLDS):.0f} %",
            str(originals_within(gold, MEMORY_MARGIN, n_golds=N_GOLDS, chance=MIN_SAME) or "> 100"),
        )
        print(f"{case:14}" + "".join(f"{each:>20}" for each in said), flush=True)


if __name__ == "__main__":
    main()
