"""Tuning on real data: budgets, seeds, pruning, resuming, and what is written."""

import csv
import json
import sqlite3

import pytest
from small import small_experiment

from erasure.config import load
from erasure.errors import ConfigError, MissingDependency
from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.tuning import tune

pytest.importorskip("optuna", reason="the extra tune is not installed")

SETTING = {"class": "Finetuning", "parameters": {"epochs": 2}}


def configured(*unlearners, **changes):
    configuration = small_experiment(unlearners=list(unlearners or (SETTING, "Identity")), **changes)
    configuration["predictor"]["epochs"] = 5
    return configuration


def options(tmp_path, **changes):
    return RunOptions(store=tmp_path / "store", device="cpu", report=False, **changes)


class Stopped(Exception):
    pass


def test_an_interrupted_study_goes_on_where_it_stopped(tmp_path):
    seen = []

    def stop_after_two(trial):
        seen.append(trial)
        if len(seen) == 2:
            raise Stopped

    def run(on_trial=None):
        settings = options(tmp_path)
        return tune(configured(), "Finetuning", output=tmp_path / "out", trials=5, n_seeds=1, options=settings, on_trial=on_trial)

    with pytest.raises(Stopped):
        run(stop_after_two)
    later = []
    found = run(later.append)
    assert len(later) == 3
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3, 4]
    assert list(found.trials[:2]) == seen
    again = []
    assert run(again.append).trials == found.trials
    assert again == []


def test_a_trial_killed_halfway_is_tried_again(tmp_path, monkeypatch):
    from erasure.workflows import tuning

    whole, calls = tuning.run_experiment, []

    def killed(*arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    settings = options(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "run_experiment", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(configured(), "Finetuning", output=tmp_path / "out", trials=4, n_seeds=1, options=settings)
    with sqlite3.connect(tmp_path / "out" / "study.db") as database:
        rows = database.execute(
            "select p.param_name, p.param_value from trial_params p join trials t using (trial_id) where t.state = 'RUNNING'"
        ).fetchall()
    database.close()
    interrupted = dict(rows)
    found = tune(configured(), "Finetuning", output=tmp_path / "out", trials=4, n_seeds=1, options=settings)
    assert interrupted.keys() == {"epochs", "optimizer.lr"}
    assert found.trials[2].parameters == pytest.approx(interrupted)
    assert len(found.trials) == 4


def test_the_best_setting_is_written_and_loads_as_it_is(tmp_path):
    out = tmp_path / "out"
    found = tune(configured(), "Finetuning", output=out, trials=4, n_seeds=2, options=options(tmp_path))
    entry = load(out / "best.jsonc").root.plain()
    (unlearner,) = load_experiment(configured(entry)).unlearners
    assert unlearner.unlearner.epochs == found.best["epochs"]
    assert unlearner.unlearner.optimizer.parameters["lr"] == found.best["optimizer.lr"]
    with (out / "trials.csv").open(newline="") as file:
        assert [int(line["epochs"]) for line in csv.DictReader(file)] == [t.parameters["epochs"] for t in found.trials]
    summary = json.loads((out / "tuning.json").read_text("utf-8"))
    assert summary["gaps"].keys() == {"default", "configured", "tuned"}
    assert summary["total_s"] > summary["tuning_s"] > 0
    assert summary["verdicts"].keys() == {"Finetuning (default)", "Finetuning (configured)", "Finetuning (tuned)"}
    shown = found.report.overview().verdicts
    assert {label: each["finding"] for label, each in summary["verdicts"].items()} == {v.label: v.finding for v in shown}
    assert len({row.seed_train for row in found.report}) == 2  # confirmed on as many fresh seeds as it was tuned on
    assert {row.number for row in found.report.jury} == {1}  # as many as the configuration asks for
    assert min(t.objective for t in found.trials) == next(t.objective for t in found.trials if t.parameters == found.best)


@pytest.mark.parametrize("protocol", ["gold", "transfer", "gold-free"])
def test_no_seed_is_both_tuned_and_reported(tmp_path, protocol):
    found = tune(
        configured(),
        "Finetuning",
        output=tmp_path / "out",
        trials=2,
        n_seeds=2,
        protocol=protocol,
        options=options(tmp_path, seeds=(0, 1)),
    )
    tuned, reported = (
        set(part.strip(".").split(" on ")[-1].replace("the seeds ", "").split(", ")) for part in found.notes[-1].split(";")
    )
    assert not tuned & reported
    assert {str(row.seed_train) for row in found.report} == reported
    assert {row.label for row in found.report if row.model_role == "unlearned"} == {
        "Finetuning (default)",
        "Finetuning (configured)",
        "Finetuning (tuned)",
    }


def test_a_setting_that_diverges_is_pruned_with_its_reason(tmp_path):
    wild = {"class": "NegGrad", "parameters": {"epochs": 3, "optimizer": {"class": "SGD", "parameters": {"lr": 0.1}}}}
    configuration = configured(wild)
    configuration["data"]["batch_size"] = 1
    configuration["predictor"]["epochs"] = 1
    from erasure.unlearners.neg_grad import NegGrad
    from erasure.unlearners.search import Choice

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NegGrad, "search_space", {"optimizer.lr": Choice((1e-5, 1e30))}, raising=False)
        found = tune(configuration, "NegGrad", output=tmp_path / "out", trials=6, n_seeds=1, options=options(tmp_path))
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert {trial.parameters["optimizer.lr"] for trial in pruned} == {1e30}
    assert all(trial.reason and trial.objective is None for trial in pruned)
    assert found.best == {"optimizer.lr": 1e-5}


def test_the_test_set_is_left_alone_where_there_is_a_validation_set(tmp_path):
    configuration = configured()
    part = {"class": "Percentage", "parameters": {"parts_names": ["validation", "final"], "ref_data": "test", "percentage": 0.5}}
    configuration["data"]["partitions"].append(part)
    found = tune(configuration, "Finetuning", output=tmp_path / "out", trials=2, n_seeds=1, options=options(tmp_path))
    assert {row.partition for row in found.report if row.measure == "accuracy"} == {"forget", "retain", "validation"}
    assert not any("test set" in note for note in found.notes)


def test_unknown_methods_and_methods_without_parameters_are_refused(tmp_path):
    with pytest.raises(ConfigError, match='did you mean "Finetuning"'):
        tune(configured(), "finetunning", output=tmp_path / "out")
    with pytest.raises(ConfigError, match="no parameters to tune"):
        tune(configured(), "Identity", output=tmp_path / "out")


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependency, match=r"erasure-unlearning\[tune\]"):
        tune(configured(), "Finetuning", output=tmp_path / "out")


def test_a_composition_is_tuned_inside_and_its_entry_loads(tmp_path):
    cascade = {"class": "Cascade", "parameters": {"steps": [{"class": "NegGrad", "parameters": {"epochs": 1}}, SETTING]}}
    out = tmp_path / "out"
    found = tune(configured(cascade), "Cascade", output=out, trials=2, n_seeds=1, options=options(tmp_path))
    assert found.gaps.keys() == {"configured", "tuned"}
    assert found.best.keys() == {"steps.0.epochs", "steps.0.optimizer.lr", "steps.1.epochs", "steps.1.optimizer.lr"}
    (unlearner,) = load_experiment(configured(load(out / "best.jsonc").root.plain())).unlearners
    assert [step.epochs for step in unlearner.unlearner.steps] == [found.best["steps.0.epochs"], found.best["steps.1.epochs"]]


def test_the_time_limit_ends_the_search_and_says_so(tmp_path):
    settings = options(tmp_path)
    seen = []
    found = tune(
        configured(),
        "Finetuning",
        output=tmp_path / "out",
        trials=10_000,
        n_seeds=1,
        time_limit_s=1.0,
        options=settings,
        on_trial=seen.append,
    )
    assert 0 < len(found.trials) < 10_000
    assert any("time limit" in note for note in found.notes)
    assert found.gaps["tuned"] is not None


def test_a_gap_within_the_floor_is_said_to_be_nothing_to_tune(tmp_path):
    from erasure.workflows.tuning import _remarks

    found = tune(configured(), "Finetuning", output=tmp_path / "out", trials=2, n_seeds=1, options=options(tmp_path))
    floors = [
        row.noise_floor for row in found.report if row.label == "Finetuning (tuned)" and row.measure in {"accuracy", "UMIA"}
    ]
    assert len(floors) == 4
    assert found.floor == pytest.approx(sum(floors) / 4)
    verdict = {"default": (found.floor, "", 0.0, 0.0)}
    assert "tuning has nothing to gain" in _remarks((), 0, found.floor, verdict)[0]
    assert not _remarks((), 0, found.floor, {"default": (found.floor + 0.01, "", 0.0, 0.0)})
