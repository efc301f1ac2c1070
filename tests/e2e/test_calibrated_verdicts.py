"""Real golds of the digits play the methods: the promised level, and what is found, for the designs that are recommended."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from erasure.analysis.calibration import calibrate
from erasure.analysis.findings import Finding
from erasure.experiment.configuration import load_experiment
from erasure.types import PartitionRole
from erasure.unlearners.contract import Unlearner
from erasure.workflows.calibration import pool_of_golds
from erasure.workflows.options import RunOptions

DRAWS = 100
QUARTERS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Partly(Unlearner):
    """Retrained with a part of what was to be forgotten: ``train`` names the retained samples and that part."""

    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"train"})

    def unlearn(self, model, task):
        return task.retrained("train")


def cut(names, whole, share):
    return {"class": "Percentage", "parameters": {"parts_names": names, "ref_data": whole, "percentage": share}}


def with_quarter(number):
    joined = {"parts_names": [f"partly {number}", "-"], "ref_data": "train", "concat_splits": ["retain", f"quarter {number}"]}
    return {"class": "Concat", "parameters": joined}


def digits(*, epochs=20, wrong=0.0, memory=True, quarters=False):
    """A tenth is forgotten, by one method or by four of which each keeps a quarter of it."""
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    losses = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "test")]
    rulers = [{"class": "ResidualMemory", "parameters": {"n_models": 4}}] if memory else []
    keeping = [{"class": f"{__name__}.Partly", "label": f"partly {n}", "parameters": {"train": f"partly {n}"}} for n in QUARTERS]
    source = {"class": "Sklearn", "parameters": {"name": "digits"}}
    if wrong:
        corruption = {"class": "Mislabel", "parameters": {"percentage": wrong}}
        source = {"class": "Poisoned", "parameters": {"data_source": source, "corruption": corruption}}
    return load_experiment(
        {
            "data": {
                "data_source": source,
                "partitions": [
                    {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                    cut(["forget", "retain"], "train", 0.1),
                    cut(["a", "b"], "forget", 0.5),
                    cut(["quarter 1", "quarter 2"], "a", 0.5),
                    cut(["quarter 3", "quarter 4"], "b", 0.5),
                    *(with_quarter(number) for number in QUARTERS),
                ],
                "batch_size": 32,
            },
            "predictor": {"model": "MLP", "epochs": epochs, "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}}},
            "unlearners": keeping if quarters else ["Identity"],
            "evaluator": {"measures": [*accuracies, *losses, "UMIA", *rulers]},
        },
        trust=[__name__],
    )


@pytest.fixture(scope="module")
def golds(tmp_path_factory):
    options = RunOptions(store=tmp_path_factory.mktemp("golds"), axes={"train": (0, 1, 2)})
    return pool_of_golds(digits(), 20, options)


def test_beside_golds_of_one_original_it_is_found_that_nothing_was_forgotten(tmp_path):
    """How rarely golds are accused takes more of them than can be trained by day; test_calibrate.py simulates it."""
    rows, roles = pool_of_golds(digits(epochs=15, memory=False), 11, RunOptions(store=tmp_path / "store"))
    found = calibrate(rows, roles, n_golds=9, n_draws=DRAWS)
    assert found.n_found >= 0.9 * DRAWS
    assert Finding.INDISTINGUISHABLE not in found.original


@pytest.mark.nightly
@pytest.mark.parametrize(("n_originals", "n_golds", "n_methods"), [(1, 19, 1), (3, 9, 1), (3, 9, 3), (1, 9, 1), (1, 3, 1)])
def test_reports_of_retrained_models_accuse_as_rarely_as_promised(golds, n_originals, n_golds, n_methods):
    rows, roles = golds
    mine = [row for row in rows if row.seed_train is not None and row.seed_train < n_originals]
    found = calibrate(mine, roles, n_golds=n_golds, n_methods=n_methods, n_draws=DRAWS)
    assert found.accused <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)
    if n_golds == 3:
        assert found.n_accused == found.n_found == 0  # four labellings accuse nobody, not even the original
    elif n_methods == 1:  # the original has forgotten nothing
        assert found.n_found >= (0.99 if n_originals == 3 else 0.95) * DRAWS
        assert found.original.get(Finding.OVER_FORGOTTEN, 0) <= 0.01 * DRAWS
        assert Finding.INDISTINGUISHABLE not in found.original


@pytest.mark.nightly
@pytest.mark.parametrize(("epochs", "wrong"), [(20, 0.0), (40, 0.1)])
def test_five_originals_tell_what_keeps_a_quarter_and_know_what_is_retrained(tmp_path, epochs, wrong):
    options = RunOptions(store=tmp_path / "store", axes={"train": tuple(range(5))})
    rows, roles = pool_of_golds(digits(epochs=epochs, wrong=wrong, quarters=True), 12, options, keeps_methods=True)
    quarters = [replace(row, number=int(row.label[-1])) for row in rows if row.label.startswith("partly")]
    found = calibrate(rows, roles, n_golds=4, n_draws=DRAWS, planted=quarters)
    assert found.accused <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)
    assert found.n_found >= 0.99 * DRAWS
    # Golds of clean digits differ more: their memory left is bounded less often.
    assert found.findings[Finding.INDISTINGUISHABLE] >= (0.6 if wrong else 0.45) * DRAWS
    assert found.planted[Finding.UNDER_FORGOTTEN] >= 0.75 * DRAWS
    assert found.planted.get(Finding.INDISTINGUISHABLE, 0) <= 0.05 * DRAWS
