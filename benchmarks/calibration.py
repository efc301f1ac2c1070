"""How often is a model that truly is retrained accused, and what is found? On real golds, drawn anew as methods and juries.

``python benchmarks/calibration.py [--model MLP|CNN] [--draws 1000]`` trains five originals of the digits with twenty golds each, a tenth
of the training set forgotten. In each draw, golds of the same original play the method and the jury, by lot and without replacement: what
is known of labellings holds for any pool, so the share of accused ones may exceed 5 % by the error of so many draws alone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from erasure.analysis.gaps import Roles
from erasure.analysis.judging import Finding, judge_report
from erasure.experiment.configuration import load_experiment
from erasure.records.rows import Row
from erasure.records.run_folder import RunFolder
from erasure.workflows.run import RunOptions, run_experiment

ORIGINALS, GOLDS = 5, 20
DESIGNS = ((1, 19), (3, 9), (5, 4), (1, 9), (1, 3))
ACCUSED = frozenset({Finding.DAMAGED, Finding.DIFFERENT, Finding.OVER_FORGOTTEN, Finding.UNDER_FORGOTTEN})


def pool(model: str, folder: Path) -> tuple[Sequence[Row], Roles]:
    """Rows of the originals and of all their golds, and what the partitions are."""
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    losses = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "test")]
    configuration = {
        "name": "calibration",
        "data": {
            "data_source": {"class": "Sklearn", "parameters": {"name": "digits"}},
            "partitions": [
                {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                {
                    "class": "Percentage",
                    "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1},
                },
            ],
            "batch_size": 32,
        },
        "predictor": {"model": model, "epochs": 20, "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}}},
        "unlearners": ["Identity"],
        "evaluator": {
            "floor_repeats": GOLDS,
            "measures": [*accuracies, *losses, "UMIA", {"class": "ResidualMemory", "parameters": {"n_models": 6}}],
        },
        "globals": {"seed": 0},
    }
    options = RunOptions(store=folder / "store", output=folder / "run", report=False, axes={"train": tuple(range(ORIGINALS))})
    results = run_experiment(load_experiment(configuration), options)
    sizes = {each.name: each.n for group in RunFolder.load(folder / "run").groups for each in group.partitions}
    return [*results.rows, *results.jury], Roles(sizes=sizes)


def drawn(rows: Sequence[Row], n_originals: int, n_golds: int, generator: np.random.Generator) -> list[Row]:
    """A report in which a gold of each original plays the method ``retrained``, and the original plays ``original too``."""
    kept = []
    for seed in generator.permutation(ORIGINALS)[:n_originals]:
        mine, *jury = generator.permutation(np.arange(1, GOLDS + 1))[: n_golds + 1].tolist()
        places = {number: place for place, number in enumerate(jury, start=1)}
        for row in rows:
            if row.seed_train != seed:
                continue
            if row.number == mine:
                kept.append(replace(row, model="unlearned", label="retrained", number=None))
            elif row.number in places:
                kept.append(replace(row, number=places[row.number]))
            elif row.model == "original":
                kept += [row, replace(row, model="unlearned", label="original too")]
    return kept


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="MLP", choices=["MLP", "CNN"])
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, roles = pool(given.model, Path(folder))
    golds = len({(row.seed_train, row.number) for row in rows if row.is_juror})
    print(f"{given.model} on digits, {golds} golds, {given.draws} draws")
    print(f"{'originals x golds':20}{'retrained accused':>19}{'indistinguishable':>19}{'original found':>16}{'wrong side':>12}")
    generator = np.random.default_rng(0)
    for n_originals, n_golds in DESIGNS:
        # A design of one original with 20 golds has 19 of them for the jury, and one that plays the method.
        counts: Counter[str] = Counter()
        for _ in range(given.draws):
            report = drawn(rows, n_originals, n_golds, generator)
            retrained = judge_report([row for row in report if row.label != "original too"], roles).methods["retrained"].finding
            original = judge_report([row for row in report if row.label != "retrained"], roles).methods["original too"].finding
            counts["accused"] += retrained in ACCUSED
            counts["same"] += retrained is Finding.INDISTINGUISHABLE
            counts["found"] += original is Finding.UNDER_FORGOTTEN
            counts["wrong"] += original in ACCUSED and original is not Finding.UNDER_FORGOTTEN
        shares = [f"{100 * counts[key] / given.draws:.1f} %" for key in ("accused", "same", "found", "wrong")]
        print(f"{f'{n_originals} x {n_golds}':20}{shares[0]:>19}{shares[1]:>19}{shares[2]:>16}{shares[3]:>12}", flush=True)


if __name__ == "__main__":
    main()
