"""Real golds of the digits play the methods: the promised level, and what is found, for the designs that are recommended."""

import math

import pytest

from erasure.analysis.calibration import calibrate
from erasure.experiment.configuration import load_experiment
from erasure.workflows.calibration import pool_of_golds
from erasure.workflows.run import RunOptions

DRAWS = 100


@pytest.fixture(scope="module")
def golds(tmp_path_factory):
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    losses = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "test")]
    memory = {"class": "ResidualMemory", "parameters": {"n_models": 4}}
    experiment = load_experiment(
        {
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
            "predictor": {"model": "MLP", "epochs": 20, "optimizer": {"class": "Adam", "parameters": {"lr": 0.002}}},
            "unlearners": ["Identity"],
            "evaluator": {"measures": [*accuracies, *losses, "UMIA", memory]},
        }
    )
    options = RunOptions(store=tmp_path_factory.mktemp("golds"), axes={"train": (0, 1, 2)})
    return pool_of_golds(experiment, 20, options)


@pytest.mark.slow
@pytest.mark.parametrize(("n_originals", "n_golds", "n_methods"), [(1, 19, 1), (3, 9, 1), (3, 9, 3), (1, 9, 1), (1, 3, 1)])
def test_reports_of_retrained_models_accuse_as_rarely_as_promised(golds, n_originals, n_golds, n_methods):
    rows, roles = golds
    mine = [row for row in rows if row.seed_train is not None and row.seed_train < n_originals]
    found = calibrate(mine, roles, n_golds=n_golds, n_methods=n_methods, n_draws=DRAWS)
    assert found.accused <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)
    if n_golds == 3:
        assert found.n_accused == found.n_found == 0  # four labellings accuse nobody, not even the original
    if (n_originals, n_methods) == (3, 1):
        assert found.n_found >= 0.9 * DRAWS  # the original has forgotten nothing
