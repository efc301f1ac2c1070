"""Measuring while a method unlearns, and what the proof of concept shows."""

import csv
import json
from pathlib import Path

import pytest
from small import small_experiment

import erasure
from erasure.config import load
from erasure.experiment.configuration import load_experiment
from erasure.records.run_folder import RunFolder
from erasure.stages.tracing import best_epoch
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

ROOT = Path(__file__).parents[2]
ACCURACY = {"class": "Accuracy", "parameters": {"partition": "forget"}}


def traced(select):
    configuration = small_experiment(unlearners=[{"class": "Finetuning", "parameters": {"epochs": 4}}, "Identity"])
    configuration["evaluator"]["measures"] = [ACCURACY]
    configuration["evaluator"]["trace"] = {"measures": [ACCURACY], "select": select}
    return configuration


def test_every_epoch_is_measured_and_the_last_one_is_the_result(tmp_path):
    options = RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False)
    results = run_experiment(load_experiment(traced("last")), options)
    mine = [(epoch, row.value) for epoch, row in results.trace if row.label == "Finetuning"]
    assert [epoch for epoch, _ in mine] == [0, 1, 2, 3, 4]
    assert mine[0][1] == results.value("accuracy", "forget", "original")
    assert mine[-1][1] == results.value("accuracy", "forget", "Finetuning")
    with (tmp_path / "out" / "trace.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(results.trace)


def test_tracing_does_not_change_the_model(tmp_path):
    plain = traced("last")
    del plain["evaluator"]["trace"]
    without = erasure.run(plain, store=tmp_path / "store")
    with_trace = erasure.run(traced("last"), store=tmp_path / "store")
    assert without.value("accuracy", "forget", "Finetuning") == with_trace.value("accuracy", "forget", "Finetuning")


def test_a_run_without_a_trace_leaves_none_of_an_earlier_one(tmp_path):
    plain = traced("last")
    del plain["evaluator"]["trace"]
    options = RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False)
    run_experiment(load_experiment(traced("last")), options)
    run_experiment(load_experiment(plain), options)
    assert RunFolder.load(tmp_path / "out").trace == ()
    assert not list((tmp_path / "out").glob("trace.*"))


def test_the_lowest_epoch_becomes_the_result(tmp_path):
    results = erasure.run(traced("lowest"), store=tmp_path / "store")
    values = [row.value for epoch, row in results.trace if row.label == "Finetuning" and epoch > 0]
    assert results.value("accuracy", "forget", "Finetuning") == min(values)


@pytest.mark.parametrize(("select", "epoch"), [("closest-to-gold", 2), ("highest", 3), ("lowest", 1)])
def test_the_rules_prefer_what_they_say_and_the_earliest_of_equals(select, epoch):
    values = {"0": 0.5, "1": 0.1, "2": 0.5, "3": 0.9, "4": 0.9, "gold": 0.45}
    records = [{"epoch": e, "number": 0, "name": "accuracy", "partition": "forget", "value": v} for e, v in values.items()]
    assert best_epoch(records, select) == epoch


# By day some methods, by night all; `make test-runtime` holds all of them on five originals against what the README shows.
@pytest.mark.parametrize("left_out", [("EU-k", "UNSIR", "BadTeaching", "Fisher"), pytest.param((), marks=pytest.mark.nightly)])
def test_the_proof_of_concept_proves_what_the_readme_says(tmp_path, left_out):
    file = ROOT / "configs" / "proof_of_concept.jsonc"
    methods = [each for each in load(file).root.plain()["unlearners"] if not any(name in str(each) for name in left_out)]
    fewer = ["evaluator.parameters.floor_repeats=2", f"unlearners={json.dumps(methods)}"]
    results = erasure.run(file, store=tmp_path / "store", overrides=fewer)
    assert results.is_sound
    assert results.value("accuracy", "test", "original") > 0.8
    assert abs(results.value("accuracy", "forget", "gold") - results.value("accuracy", "test", "gold")) < 0.1
    status = {
        row.label: row.status
        for row in results
        if row.model_role == "unlearned" and row.measure == "accuracy" and row.partition == "test"
    }
    assert {label for label, value in status.items() if value == "no-op"} == {"Identity"}
    assert "collapsed" not in status.values()
    close = {
        row.label
        for row in results
        if row.model_role == "unlearned"
        and (row.measure, row.partition) == ("accuracy", "forget")
        and row.gap <= 2 * row.noise_floor
    }
    assert len(close - {"GoldModel", "Identity"}) >= 2
    kinds = ("SSD", "SCRUB", "NegGrad", "Finetuning", "Identity")
    profiles = {tuple(results.value("accuracy", part, label) for part in ("forget", "retain", "test")) for label in kinds}
    assert len(profiles) >= 4  # two may meet by chance, as accuracies are counts
