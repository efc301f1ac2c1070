"""The audits of configs/ find what is there: Identity leaks, and a retrained model does not."""

import os
from pathlib import Path

import pytest

from erasure.experiment.configuration import load_experiment
from erasure.experiment.run import RunOptions, run_experiment

ROOT = Path(__file__).parents[2]
ADULT = Path(os.environ.get("ERASURE_TEST_DATA", ROOT.parent / "shared" / "data")) / "tabular"


def _row(results, label, measure, partition="forget"):
    return next(r for r in results if (r.label or r.model) == label and (r.measure, r.partition) == (measure, partition))


def _leaks_and_passes(results, top):
    assert results.is_sound, results.failures
    for attack in ("LiRA AUC", f"LiRA top {top} AUC", "U-LiRA AUC"):
        gold = _row(results, "gold", attack)
        assert gold.low < 0.5 < gold.high, attack
        assert _row(results, "Identity", attack).low > 0.5, attack
    assert _row(results, "Identity", f"LiRA top {top} AUC").value > 0.7
    assert _row(results, "Identity", "U-LiRA AUC").value == pytest.approx(_row(results, "Identity", "LiRA AUC").value, abs=0.01)
    assert _row(results, "Identity", "KLoM mean").value > _row(results, "gold", "KLoM mean").value
    assert {_row(results, label, "RunTime", "").status for label in ("GoldModel", "Finetuning", "SCRUB", "SSD")} == {"ok"}


@pytest.mark.slow
def test_the_audit_of_digits(tmp_path):
    experiment = load_experiment(ROOT / "configs" / "audit_digits.jsonc")
    _leaks_and_passes(run_experiment(experiment, RunOptions(store=tmp_path / "store")), "0.25")


@pytest.mark.slow
@pytest.mark.skipif(not (ADULT / "adult.data.gz").exists(), reason="needs the files of Adult; set ERASURE_TEST_DATA")
def test_the_audit_of_adult(tmp_path):
    paths = f'["{ADULT / "adult.data.gz"}", "{ADULT / "adult.test.gz"}"]'
    fewer = [f"evaluator.parameters.measures[{number}].parameters.n_shadows=16" for number in (4, 5, 6)]
    overrides = [f"data.parameters.data_source.parameters.path={paths}", *fewer]
    overrides += ["evaluator.parameters.measures[7].parameters.n_models=4", "evaluator.parameters.floor_repeats=1"]
    experiment = load_experiment(ROOT / "configs" / "audit_adult.jsonc", overrides=overrides)
    _leaks_and_passes(run_experiment(experiment, RunOptions(store=tmp_path / "store")), "0.1")
