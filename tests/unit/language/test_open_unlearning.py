"""The aggregates of open-unlearning against the plain formula."""

import numpy as np
import pytest
import torch

from erasure.measures.answers import ExactMemorisation, ExtractionStrength
from erasure.measures.attacks.answer_membership import AnswerMembership
from erasure.measures.generated_answers import ModelUtility
from erasure.measures.open_unlearning import OpenUnlearningScore
from erasure.measures.truth_ratio import TruthRatio, log_truth_ratios, version_losses
from erasure.measures.wording import Fluency
from erasure.testing.evaluations import language_bench


def values(given, measure, model):
    return [each.value for each in measure.measure(given.evaluation(measure, model))]


def harmonic(parts):
    return len(parts) / sum(1 / part for part in parts)


def test_the_score_is_the_harmonic_mean_of_memory_privacy_and_utility():
    given = language_bench()
    areas, others = (np.array(values(given, AnswerMembership(), model)) for model in ("fair", "gold"))
    privacy = harmonic(1 - np.abs(areas - others) / others)
    evaluation = given.evaluation(TruthRatio(), "fair")
    r = log_truth_ratios(evaluation, "forget")[0].exp().numpy()
    paraphrased = float((-version_losses(evaluation, "forget", 2)).exp().mean())
    known = [
        *values(given, ExtractionStrength(), "fair"),
        *values(given, ExactMemorisation(), "fair"),
        paraphrased,
        np.mean(1 / (1 + r)),
    ]
    memory = harmonic([1 - each for each in known])
    uses = [
        harmonic([values(given, ModelUtility(max_new_tokens=6), model)[0], values(given, Fluency(max_new_tokens=6), model)[0]])
        for model in ("fair", "original")
    ]
    utility = min(1, uses[0] / uses[1])
    wanted = [harmonic([memory, privacy, utility]), memory, privacy, utility]
    assert values(given, OpenUnlearningScore(max_new_tokens=6), "fair") == pytest.approx(wanted, rel=1e-6)
    assert values(given, OpenUnlearningScore(max_new_tokens=6), "gold")[2] == 1.0
    assert torch.is_grad_enabled()
