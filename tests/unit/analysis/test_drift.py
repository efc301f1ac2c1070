"""A model that gets worse from request to request is told, and one that retraining is like is not."""

import pytest
from report_rows import row

from erasure.analysis.drift import drift_warnings

STREAM = {"Stream": ("forget 1", "forget 2", "forget 3")}


def _trace(values, gold=0.95, partition="test", label="Stream"):
    return [
        (request, row(label, measure="accuracy", partition=partition, value=value, gold=gold))
        for request, value in enumerate(values)
    ]


def test_a_falling_accuracy_is_warned_of_with_its_numbers():
    (said,) = drift_warnings(_trace([0.96, 0.95, 0.92, 0.90]), STREAM)
    assert "Stream drifts: after request 1 its accuracy on test is 0.950, after request 3 0.900" in said
    assert "a retrained model has 0.950" in said


@pytest.mark.parametrize(
    "trace",
    [
        _trace([0.96, 0.95, 0.94, 0.94]),  # a point
        _trace([0.96, 0.95, 0.92, 0.90], gold=0.91),  # retraining loses as much
        _trace([0.96, 0.95, 0.92, 0.50], partition="forget 1"),  # what is to be forgotten
        _trace([0.96, 0.95, 0.92, 0.50], label="Finetuning"),  # epochs, not requests
        _trace([0.96, 0.80]),  # one request is no stream
    ],
)
def test_what_is_no_drift_is_not(trace):
    assert drift_warnings(trace, STREAM) == []
