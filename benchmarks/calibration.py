"""How often is a model that truly is retrained accused, and what is found? On real golds, drawn anew as methods and juries.

``python benchmarks/calibration.py [--case digits-MLP ...] [--draws 300]`` trains originals and a pool of golds of each, and judges
reports of several designs in which golds play the method, over all sets of so many originals. What is known of labellings holds for any
pool, so the share of accused ones may exceed 5 % by the error of so many draws alone. In the cases of digits models play as well that
were trained with a quarter of the samples to forget, each of the four quarters in turn (``--which 2`` has one of them alone). ``--methods
3`` has three golds play in each report, ``--values 1`` judges by the first value alone. These cases, two of them with a tenth of the
labels wrong, need nothing but scikit-learn; ``adult`` and ``mutag`` take the ready configurations, whose files are found from the working
directory or by ``--set``. ``cora-edges`` forgets a twentieth of Cora's citations, and models play that were trained with a quarter of
these; its files are found in the same way (``--set data.data_source.parameters.root=…``).
Exits with 1 if a design accuses too often, or misses what it must find.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from erasure.analysis.calibration import calibrate
from erasure.analysis.findings import Finding
from erasure.analysis.gaps import RolePartitions
from erasure.experiment.configuration import Experiment, load_experiment
from erasure.records.rows import Row
from erasure.types import PartitionRole
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.workflows.calibration import pool_of_golds
from erasure.workflows.options import RunOptions

CONFIGS = Path(__file__).parents[1] / "configs"
DESIGNS = ((1, 19), (3, 9), (5, 4), (1, 9), (1, 3))
DIGITS: Mapping[str, tuple[Any, ...]] = {
    "digits-MLP": ("MLP", 20),
    "digits-wrong": ("MLP", 40, 0.1),
    "digits-CNN": ("CNN", 25),
    "digits-CNN-wrong": ("CNN", 60, 0.1),
}
EDGES = "cora-edges"
QUARTERS = (1, 2, 3, 4)
COLUMNS = ("retrained accused", "indistinguishable", "original found", "wrong side", "finds, in sd")
WIDTHS = (19, 19, 16, 12, 14)
MEMORY = {"class": "ResidualMemory", "parameters": {"n_models": 8}}
MIN_FOUND = {(1, 19): 0.95, (1, 9): 0.95, (3, 9): 0.99, (5, 4): 0.99}
"""Share of reports that must find the original, by design."""
MIN_QUARTERS = 0.75
MAX_QUARTERS_SAME = 0.05
MAX_WRONG = 0.01
MIN_SAME = 0.6


@dataclass(frozen=True, kw_only=True)
class Partly(Unlearner):
    """Retrained with a part of what was to be forgotten: ``train`` names the retained samples and that part."""

    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"train"})

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        return context.retrained("train")


def digits(model: str, epochs: int, wrong: float = 0.0) -> Mapping[str, Any]:
    """A tenth of the digits' training set is forgotten; or three quarters of it, each of the four quarters in turn being kept.

    A share of all labels may be wrong: those can only be known by heart.
    """
    source: dict[str, Any] = {"class": "Sklearn", "parameters": {"name": "digits"}}
    if wrong:
        corruption = {"class": "Mislabel", "parameters": {"percentage": wrong}}
        source = {"class": "Poisoned", "parameters": {"data_source": source, "corruption": corruption}}
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    losses = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "test")]
    parts = {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1}
    cut = [
        {"class": "Percentage", "parameters": {"parts_names": names, "ref_data": whole, "percentage": 0.5}}
        for names, whole in ((["a", "b"], "forget"), (["quarter 1", "quarter 2"], "a"), (["quarter 3", "quarter 4"], "b"))
    ]
    partly = [
        {
            "class": "Concat",
            "parameters": {"parts_names": [f"partly {n}", "-"], "ref_data": "train", "concat_splits": ["retain", f"quarter {n}"]},
        }
        for n in QUARTERS
    ]
    return {
        "name": f"digits-{model}",
        "data": {
            "data_source": source,
            "partitions": [
                {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                {"class": "Percentage", "parameters": parts},
                *cut,
                *partly,
            ],
            "batch_size": 32,
        },
        "predictor": {"model": model, "epochs": epochs, "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}}},
        "unlearners": [
            {"class": f"{__name__}.Partly", "label": f"partly {n}", "parameters": {"train": f"partly {n}"}} for n in QUARTERS
        ],
        "evaluator": {"measures": [*accuracies, *losses, "UMIA", MEMORY]},
    }


def edges() -> Mapping[str, Any]:
    """A twentieth of Cora's citations is forgotten in two requests, the second of which a model may be spared."""

    def cut(names: Sequence[str], whole: str, share: float) -> dict[str, Any]:
        return {"class": "GraphEdges", "parameters": {"parts_names": names, "ref_data": whole, "percentage": share}}

    def request(edges: str, parts: Sequence[str], whole: str) -> dict[str, Any]:
        return {"class": "GraphRequest", "parameters": {"edges": edges, "parts_names": parts, "ref_data": whole}}

    network = {"conv": "gcn", "hidden": 16, "layers": 2, "dense_layers": 0, "batch_norm": False}
    kept = {"train": "with a quarter", "forget": "forget", "retain": "retain"}
    return {
        "name": EDGES,
        "data": {
            "data_source": {"class": "Planetoid", "parameters": {"name": "Cora", "split": "full", "forgets": "request"}},
            "partitions": [
                {"class": "ByZ", "parameters": {"parts_names": ["train", "rest"], "z_labels": "train"}},
                {"class": "ByZ", "parameters": {"parts_names": ["test", "-"], "ref_data": "rest", "z_labels": "test"}},
                cut(["forgotten_edges", "kept_edges"], "all", 0.05),
                cut(["quarter", "others"], "forgotten_edges", 0.25),
                request("others", ["forget", "with a quarter"], "train"),
                request("quarter", ["ends of the quarter", "retain"], "with a quarter"),
                {"class": "SeenIn", "parameters": {"parts_names": ["nodes_after", "-"], "ref_data": "all", "graph": "after"}},
            ],
            "batch_size": 2708,
        },
        "predictor": {
            "model": {"class": "GNN", "parameters": network},
            "epochs": 200,
            "optimizer": {"class": "Adam", "parameters": {"lr": 0.01, "weight_decay": 0.0005}},
            "schedule": None,
        },
        "unlearners": [{"class": f"{__name__}.Partly", "label": "partly 1", "parameters": kept}],
        "evaluator": {
            "measures": [
                *({"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")),
                "EdgeMembership",
                "DeletedEdgeAUC",
                "EdgeMemory",
            ]
        },
    }


def experiment_of(case: str, overrides: Sequence[str]) -> Experiment:
    """The experiment of a case, with memory left among its measures if made here; its methods are those that keep a part, or any one."""
    if case in DIGITS:
        return load_experiment(digits(*DIGITS[case]), overrides=overrides, trust=[__name__])
    if case == EDGES:
        return load_experiment(edges(), overrides=overrides, trust=[__name__])
    found = load_experiment(CONFIGS / f"{case}.jsonc", overrides=overrides)
    one = [str(entry.label) for entry in found.unlearners if not entry.unlearner.exact][:1]
    kept = f'unlearners=["{one[0]}"]'
    return load_experiment(CONFIGS / f"{case}.jsonc", overrides=[*overrides, kept])


def planted(rows: Sequence[Row], which: int | None) -> list[Row]:
    """Rows of the models that keep a quarter, numbered by which one."""
    numbered = [replace(row, number=int(row.label.split()[1])) for row in rows if row.label.startswith("partly ")]
    return [row for row in numbered if which in {None, row.number}]


def with_values(rows: Sequence[Row], n_values: int | None) -> Sequence[Row]:
    """Rows of the first measures only."""
    kept = list(
        dict.fromkeys((row.measure, row.partition) for row in rows if row.ideal is not None and row.statistic != "composite")
    )
    return rows if n_values is None else [row for row in rows if (row.measure, row.partition) in kept[:n_values]]


@dataclass(frozen=True)
class Counted:
    """What reports of one design say, over all sets of so many originals."""

    n_accused: int
    findings: Counter[Finding]
    original: Counter[Finding]
    planted: Counter[Finding]
    shifts: list[float]


def counted(
    rows: Sequence[Row], quarters: Sequence[Row], roles: RolePartitions, design: tuple[int, int], n_draws: int, n_methods: int
) -> Counted:
    """Judge reports of every set of originals in turn: which ones they are decides much of what can be found."""
    n_originals, n_golds = design
    seeds = sorted({row.seed_train for row in rows if row.model_role == "original" and row.seed_train is not None})
    sets = list(itertools.combinations(seeds, n_originals))
    found = []
    for number, chosen in enumerate(sets):
        mine, planted = ([row for row in each if row.seed_train in chosen] for each in (rows, quarters))
        share = n_draws // len(sets) + (number < n_draws % len(sets))
        options = {"n_golds": n_golds, "n_methods": n_methods, "n_draws": share, "seed": number}
        found.append(calibrate(mine, roles, planted=planted, **options))
    shifts = [each.deviations for one in found for each in one.missed if math.isfinite(each.deviations)]
    return Counted(
        sum(each.n_accused for each in found),
        Counter(finding for each in found for finding in Counter(each.findings).elements()),
        Counter(finding for each in found for finding in Counter(each.original).elements()),
        Counter(finding for each in found for finding in Counter(each.planted).elements()),
        sorted(shifts),
    )


def judged(
    rows: Sequence[Row], quarters: Sequence[Row], roles: RolePartitions, design: tuple[int, int], n_draws: int, n_methods: int = 1
) -> tuple[str, bool]:
    """What reports of one design say, and whether they accuse retrained models too often or miss what they must find."""
    n_originals, _ = design

    def error(share: float) -> float:
        return 3 * math.sqrt(share * (1 - share) / n_draws)

    found = counted(rows, quarters, roles, design, n_draws, n_methods)
    finds = f"{found.shifts[len(found.shifts) // 2]:.1f}" if found.shifts else "nothing"
    accused = found.n_accused / n_draws
    same = found.findings[Finding.INDISTINGUISHABLE] / sum(found.findings.values())
    original, wrong = (found.original[each] / n_draws for each in (Finding.UNDER_FORGOTTEN, Finding.OVER_FORGOTTEN))
    shares = [f"{100 * share:.1f} %" for share in (accused, same, original, wrong)]
    said = "".join(f"{each:>{width}}" for each, width in zip((*shares, finds), WIDTHS, strict=True))
    missed = ["accused"] if accused > 0.05 + error(0.05) else []
    if not quarters:
        return f"{said}{'  MISSED' * bool(missed)}", bool(missed)
    told, kept, off = (
        found.planted[each] / n_draws for each in (Finding.UNDER_FORGOTTEN, Finding.INDISTINGUISHABLE, Finding.OVER_FORGOTTEN)
    )
    missed += ["original"] * (original < MIN_FOUND.get(design, 0))
    missed += ["wrong side"] * (max(wrong, off) > MAX_WRONG)
    if n_originals > 1:
        missed += ["quarter"] * (told < MIN_QUARTERS - error(MIN_QUARTERS))
        missed += ["quarter indistinguishable"] * (kept > MAX_QUARTERS_SAME + error(MAX_QUARTERS_SAME))
    missed += ["indistinguishable"] * (n_originals == 5 and same < MIN_SAME)
    ends = f"{100 * told:.1f} % under-forgotten, {100 * kept:.1f} % indistinguishable, {100 * off:.1f} % on the wrong side"
    end = f"  MISSED: {', '.join(missed)}" if missed else ""
    return f"{said}\n    a quarter kept: {ends}{end}", bool(missed)


def main() -> int:
    """Print the table of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=[*DIGITS, "adult", "mutag", EDGES])
    parser.add_argument("--originals", type=int, default=5)
    parser.add_argument("--golds", type=int, default=20)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--methods", type=int, default=1)
    parser.add_argument("--values", type=int)
    parser.add_argument("--which", type=int, choices=QUARTERS)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--store", type=Path, help="Where models are kept; by default nowhere.")
    given = parser.parse_args()
    any_missed = False
    for case in given.case or ["digits-MLP"]:
        with tempfile.TemporaryDirectory() as folder:
            options = RunOptions(store=given.store or Path(folder), axes={"train": tuple(range(given.originals))})
            rows, roles = pool_of_golds(
                experiment_of(case, given.overrides), given.golds, options, keeps_methods=case in {*DIGITS, EDGES}
            )
        print(f"{case}: {given.originals} originals with {given.golds} golds each, {given.draws} reports of each design")
        print(f"{'originals x golds':20}" + "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True)))
        for n_originals, n_golds in DESIGNS:
            if n_originals > given.originals or n_golds >= given.golds:
                continue
            mine = with_values(rows, given.values)
            is_full = given.values is None and given.methods == 1
            quarters = planted(mine, given.which) if is_full else []
            said, missed = judged(mine, quarters, roles, (n_originals, n_golds), given.draws, given.methods)
            any_missed |= missed
            print(f"{f'{n_originals} x {n_golds}':20}{said}", flush=True)
    return int(any_missed)


if __name__ == "__main__":
    sys.exit(main())
