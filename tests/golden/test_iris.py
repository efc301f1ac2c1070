"""Numbers of a small experiment that must not move unnoticed.

Provenance: computed by this code on 2026-11-23 with torch 2.13 (CPU, x86-64, one thread): 45 test samples, 93 retained. If one of
these moves, CHANGELOG.md says so under "Results may change".
"""

import pytest

import erasure

GOLDEN = {
    ("original", "accuracy", "test"): 41 / 45,
    ("gold", "accuracy", "forget"): 1.0,
    ("SCRUB", "accuracy", "retain"): 88 / 93,
    ("SSD", "accuracy", "retain"): 88 / 93,
}


def iris():
    def node(cls, /, **parameters):
        return {"class": cls, "parameters": parameters}

    return {
        "data": {
            "data_source": node("Sklearn", name="iris"),
            "partitions": [
                node("StratifiedPercentage", parts_names=["train", "test"], percentage=0.7),
                node("NSamples", parts_names=["forget", "retain"], ref_data="train", n_samples=12),
            ],
            "batch_size": 16,
        },
        "predictor": {"model": node("MLP", hidden_sizes=[50, 30]), "epochs": 30},
        "unlearners": [node("SCRUB", epochs=3), node("SSD", selection_weighting=3.0)],
        "evaluator": {"measures": [node("Accuracy", partition=part) for part in ("forget", "retain", "test")]},
    }


def test_the_numbers_of_iris_have_not_moved(tmp_path):
    results = erasure.run(iris(), store=tmp_path)
    found = {(label, measure, part): results.value(measure, part, label) for label, measure, part in GOLDEN}
    assert found == pytest.approx(GOLDEN, abs=1e-6)
