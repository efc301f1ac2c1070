"""Advice over a stream of requests."""

import dataclasses

import pytest

from erasure.analysis.request_stream import stream_advice
from erasure.records.requests import RequestEntry


def entries(*changes):
    found = []
    for number, change in enumerate(changes, start=1):
        fields = {
            "number": number,
            "request": f"{number:064x}",
            "received": "2026-01-02T03:04:05Z",
            "finished": "2026-01-02T03:05:05Z",
            "n_forgotten": 3,
            "original": f"{number - 1:064x}",
            "unlearned": f"{number:064x}",
            "method": "SSD",
            "verdict": "indistinguishable",
            "certificate": "c" * 64,
            "drift": 1.0,
            "cost_s": 5.0,
            "retraining_s": 10.0,
        }
        found.append(RequestEntry(**fields | change))
    return found


def test_a_stream_that_is_in_order_tells_its_cost_alone():
    assert stream_advice([]) == []
    assert stream_advice(entries({}, {})) == ["2 requests have cost 1.0 retrainings, evidence included."]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            [{}, {"drift": 3.2}],
            "The model is 3.2 standard deviations of retrained models away from them, as measured for request 2",
        ),
        (
            [{"drift": 0.8}, {"drift": 1.7}],
            "The model drifts away from retraining: 0.8 standard deviations after request 1, now 1.7.",
        ),
        ([{}] * 5, "5 requests in a row were answered without retraining"),
        ([{"certificate": "", "refusal": "thin"}, {}], "Request 1 has no certificate"),
    ],
)
def test_what_is_amiss_is_said(changes, sentence):
    assert any(said.startswith(sentence) for said in stream_advice(entries(*changes)))


def test_retraining_starts_the_count_again_and_other_lines_do_not_count():
    exact = {"guarantee": "exact", "method": "Retraining", "verdict": "retrained", "drift": 2.5}
    assert stream_advice(entries({}, {}, {}, {}, exact)) == ["5 requests have cost 2.5 retrainings, evidence included."]
    refused = {"certificate": "", "refusal": "thin"}
    assert stream_advice(entries(refused, exact)) == ["2 requests have cost 1.0 retrainings, evidence included."]
    assert stream_advice(entries(exact, refused, refused))[0].startswith("Requests 2, 3 have no certificate, and the present")
    apart = entries({"certificate": ""}, {})
    apart[1] = dataclasses.replace(apart[1], original="f" * 64)
    assert stream_advice(apart) == ["1 request has cost 0.5 retrainings, evidence included."]
