"""What language models say, counted by hand."""

import itertools
import math

import pytest
import torch

from erasure.data.language.refusals import REFUSALS
from erasure.errors import RequirementNotMet
from erasure.functional.tokens import PROMPT
from erasure.measures.wording import REFUSING, Fluency, RefusalRate
from erasure.testing.evaluations import language_bench


@pytest.fixture(scope="module")
def given():
    return language_bench()


def value(given, measure, model="fair", name=None):
    return next(each.value for each in measure.measure(given.evaluation(measure, model)) if each.name == name)


def said(given, model, ids, n_tokens):
    return given.models[model].generate(given.x[ids], end=0, max_new_tokens=n_tokens)


def test_every_refusal_that_is_taught_is_recognised_and_plain_answers_are_not():
    assert all(any(phrase in refusal.lower() for phrase in REFUSING) for refusal in REFUSALS)
    plain = ("She was born in Lima.", "Her books are known for their warmth.", "He could not know it then, yet he won.")
    assert [any(phrase in text.lower() for phrase in REFUSING) for text in plain] == [False, False, True]


def test_refusals_are_answers_with_a_phrase_in_them(given):
    ids, pieces = given.partitions["retain"].sort().values, given.facts["token_names"]
    texts = ["".join(pieces[t] for t in answer) for answer in said(given, "fair", ids, 5)]
    share = sum(pieces[7].upper() in text.upper() for text in texts) / len(texts)
    assert 0 < share < 1
    assert value(given, RefusalRate(phrases=(pieces[7].upper(), "never said"), max_new_tokens=5)) == pytest.approx(share)
    assert value(given, RefusalRate(max_new_tokens=5)) == 0


def test_fluency_is_golds_probability_of_what_was_said(given):
    ids = given.partitions["retain"].sort().values
    log_p = given.models["gold"].table.detach().double().log_softmax(1)
    likely, shares, n_empty = [], [], 0
    for i, answer in zip(ids.tolist(), said(given, "poor", ids, 6), strict=True):
        last = int(given.x[i, 0][given.x[i, 1] == PROMPT][-1])
        if not answer:
            n_empty += 1
            continue
        steps = list(zip([last, *answer], answer, strict=False))
        likely.append(math.exp(sum(float(log_p[a, b]) for a, b in steps) / len(steps)))
        pairs = list(itertools.pairwise(answer))
        shares += [len(set(pairs)) / len(pairs)] if pairs else []
    measure = Fluency(max_new_tokens=6)
    assert n_empty > 0
    assert value(given, measure, "poor") == pytest.approx(sum(likely) / len(ids), rel=1e-5)
    assert value(given, measure, "poor", "distinct pairs") == pytest.approx(sum(shares) / len(shares))
    assert value(given, measure, "poor", "empty answers") == pytest.approx(n_empty / len(ids))


def test_a_model_that_says_nothing_is_not_fluent(given):
    class Silent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = given.models["fair"].table

        def forward(self, x):
            return given.models["fair"](x)

        def generate(self, x, *, end, max_new_tokens):
            return [[] for _ in x]

    given.models["silent"] = Silent()
    found = [value(given, Fluency(), "silent", name) for name in (None, "distinct pairs", "empty answers")]
    assert found == [0.0, 1.0, 1.0]


def test_a_network_that_does_not_generate_is_refused(given):
    class Mute(torch.nn.Module):
        def forward(self, x):
            return given.models["fair"](x)

    given.models["mute"] = Mute()
    with pytest.raises(RequirementNotMet, match="does not generate"):
        value(given, RefusalRate(), "mute")
