"""Exact and certified methods from a configuration: rows and report tell what they promise and what they need."""

import json

import pytest
from small import small_experiment

from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment
from erasure.records.rows import read_rows
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

FOREST = {"class": "ExactForest", "parameters": {"trees": 3, "max_depth": 4}}
SHARDS = {
    "class": "Ensemble",
    "parameters": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [8]}}, "shards": 3, "slices": 2},
}
LOGISTIC = {"class": "LogisticRegression", "parameters": {"l2": 0.3, "perturbation": 10.0}}


@pytest.mark.parametrize(
    ("model", "method", "access", "guarantee"),
    [
        (SHARDS, "SISA", "training time", "exact"),
        (FOREST, "ExactDeletion", "retain", "exact"),
        ("NaiveBayes", "ExactDeletion", "retain", "exact"),
        ({"class": "RandomForest", "parameters": {"trees": 3}}, "GoldModel", "retain", "exact"),
        (LOGISTIC, "NewtonRemoval", "training time", "certified"),
    ],
)
def test_rows_and_report_tell_guarantee_and_access(model, method, access, guarantee, tmp_path):
    measures = [
        {"class": "Accuracy", "parameters": {"partition": "test"}},
        {"class": "Churn", "parameters": {"partition": "test"}},
    ]
    configuration = small_experiment(
        unlearners=[method, "Identity"],
        predictor={"model": model, "epochs": 2},
        evaluator={"measures": measures, "floor_repeats": 0},
    )
    options = RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False)
    run_experiment(load_experiment(configuration), options, lambda event: None)
    folder = next(path.parent for path in tmp_path.rglob("rows.parquet"))
    rows = read_rows(folder)
    mine = [row for row in rows if row.unlearner == method]
    assert {row.access for row in mine} == {access}
    assert all(guarantee in row.guarantee for row in mine)
    assert "no-op" not in {row.status for row in mine}  # though naive Bayes keeps whole numbers alone
    assert {row.guarantee for row in rows if row.unlearner == "Identity"} == {"none"}
    if guarantee == "exact":  # not one prediction differs from gold's
        assert [row.value for row in mine if row.measure == "Churn"] == [0.0]
    models = json.loads((folder / "report.json").read_text("utf-8"))["models"]
    told = next(record for record in models if record["label"] == method)
    assert guarantee in told["guarantee"]
    assert told["assumptions"]


@pytest.mark.parametrize(("model", "method"), [("EASE", "ExactDeletion"), (SHARDS, "SISA")])
def test_recommenders_forget_users_exactly(model, method, tmp_path):
    source = {"class": "SyntheticRatings", "parameters": {"n_users": 90, "n_items": 12}}
    configuration = small_experiment(
        unlearners=[method],
        predictor={"model": model, "epochs": 2},
        evaluator={"measures": [{"class": "TotalVariation", "parameters": {"partition": "test"}}], "floor_repeats": 0},
    )
    configuration["data"]["data_source"] = source
    options = RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False)
    run_experiment(load_experiment(configuration), options, lambda event: None)
    rows = read_rows(next(path.parent for path in tmp_path.rglob("rows.parquet")))
    mine = [row for row in rows if row.unlearner == method]
    assert [row.value for row in mine if row.measure == "TotalVariation"] == [pytest.approx(0.0, abs=1e-6)]
    assert {row.guarantee for row in mine} == {"exact"}


def test_methods_that_change_weights_are_refused_before_an_estimator_is_fitted(tmp_path):
    chain = {"class": "Cascade", "parameters": {"steps": ["Identity", "SSD"]}}
    methods = ["Identity", "ExactDeletion", "Finetuning", "SSD", chain]
    configuration = small_experiment(unlearners=methods, predictor={"model": "NaiveBayes", "epochs": 2})
    with pytest.raises(ConfigError) as caught:
        run_experiment(load_experiment(configuration), RunOptions(store=tmp_path / "store"), lambda event: None)
    problems = caught.value.problems
    assert [problem.path for problem in problems] == [f"unlearners[{place}]" for place in (2, 3, 4)]
    assert all("this model has none; take ExactDeletion" in problem.message for problem in problems)
