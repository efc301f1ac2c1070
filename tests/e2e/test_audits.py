"""The audits of configs/ find what is there: Identity leaks, and a retrained model does not.

Fewer shadow models, and fewer people, than in the configurations: the attacks need no more to tell the two apart.
"""

import gzip
import json
import os
from pathlib import Path

import pytest

from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

ROOT = Path(__file__).parents[2]
ADULT = Path(os.environ.get("ERASURE_TEST_DATA", ROOT.parent / "shared" / "data")) / "tabular"


def _row(results, label, measure, partition="forget"):
    return next(r for r in results if (r.label or r.model_role) == label and (r.measure, r.partition) == (measure, partition))


def _leaks_and_passes(results, top):
    assert results.is_sound, results.failures
    for attack in ("LiRA AUC", f"LiRA top {top} AUC", "U-LiRA AUC"):
        gold = _row(results, "gold", attack)
        leak = _row(results, "Identity", attack)
        assert gold.low < 0.55, attack
        assert leak.low > 0.5 and leak.value > gold.value, attack
    most = f"LiRA top {top} AUC"
    assert _row(results, "Identity", most).value > _row(results, "gold", most).value + 0.1
    assert _row(results, "Identity", "U-LiRA AUC").value == pytest.approx(_row(results, "Identity", "LiRA AUC").value, abs=0.01)
    assert _row(results, "Identity", "KLoM mean").value > _row(results, "gold", "KLoM mean").value
    methods = {row.label for row in results if row.model_role == "unlearned"} - {"Identity"}
    assert len(methods) >= 2
    assert {_row(results, label, "RunTime", "").status for label in methods} == {"ok"}


def _audit(name, n_models, tmp_path, *overrides):
    fewer = [f"evaluator.parameters.measures[{number}].parameters.n_shadows=16" for number in (4, 5, 6)]
    populations = "evaluator.parameters.measures[7].parameters"
    fewer += [f"{populations}.n_models={n_models}", f"{populations}.relabellings=99", "evaluator.parameters.floor_repeats=1"]
    experiment = load_experiment(ROOT / "configs" / name, overrides=[*fewer, *overrides])
    return run_experiment(experiment, RunOptions(store=tmp_path / "store", report=False))


@pytest.mark.slow
def test_the_audit_of_digits(tmp_path):
    rate = {"class": "SGD", "parameters": {"lr": 0.05, "momentum": 0.9}}
    methods = ["GoldModel", {"class": "Finetuning", "parameters": {"epochs": 1, "optimizer": rate}}, "Identity"]
    brief = [f"unlearners={json.dumps(methods)}", "predictor.parameters.epochs=25"]  # shadow models are unlearned by each method
    brief.append('evaluator.parameters.measures[10]="Brier"')  # for Flops all is done again; audit_adult has it too
    _leaks_and_passes(_audit("audit_digits.jsonc", 5, tmp_path, *brief), "0.25")


@pytest.mark.nightly  # digits show that leaks are found, and the shorter run of this file that its measures work
@pytest.mark.skipif(not (ADULT / "adult.data.gz").exists(), reason="needs the files of Adult; set ERASURE_TEST_DATA")
def test_the_audit_of_adult(tmp_path):
    paths = [tmp_path / "adult.data", tmp_path / "adult.test"]
    for path in paths:
        with gzip.open(ADULT / f"{path.name}.gz", "rt") as lines:
            path.write_text("".join(next(lines) for _ in range(4500)))
    partitions = "data.parameters.partitions"
    overrides = [
        f"data.parameters.data_source.parameters.path={json.dumps([str(path) for path in paths])}",
        f"{partitions}[1].parameters.percentage=0.06",
        f"{partitions}[2].parameters.percentage=0.06",
    ]
    _leaks_and_passes(_audit("audit_adult.jsonc", 4, tmp_path, *overrides), "0.1")
