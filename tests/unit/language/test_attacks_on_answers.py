"""Attacks that ask, round, train again or look at gradients, against plain formulas."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_llama import data, llama

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.rounding import rounded, with_rounded_weights
from erasure.functional.tokens import ANSWER, END
from erasure.measures.attacks.model_membership import GradientMembership, ReferenceMembership
from erasure.measures.attacks.prompt_attack import PromptAttack
from erasure.measures.attacks.rounded_weights import RoundedWeights
from erasure.measures.generation import examples_of
from erasure.measures.multiple_choice import MultipleChoice
from erasure.measures.relearning_curve import RelearningCurve
from erasure.testing.evaluations import language_bench
from erasure.training.calls import Optimizer


@pytest.fixture(scope="module")
def given():
    return language_bench()


def values(given, measure, model="fair"):
    found = measure.measure(given.evaluation(measure, model))
    return {each.name: each.value for each in found}


def plain(given, model, sample, version=0, first=None):
    """Log-probability and hit of each token of an answer, and whether it is the end; ``first`` is the token before it."""
    ids, roles = given.x[sample, 2 * version].tolist(), given.x[sample, 2 * version + 1].tolist()
    table = given.models[model].table.detach().double().log_softmax(1)
    return [
        (float(table[ids[k - 1], ids[k]]), int(table[ids[k - 1]].argmax()) == ids[k], roles[k] == END)
        for k in range(1, len(ids))
        if roles[k] in {ANSWER, END}
    ]


def known(tokens):
    inside = [hit for _, hit, is_end in tokens if not is_end]
    run = next((len(inside) - k for k in range(len(inside)) if all(inside[k:])), 0)
    return math.exp(np.mean([p for p, _, _ in tokens])), run / len(inside), np.mean(inside)


def test_rephrased_prompts_are_asked_and_samples_without_one_left_out(given):
    x = given.x.clone()
    left_out = int(given.partitions["forget"][3])
    x[left_out, 6:8] = 0
    asked = [i for i in given.partitions["forget"].tolist() if i != left_out]
    wanted = np.mean([known(plain(given, "fair", i, 3)) for i in asked], axis=0)
    found = values(replace(given, x=x), PromptAttack())
    assert [found[f"PromptAttack rephrased {kind}"] for kind in ("probability", "extraction", "memorisation")] == pytest.approx(
        wanted.tolist(), rel=1e-5
    )
    x[:, 6:8] = 0
    with pytest.raises(RequirementNotMet, match="has a rephrased prompt"):
        values(replace(given, x=x), PromptAttack())


def test_examples_change_nothing_for_a_model_that_looks_one_token_back(given):
    found = values(given, PromptAttack(asking=("examples",), n_examples=3))
    wanted = np.mean([known(plain(given, "fair", i)) for i in given.partitions["forget"].tolist()], axis=0)
    assert list(found.values()) == pytest.approx(wanted.tolist(), rel=1e-5)


def test_no_answer_stands_among_the_examples_before_its_own_question(given):
    with pytest.raises(PartitionError, match='"forget" has 0 samples that are not in "forget", 2 examples'):
        values(given, PromptAttack(asking=("examples",), examples="forget"))
    evaluation = given.evaluation(PromptAttack(asking=("examples",)), "fair")
    assert examples_of(evaluation, "train", 9, asked="forget") == examples_of(evaluation, "retain", 9)
    assert examples_of(evaluation, "train", 9) != examples_of(evaluation, "retain", 9)


def test_weights_are_rounded_to_the_nearest_step_of_each_row_or_group():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 10, generator=generator)
    for bits, group in ((8, None), (4, 4), (3, 10), (2, 3)):
        found = rounded(weight, bits, group)
        for row, was in zip(found, weight, strict=True):
            for start in range(0, 10, group or 10):
                part, before = row[start : start + (group or 10)], was[start : start + (group or 10)]
                step = float(before.abs().max()) / (2 ** (bits - 1) - 1)
                assert (part / step - (part / step).round()).abs().max() < 1e-4
                assert (part - before).abs().max() <= step / 2 + 1e-6
        torch.testing.assert_close(rounded(found, bits, group), found)
    assert torch.equal(rounded(torch.zeros(2, 3), 4), torch.zeros(2, 3))


def test_only_matrices_between_embeddings_and_output_layer_are_rounded():
    model = llama(data())
    changed = with_rounded_weights(model, 4, 8)
    after = dict(changed.named_parameters())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, after[name])}
    assert moved == {
        name for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name and "lm_head" not in name
    }
    assert len(moved) == 3 * 7


def test_low_rank_updates_are_merged_before_rounding():
    dataset = data()
    model = llama(dataset, lora_rank=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    fine = dict(with_rounded_weights(model, 8).named_modules())
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "base_layer")}
    assert len(layers) == 3 * 7
    for name, layer in layers.items():
        whole = layer.base_layer.weight + 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        assert fine[name].merged
        torch.testing.assert_close(fine[name].base_layer.weight, rounded(whole, 8))
        assert not layer.merged


def test_rounded_weights_are_measured_as_any(given):
    table = given.models["fair"].table.detach()
    coarse = replace(given, models={**given.models, "coarse": type(given.models["fair"])(rounded(table, 3, 64))})
    wanted = np.mean([known(plain(coarse, "coarse", i)) for i in given.partitions["forget"].tolist()], axis=0)
    found = values(given, RoundedWeights(bits=(3,)))
    assert list(found.values()) == pytest.approx(wanted.tolist(), rel=1e-5)


def test_the_reference_attack_compares_with_gold(given):
    scores = [
        [
            round(
                np.mean([p for p, _, _ in plain(given, "original", i)]) - np.mean([p for p, _, _ in plain(given, "gold", i)]), 6
            )
            for i in given.partitions[name].tolist()
        ]
        for name in ("forget", "test")
    ]
    wanted = roc_auc_score([1] * len(scores[0]) + [0] * len(scores[1]), [*scores[0], *scores[1]])
    assert wanted > 0.6
    assert values(given, ReferenceMembership(), "original")[None] == pytest.approx(wanted, abs=2e-3)
    assert values(given, ReferenceMembership(), "gold")[None] == 0.5


def test_the_gradient_attack_takes_the_mean_norm_over_tensors():
    """Two tensors of weights, the second of which is a scale of all logits."""
    bench = language_bench()

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.scale = copy.deepcopy(bench.models["original"]), torch.nn.Parameter(torch.tensor(1.5))

        def forward(self, x):
            return self.scale * self.inner(x)

    bench.models["scaled"] = Scaled().eval()
    model, scores = bench.models["scaled"], []
    for name in ("forget", "test"):
        each = []
        for i in bench.partitions[name].tolist():
            model.zero_grad()
            tokens = [k for k in range(1, 9) if bench.x[i, 1, k] >= ANSWER]
            rows = (1.5 * 0 + model.scale) * model.inner.table[bench.x[i, 0, [k - 1 for k in tokens]]]
            torch.nn.functional.cross_entropy(rows, bench.x[i, 0, tokens]).backward()
            each.append(-(float(model.inner.table.grad.norm()) + abs(float(model.scale.grad))) / 2)
        scores.append(each)
    model.zero_grad()
    wanted = roc_auc_score([1] * len(scores[0]) + [0] * len(scores[1]), [round(s, 6) for part in scores for s in part])
    assert values(bench, GradientMembership(), "scaled")[None] == pytest.approx(wanted, abs=2e-3)
    assert all(p.grad is None for p in model.parameters())


def test_choices_are_made_by_likelihood(given):
    right, summed = [], []
    for i in given.partitions["forget"].tolist():
        options = [[p for p, _, _ in plain(given, "fair", i, version)] for version in (2, 4, 5)]
        right.append(np.argmax([np.mean(each) for each in options]) == 0)
        summed.append(np.argmax([np.sum(each) for each in options]) == 0)
    assert 0.4 < np.mean(right) < 1
    assert values(given, MultipleChoice()) == pytest.approx({None: np.mean(right), "MultipleChoice summed": np.mean(summed)})
    own = [
        np.argmax([np.mean([p for p, _, _ in plain(given, "fair", i, version)]) for version in (0, 4, 5)]) == 0
        for i in given.partitions["forget"].tolist()
    ]
    assert values(given, MultipleChoice(true="answer"))[None] == pytest.approx(np.mean(own))


def test_chance_and_equal_answers(given):
    uniform = type(given.models["fair"])(torch.zeros_like(given.models["fair"].table))
    bench = replace(given, models={**given.models, "uniform": uniform})
    found = MultipleChoice().measure(bench.evaluation(MultipleChoice(), "uniform"))
    assert [each.value for each in found] == pytest.approx([1 / 3, 1 / 3])
    assert [each.chance_level for each in found] == pytest.approx([1 / 3, 1 / 3])


def test_relearning_is_plain_training_looked_at_in_between(given):
    measure = RelearningCurve(n_steps=3, every=2, optimizer=Optimizer.of("SGD", lr=20.0), batch_size=40, known="probability")
    table = given.models["gold"].table.detach().clone().requires_grad_()
    ids = given.partitions["forget"].tolist()
    pairs = [(int(given.x[i, 0, k - 1]), int(given.x[i, 0, k])) for i in ids for k in range(1, 9) if given.x[i, 1, k] >= ANSWER]
    before, after = torch.tensor(pairs).T

    def look():
        bench = replace(given, models={**given.models, "now": type(given.models["gold"])(table.detach().clone())})
        return np.mean([known(plain(bench, "now", i))[0] for i in ids])

    curve = [look()]
    for step in range(3):
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(table[before], after), table)
        table = (table - 20 * gradient).detach().requires_grad_()
        curve += [look()] if step else []
    assert curve[0] < curve[1] < curve[2]
    found = measure.measure(given.evaluation(measure, "gold"))
    assert found[0].curve == {"kind": "relearning", "steps": [0, 2, 3], "known": pytest.approx(curve, rel=1e-4)}
    assert [each.value for each in found] == pytest.approx([np.mean(curve), curve[-1]], rel=1e-4)


def test_samples_that_are_shown_are_not_looked_at(given):
    measure = RelearningCurve(n_taught=10, n_steps=1)
    shown, looked_at = measure._split(given.evaluation(measure))
    assert len(shown) == 10
    assert sorted([*shown.tolist(), *looked_at.tolist()]) == sorted(given.partitions["forget"].tolist())
    with pytest.raises(RequirementNotMet, match="none is left"):
        values(given, RelearningCurve(n_taught=40))
    with pytest.raises(RequirementNotMet, match="leave it out"):
        RelearningCurve(n_taught=4, relearn="retain")
