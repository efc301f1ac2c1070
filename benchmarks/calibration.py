"""How often is a model that truly is retrained accused, and what is found? On real golds, drawn anew as methods and juries.

``python benchmarks/calibration.py [--case digits-MLP ...] [--draws 300]`` trains originals and a pool of golds of each, and judges
reports of several designs in which golds play the method. What is known of labellings holds for any pool, so the share of accused ones
may exceed 5 % by the error of so many draws alone. With ``--quarter`` models play as well that were trained with a quarter of the samples
to forget (digits only); those reports do without ``ResidualMemory``, whose rulers know nothing of such models. The cases of digits, one of
them with a tenth of the labels wrong, need nothing but scikit-learn; ``adult`` and ``mutag`` take the ready configurations, whose files
are found from the working directory or by ``--set``. Exits with 1 if a design accuses too often.
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
from erasure.analysis.findings import Finding
from erasure.analysis.gaps import Roles
from erasure.experiment.configuration import Experiment, load_experiment
from erasure.records.rows import Row
from erasure.workflows.calibration import pool_of_golds
from erasure.workflows.options import RunOptions

CONFIGS = Path(__file__).parents[1] / "configs"
DESIGNS = ((1, 19), (3, 9), (5, 4), (1, 9), (1, 3))
DIGITS: Mapping[str, tuple[Any, ...]] = {
    "digits-MLP": ("MLP", 20),
    "digits-wrong": ("MLP", 40, 0.1),
    "digits-CNN": ("CNN", 25),
}
N_QUARTERS = 6
COLUMNS = ("retrained accused", "indistinguishable", "original found", "wrong side", "finds, in sd")
WIDTHS = (19, 19, 16, 12, 14)
MEMORY = {"class": "ResidualMemory", "parameters": {"n_models": 4}}


def digits(model: str, epochs: int, wrong: float = 0.0, *, quarter: bool = False) -> Mapping[str, Any]:
    """A tenth of the digits' training set is forgotten; or three quarters of it, and golds are trained with the rest.

    A share of all labels may be wrong: those can only be known by heart.
    """
    source: dict[str, Any] = {"class": "Sklearn", "parameters": {"name": "digits"}}
    if wrong:
        corruption = {"class": "Mislabel", "parameters": {"percentage": wrong}}
        source = {"class": "Poisoned", "parameters": {"data_source": source, "corruption": corruption}}
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    losses = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "test")]
    parts = {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1}
    kept = {"parts_names": ["kept", "lost"], "ref_data": "forget", "percentage": 0.25}
    partly = {"parts_names": ["partly", "-"], "ref_data": "train", "concat_splits": ["retain", "kept"]}
    more = [{"class": "Percentage", "parameters": kept}, {"class": "Concat", "parameters": partly}] if quarter else []
    reads = {"forget": "lost", "retain": "partly"} if quarter else {}
    return {
        "name": f"digits-{model}",
        "data": {
            "data_source": source,
            "partitions": [
                {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                {"class": "Percentage", "parameters": parts},
                *more,
            ],
            "batch_size": 32,
        },
        "predictor": {"model": model, "epochs": epochs, "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}}},
        "unlearners": [{"class": "Finetuning", "parameters": {"epochs": 1, **reads}}],
        "evaluator": {"measures": [*accuracies, *losses, "UMIA", *([] if quarter else [MEMORY])]},
    }


def experiment_of(case: str, overrides: Sequence[str], *, quarter: bool = False) -> Experiment:
    """The experiment of a case, with memory left among its measures and one method."""
    if case in DIGITS:
        return load_experiment(digits(*DIGITS[case], quarter=quarter), overrides=overrides)
    found = load_experiment(CONFIGS / f"{case}.jsonc", overrides=overrides)
    one = [str(entry.label) for entry in found.unlearners if not entry.unlearner.exact][:1]
    kept = f'unlearners=["{one[0]}"]'
    return load_experiment(CONFIGS / f"{case}.jsonc", overrides=[*overrides, kept])


def judged(rows: Sequence[Row], quarters: Sequence[Row], roles: Roles, n_golds: int, n_draws: int) -> tuple[str, bool]:
    """What reports of one design say, and whether they accuse retrained models too often."""
    found = calibrate(rows, roles, n_golds=n_golds, n_draws=n_draws)
    shifts = sorted(each.deviations for each in found.missed if math.isfinite(each.deviations))
    finds = f"{shifts[len(shifts) // 2]:.1f}" if shifts else "nothing"
    same = found.findings.get(Finding.INDISTINGUISHABLE, 0) / sum(found.findings.values())
    wrong = found.original.get(Finding.OVER_FORGOTTEN, 0) / n_draws
    shares = [f"{100 * share:.1f} %" for share in (found.accused, same, found.n_found / n_draws, wrong)]
    is_bad = found.accused > 0.05 + 3 * math.sqrt(0.05 * 0.95 / n_draws)
    said = "".join(f"{each:>{width}}" for each, width in zip((*shares, finds), WIDTHS, strict=True)) + "  MISSED" * is_bad
    if not quarters:
        return said, is_bad
    without = [row for row in rows if row.measure != "memory left"]
    planted = calibrate(without, roles, n_golds=n_golds, n_draws=n_draws, planted=quarters).planted
    told, same, wrong = (
        100 * planted.get(each, 0) / n_draws
        for each in (Finding.UNDER_FORGOTTEN, Finding.INDISTINGUISHABLE, Finding.OVER_FORGOTTEN)
    )
    quarter = f"a quarter kept: {told:.1f} % under-forgotten, {same:.1f} % indistinguishable, {wrong:.1f} % on the wrong side"
    return f"{said}\n    {quarter}", is_bad


def main() -> int:
    """Print the table of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=[*DIGITS, "adult", "mutag"])
    parser.add_argument("--originals", type=int, default=5)
    parser.add_argument("--golds", type=int, default=20)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--quarter", action="store_true")
    parser.add_argument("--store", type=Path, help="Where models are kept; by default nowhere.")
    given = parser.parse_args()
    missed = False
    for case in given.case or ["digits-MLP"]:
        with tempfile.TemporaryDirectory() as folder:
            options = RunOptions(store=given.store or Path(folder), axes={"train": tuple(range(given.originals))})
            rows, roles = pool_of_golds(experiment_of(case, given.overrides), given.golds, options)
            quarters: Sequence[Row] = ()
            if given.quarter and case in DIGITS:
                quarters, _ = pool_of_golds(experiment_of(case, given.overrides, quarter=True), N_QUARTERS, options)
        print(f"{case}: {given.originals} originals with {given.golds} golds each, {given.draws} reports of each design")
        print(f"{'originals x golds':20}" + "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True)))
        for n_originals, n_golds in DESIGNS:
            if n_originals > given.originals or n_golds >= given.golds:
                continue
            mine, kept = ([row for row in each if row.seed_train in range(n_originals)] for each in (rows, quarters))
            said, is_bad = judged(mine, kept, roles, n_golds, given.draws)
            missed |= is_bad
            print(f"{f'{n_originals} x {n_golds}':20}{said}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
