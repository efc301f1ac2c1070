"""Faithfulness and robustness of measures, by plain formulas."""

import copy
from dataclasses import replace

import pytest
import torch

from erasure.errors import InvalidParameters
from erasure.functional.membership import auc
from erasure.functional.rounding import with_rounded_weights
from erasure.measures.answers import AnswerProbability, ExactMemorisation
from erasure.measures.attacks.answer_membership import AnswerMembership
from erasure.measures.contract import forward_pass
from erasure.measures.meta_evaluation import MetaEvaluation
from erasure.measures.requested_models import FIRST_FITTED, Original
from erasure.measures.truth_ratio import ForgetQuality, TruthRatio
from erasure.measures.wording import Fluency
from erasure.testing.evaluations import language_bench
from erasure.training.calls import Optimizer

METRICS = (AnswerProbability(), ExactMemorisation())


class Bank:
    """Originals and golds whose tables differ by noise."""

    def __init__(self, given, noise):
        self.given, self.noise = given, noise

    def load(self, request):
        kind = "original" if isinstance(request, Original) else "gold"
        model = copy.deepcopy(self.given.models[kind])
        generator = torch.Generator().manual_seed(request.number)
        with torch.no_grad():
            model.table += self.noise * torch.randn(model.table.shape, generator=generator)
        return model

    def outputs(self, request, partition):
        return says(self.given, self.load(request), partition)


def says(given, model, partition):
    evaluation = given.evaluation(AnswerProbability(), "fair")
    return forward_pass(
        model,
        x=evaluation.x,
        y=evaluation.y,
        ids=evaluation.ids(partition),
        criterion=evaluation.criterion,
        task="generation",
    )


def probability(given, model):
    return float((-says(given, model, "forget").tokens.losses).exp().mean())


def measured(given, measure, noise=0.3, model="fair"):
    evaluation = replace(given.evaluation(measure, model), provider=Bank(given, noise))
    evaluation = replace(evaluation, subject=replace(evaluation.subject, role="unlearned"))
    return {value.name: value.value for value in measure.measure(evaluation)}


def test_faithfulness_is_the_area_between_models_that_know_and_models_that_do_not():
    given, measure = language_bench(), MetaEvaluation(metrics=METRICS, n_models=4)
    found = measured(given, measure, noise=1.0)
    bank = Bank(given, 1.0)
    known, unknown = (
        [probability(given, bank.load(request)) for request in requests] for requests in (measure._knowing, measure._ignorant)
    )
    area = sum((a > b) + 0.5 * (a == b) for a in known for b in unknown) / 16
    assert found["AnswerProbability faithfulness"] == pytest.approx(area)
    assert area > 0
    assert {request.number for request, _ in measure.requests("unlearned")} == {FIRST_FITTED + k for k in range(4)}


def test_robustness_is_by_relearning_beside_gold_and_by_rounding():
    given = language_bench()
    measure = MetaEvaluation(metrics=METRICS, n_models=1, optimizer=Optimizer.of("SGD", lr=0.5), batch_size=40, bits=3)

    def relearned(name):
        model = copy.deepcopy(given.models[name]).requires_grad_(True)
        ids = given.partitions["forget"]
        logits, y = model(given.x[ids]), given.y[ids]
        loss = torch.nn.functional.cross_entropy(logits[y != -100], y[y != -100])
        (gradient,) = torch.autograd.grad(loss, [model.table])
        with torch.no_grad():
            model.table -= 0.5 * gradient
        return model

    found = measured(given, measure)
    before, gold = (probability(given, given.models[name]) for name in ("fair", "gold"))
    ratio = (probability(given, relearned("gold")) - gold) / (probability(given, relearned("fair")) - before)
    assert found["AnswerProbability relearning"] == pytest.approx(min(1, max(0, ratio)), rel=1e-4)
    rounded = probability(given, with_rounded_weights(given.models["fair"], 3, 64))
    assert found["AnswerProbability quantisation"] == pytest.approx(min(1, before / rounded), rel=1e-5)
    for metric in ("AnswerProbability", "ExactMemorisation"):
        r, q, f = (found[f"{metric} {name}"] for name in ("relearning", "quantisation", "faithfulness"))
        robust = 0 if 0 in (r, q) else 2 * r * q / (r + q)
        assert found[f"{metric} robustness"] == pytest.approx(robust)
        assert found[f"{metric} overall"] == pytest.approx(0 if 0 in (robust, f) else 2 * robust * f / (robust + f))


def test_measures_without_a_direction_are_faithful_either_way():
    given = language_bench()
    found = measured(given, MetaEvaluation(metrics=(TruthRatio(),), n_models=3), noise=0.0)
    assert found["TruthRatio faithfulness"] == 1.0


def test_attacks_grow_with_knowledge_and_distances_from_gold_say_nothing_of_it():
    given, attack = language_bench(), AnswerMembership(attacks=("loss",))
    found = measured(given, MetaEvaluation(metrics=(attack, ForgetQuality()), n_models=3), noise=0.0)
    assert found["AnswerMembership faithfulness"] == 1.0
    assert found["ForgetQuality faithfulness"] == 1.0
    (before,) = attack.measure(given.evaluation(attack, "fair"))
    rounded = with_rounded_weights(given.models["fair"], 4, 64)
    after = auc(*(-says(given, rounded, name).tokens.losses for name in ("forget", "test")))
    assert found["AnswerMembership quantisation"] == pytest.approx(min(1, before.value / after))


def test_measures_are_told_apart_and_need_no_other_model():
    with pytest.raises(InvalidParameters, match="stands there twice"):
        MetaEvaluation(metrics=(AnswerProbability(), AnswerProbability(partition="retain")))
    assert "retain" in MetaEvaluation(metrics=(Fluency(), ForgetQuality())).partitions()
    with pytest.raises(InvalidParameters, match="needs other models"):
        MetaEvaluation(metrics=(MetaEvaluation(),))
