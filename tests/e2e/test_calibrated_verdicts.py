"""Real golds of the digits play the methods: the promised level, and what is found, for the designs that are recommended."""

import math

import pytest

from erasure.analysis.calibration import calibrate
from erasure.analysis.findings import Finding
from erasure.experiment.configuration import load_experiment
from erasure.workflows.calibration import pool_of_golds
from erasure.workflows.options import RunOptions

DRAWS = 100


def digits(*, epochs=20, wrong=0.0, quarter=False, memory=True):
    """A tenth is forgotten; or three quarters of it, and golds are trained with the rest."""
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    losses = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "test")]
    rulers = [] if quarter or not memory else [{"class": "ResidualMemory", "parameters": {"n_models": 4}}]
    source = {"class": "Sklearn", "parameters": {"name": "digits"}}
    if wrong:
        corruption = {"class": "Mislabel", "parameters": {"percentage": wrong}}
        source = {"class": "Poisoned", "parameters": {"data_source": source, "corruption": corruption}}
    tenth = {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1}
    kept = {"parts_names": ["kept", "lost"], "ref_data": "forget", "percentage": 0.25}
    partly = {"parts_names": ["partly", "-"], "ref_data": "train", "concat_splits": ["retain", "kept"]}
    more = [{"class": "Percentage", "parameters": kept}, {"class": "Concat", "parameters": partly}] if quarter else []
    reads = {"forget": "lost", "retain": "partly"} if quarter else {}
    return load_experiment(
        {
            "data": {
                "data_source": source,
                "partitions": [
                    {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
                    {"class": "Percentage", "parameters": tenth},
                    *more,
                ],
                "batch_size": 32,
            },
            "predictor": {"model": "MLP", "epochs": epochs, "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}}},
            "unlearners": [{"class": "Identity", "parameters": reads}],
            "evaluator": {"measures": [*accuracies, *losses, "UMIA", *rulers]},
        }
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
def test_five_originals_tell_what_keeps_a_quarter_and_know_what_is_retrained(tmp_path):
    options = RunOptions(store=tmp_path / "store", axes={"train": tuple(range(5))})
    rows, roles = pool_of_golds(digits(epochs=40, wrong=0.1), 11, options)
    kept, _ = pool_of_golds(digits(epochs=40, wrong=0.1, quarter=True), 6, options)
    found = calibrate(rows, roles, n_golds=4, n_draws=DRAWS)
    assert found.accused <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)
    assert found.n_found >= 0.99 * DRAWS
    assert found.findings[Finding.INDISTINGUISHABLE] >= 0.6 * DRAWS
    without = [row for row in rows if row.measure != "memory left"]  # its rulers know nothing of models that keep a quarter
    planted = calibrate(without, roles, n_golds=4, n_draws=DRAWS, planted=kept).planted
    assert planted[Finding.UNDER_FORGOTTEN] >= 0.75 * DRAWS
    assert planted.get(Finding.INDISTINGUISHABLE, 0) <= 0.05 * DRAWS
