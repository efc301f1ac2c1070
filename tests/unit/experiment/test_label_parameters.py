"""A number in a parameter that means a class is the number written in the data, in every component that has such a parameter."""

import pandas as pd
import pytest

import erasure

PARTS = [
    {"class": "Percentage", "parameters": {"parts_names": ["test", "train"], "percentage": 0.3}},
    {"class": "Class", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "labels": 3}},
]
TRIGGER = {"class": "FeatureTrigger", "parameters": {"features": ["a"], "values": [9.0]}}
MEASURES = {
    "AttackSuccessRate": {"trigger": TRIGGER, "target": 3},
    "ConfusionMatrix": {"classes": [3, 1]},
    "InterclassConfusion": {"first": 3, "second": 1},
    "DemographicParity": {"positive": 3},
}
"""Labels are 1, 2 and 3, whose codes are 0, 1 and 2."""


def configuration(tmp_path, measure, **changes):
    rows = [{"a": 0.1 * i, "b": i % 7, "g": i % 2, "y": 1 + i % 3} for i in range(60)]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    source = {"path": str(tmp_path / "rows.csv"), "label": "y", "z": "g"}
    return {
        "data": {"data_source": {"class": "TableFile", "parameters": source}, "partitions": PARTS},
        "predictor": {"model": "MLP", "epochs": 1},
        "unlearners": [{"class": "UNSIR", "parameters": {"classes": [3], "noise_steps": 1, "noise_batch_size": 4}}],
        "evaluator": {"measures": [{"class": measure, "parameters": MEASURES[measure] | changes}]},
    }


@pytest.mark.parametrize("measure", MEASURES)
def test_a_number_is_the_class_that_the_data_call_so(tmp_path, measure):
    found = erasure.run(configuration(tmp_path, measure), store=tmp_path / "store")
    assert found.is_sound
    if measure == "ConfusionMatrix":
        assert {row.measure for row in found} >= {"confusion[3,3]", "confusion[3,1]", "confusion[1,other]"}


@pytest.mark.parametrize(
    ("measure", "changes"),
    [
        ("AttackSuccessRate", {"target": 0}),
        ("ConfusionMatrix", {"classes": [0]}),
        ("InterclassConfusion", {"first": 0}),
        ("DemographicParity", {"positive": 0}),
    ],
)
def test_the_code_of_a_class_is_refused_before_anything_is_trained(tmp_path, measure, changes):
    with pytest.raises(erasure.errors.ErasureError, match="there is no class 0; classes are 1, 2, 3"):
        erasure.run(configuration(tmp_path, measure, **changes), store=tmp_path / "store")
