"""How often is a model that truly is retrained accused, and what is found? On real golds, drawn anew as methods and juries.

``python benchmarks/calibration.py [--case digits-MLP ...] [--draws 300]`` trains originals and a pool of golds of each, and judges
reports of several designs in which golds play the method. What is known of labellings holds for any pool, so the share of accused ones
may exceed 5 % by the error of so many draws alone. ``digits-MLP`` and ``digits-CNN`` need nothing but scikit-learn; ``adult`` and
``mutag`` take the ready configurations, whose files are found from the working directory or by ``--set``. Exits with 1 if a design
accuses too often.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erasure.analysis.calibration import calibrate
from erasure.analysis.judging import Finding
from erasure.experiment.configuration import Experiment, load_experiment
from erasure.workflows.calibration import pool_of_golds
from erasure.workflows.run import RunOptions

CONFIGS = Path(__file__).parents[1] / "configs"
DESIGNS = ((1, 19), (3, 9), (5, 4), (1, 9), (1, 3))
MEMORY = {"class": "ResidualMemory", "parameters": {"n_models": 4}}


def digits(model: str, epochs: int) -> Mapping[str, Any]:
    """A tenth of the digits' training set is forgotten."""
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    losses = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "test")]
    parts = {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1}
    return {
        "name": f"digits-{model}",
        "data": {
            "data_source": {"class": "Sklearn", "parameters": {"name": "digits"}},
            "partitions": [
                {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                {"class": "Percentage", "parameters": parts},
            ],
            "batch_size": 32,
        },
        "predictor": {"model": model, "epochs": epochs, "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}}},
        "unlearners": [{"class": "Finetuning", "parameters": {"epochs": 1}}],
        "evaluator": {"measures": [*accuracies, *losses, "UMIA", MEMORY]},
    }


def experiment_of(case: str, overrides: Sequence[str]) -> Experiment:
    """The experiment of a case, with memory left among its measures and one method."""
    if case == "digits-MLP":
        return load_experiment(digits("MLP", 20), overrides=overrides)
    if case == "digits-CNN":
        return load_experiment(digits("CNN", 25), overrides=overrides)
    found = load_experiment(CONFIGS / f"{case}.jsonc", overrides=overrides)
    one = [str(entry.label) for entry in found.unlearners if not entry.unlearner.exact][:1]
    kept = f'unlearners=["{one[0]}"]'
    return load_experiment(CONFIGS / f"{case}.jsonc", overrides=[*overrides, kept])


def main() -> int:
    """Print the table of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=["digits-MLP", "digits-CNN", "adult", "mutag"])
    parser.add_argument("--originals", type=int, default=5)
    parser.add_argument("--golds", type=int, default=20)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    given = parser.parse_args()
    missed = False
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / given.draws)
    for case in given.case or ["digits-MLP"]:
        with tempfile.TemporaryDirectory() as folder:
            options = RunOptions(store=Path(folder), axes={"train": tuple(range(given.originals))})
            rows, roles = pool_of_golds(experiment_of(case, given.overrides), given.golds, options)
        print(f"{case}: {given.originals} originals with {given.golds} golds each, {given.draws} reports of each design")
        print(
            f"{'originals x golds':20}{'retrained accused':>19}{'indistinguishable':>19}{'original found':>16}{'finds, in sd':>14}"
        )
        for n_originals, n_golds in DESIGNS:
            if n_originals > given.originals or n_golds >= given.golds:
                continue
            mine = [row for row in rows if row.seed_train is not None and row.seed_train < n_originals]
            found = calibrate(mine, roles, n_golds=n_golds, n_draws=given.draws)
            shifts = sorted(each.deviations for each in found.missed if math.isfinite(each.deviations))
            finds = f"{shifts[len(shifts) // 2]:.1f}" if shifts else "nothing"
            same = found.findings.get(Finding.INDISTINGUISHABLE, 0) / sum(found.findings.values())
            shares = [f"{100 * share:.1f} %" for share in (found.accused, same, found.n_found / found.n_draws)]
            is_bad = found.accused > limit
            missed |= is_bad
            design = f"{n_originals} x {n_golds}"
            print(
                f"{design:20}{shares[0]:>19}{shares[1]:>19}{shares[2]:>16}{finds:>14}{'  MISSED' if is_bad else ''}", flush=True
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
