"""Measures of language models against plain formulas and other libraries, and what they cost."""

import itertools
import json
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.functional.rouge import rouge_l, rouge_words
from erasure.functional.tokens import ANSWER, END
from erasure.measures.answers import AnswerProbability, ExactMemorisation, ExtractionStrength
from erasure.measures.attacks.answer_membership import AnswerMembership
from erasure.measures.generated_answers import ModelUtility, RougeL, harmonic_mean
from erasure.measures.muse import KnowMem, VerbMem
from erasure.measures.truth_ratio import ForgetQuality, TruthRatio, log_truth_ratios
from erasure.testing.evaluations import language_bench


@pytest.fixture(scope="module")
def given():
    return language_bench()


def plain_losses(given, model, sample, version=0, *, with_end=True):
    """Losses of the tokens of one version of an answer, by the table of pairs."""
    ids, roles = given.x[sample, 2 * version].tolist(), given.x[sample, 2 * version + 1].tolist()
    table = given.models[model].table.detach().double().log_softmax(1)
    wanted = {ANSWER, END} if with_end else {ANSWER}
    return [-float(table[ids[k - 1], ids[k]]) for k in range(1, len(ids)) if roles[k] in wanted]


def value(given, measure, model="fair", name=None):
    found = measure.measure(given.evaluation(measure, model))
    return next(each.value for each in found if each.name == name)


def test_probability_is_the_geometric_mean_of_the_tokens(given):
    each = [math.exp(-np.mean(plain_losses(given, "fair", i))) for i in given.partitions["forget"].tolist()]
    assert value(given, AnswerProbability()) == pytest.approx(np.mean(each), rel=1e-5)


def test_truth_ratios_are_geometric_means_in_log_space(given):
    found, ids = log_truth_ratios(given.evaluation(TruthRatio(), "fair"), "forget")
    for log_r, i in zip(found.tolist(), ids.tolist(), strict=True):
        wrong = np.mean([np.mean(plain_losses(given, "fair", i, version)) for version in (4, 5)])
        assert log_r == pytest.approx(np.mean(plain_losses(given, "fair", i, 2)) - wrong, abs=1e-5)
    r = found.exp().numpy()
    assert value(given, TruthRatio()) == pytest.approx(np.minimum(r, 1 / r).mean(), rel=1e-6)
    assert value(given, TruthRatio(), name="truth known") == pytest.approx(np.maximum(0, 1 - r).mean(), rel=1e-6)


def test_truth_ratios_of_a_ruined_model_do_not_vanish(given):
    ruined = replace(given, models={**given.models, "fair": type(given.models["fair"])(30 * given.models["poor"].table.detach())})
    losses = plain_losses(ruined, "fair", int(given.partitions["forget"][0]), 4)
    assert np.mean(losses) > 23  # below 1e-10, where a floor would make all ratios alike
    found, _ = log_truth_ratios(ruined.evaluation(TruthRatio(), "fair"), "forget")
    assert found.isfinite().all()
    assert len(found.unique()) == len(found)


def test_passes_over_other_answers_are_made_once_for_all_measures(given):
    kept = {}

    def sharing(model, described, compute):
        key = (id(model), described["version"])
        assert not described["draws"]
        if key not in kept:
            kept[key] = compute()
            passes.append(key)
        return json.loads(json.dumps(kept[key]))

    passes = []
    for measure in (TruthRatio(), ForgetQuality(), TruthRatio(legacy=True)):
        evaluation = given.evaluation(measure, "fair")
        shared = measure.measure(replace(evaluation, sharing=sharing))
        assert [each.value for each in shared] == [each.value for each in measure.measure(given.evaluation(measure, "fair"))]
    assert sorted(version for _, version in passes) == [2, 2, 4, 4, 5, 5]  # of the model and of gold


def test_forget_quality_is_the_test_of_scipy(given):
    measure = ForgetQuality(resamples=200)
    own, gold = (log_truth_ratios(given.evaluation(measure, model), "forget")[0].numpy() for model in ("fair", "gold"))
    wanted = ks_2samp(np.exp(own), np.exp(gold))
    assert value(given, measure) == pytest.approx(wanted.pvalue, rel=1e-9)
    assert value(given, measure, name="KS distance") == pytest.approx(wanted.statistic, rel=1e-12)


def test_samples_without_paraphrase_use_their_answer_and_those_without_wrong_answers_are_left_out(given):
    x = given.x.clone()
    first, second = given.partitions["forget"][:2].tolist()
    x[first, 4:6] = 0
    x[second, 8:12] = 0
    changed = replace(given, x=x)
    found, ids = log_truth_ratios(changed.evaluation(TruthRatio(), "fair"), "forget")
    assert second not in ids.tolist()
    wrong = np.mean([np.mean(plain_losses(given, "fair", first, version)) for version in (4, 5)])
    assert found[ids.tolist().index(first)].item() == pytest.approx(np.mean(plain_losses(given, "fair", first)) - wrong, abs=1e-5)
    x[:, 8:12] = 0
    with pytest.raises(RequirementNotMet, match=r"no sample of .forget. has wrong answers"):
        value(replace(given, x=x), TruthRatio())


def test_attacks_follow_their_formulas(given):
    pieces = given.facts["token_names"]
    table = given.models["fair"].table.detach().double().log_softmax(1)
    mean = (table.exp() * table).sum(1)
    spread = ((table.exp() * table.square()).sum(1) - mean.square()).sqrt()

    def scores(i):
        losses, inside = plain_losses(given, "fair", i), plain_losses(given, "fair", i, with_end=False)
        ids, roles = given.x[i, 0].tolist(), given.x[i, 1].tolist()
        places = [k for k in range(1, len(ids)) if roles[k] == ANSWER]
        k = max(1, int(0.4 * len(inside)))
        standardised = sorted(
            (float(table[ids[p - 1], ids[p]]) - float(mean[ids[p - 1]])) / float(spread[ids[p - 1]]) for p in places
        )
        text = "".join(pieces[ids[p]] for p in places)
        return {
            "loss": -np.mean(losses),
            "zlib": -np.mean(losses) / len(zlib.compress(text.encode())),
            "min-k": -np.mean(sorted(inside)[::-1][:k]),
            "min-k++": np.mean(standardised[:k]),
        }

    members = [scores(i) for i in given.partitions["forget"].tolist()]
    others = [scores(i) for i in given.partitions["test"].tolist()]
    for attack in ("loss", "zlib", "min-k", "min-k++"):
        truth = [1] * len(members) + [0] * len(others)
        wanted = roc_auc_score(truth, [round(each[attack], 6) for each in (*members, *others)])
        assert value(given, AnswerMembership(), name=f"AnswerMembership {attack}") == pytest.approx(wanted, abs=5e-3)


def brute_force(first, second):
    """Length of the longest common subsequence, by trying all."""
    for n in range(min(len(first), len(second)), 0, -1):
        tails = set(itertools.combinations(second, n))
        if any(each in tails for each in itertools.combinations(first, n)):
            return n
    return 0


@pytest.mark.parametrize("seed", range(6))
def test_rouge_is_the_longest_common_subsequence(seed):
    generator = np.random.default_rng(seed)
    first, second = (list(generator.choice(["pear", "plum", "fig", "7"], size)) for size in generator.integers(1, 8, 2))
    recall, f1 = rouge_l(" ".join(first), ", ".join(second).upper())
    common = brute_force(first, second)
    assert recall == common / len(first)
    assert f1 == pytest.approx(2 * common / (len(first) + len(second)))


def test_rouge_of_nothing_is_nothing():
    assert rouge_words("It's 3.5!") == ["it", "s", "3", "5"]
    assert rouge_l("", "fig") == rouge_l("fig", "?!") == (0.0, 0.0)


@pytest.mark.parametrize("measure", [RougeL(), VerbMem(), KnowMem(n_examples=0)])
def test_texts_without_a_word_that_rouge_counts_are_refused(given, measure):
    pieces = ("", *(f" {chr(0x430 + token % 32)}" for token in range(1, len(given.facts["token_names"]))))
    with pytest.raises(RequirementNotMet, match="letters a to z and digits, and no true answer has any"):
        value(replace(given, facts={"token_names": pieces}), measure)
    assert value(replace(given, facts={"token_names": (*pieces[:-8], *(" a",) * 8)}), measure) >= 0


def test_generated_answers_are_compared_with_the_true_ones(given):
    ids = given.partitions["forget"].sort().values[:5]
    model, pieces = given.models["fair"], given.facts["token_names"]
    scores = []
    for i, answer in zip(ids.tolist(), model.generate(given.x[ids], end=0, max_new_tokens=5), strict=True):
        true = [token for token, role in zip(given.x[i, 0].tolist(), given.x[i, 1].tolist(), strict=True) if role == ANSWER]
        scores.append(rouge_l("".join(pieces[t] for t in true), "".join(pieces[t] for t in answer))[0])
    assert value(given, RougeL(max_new_tokens=5, n_samples=5)) == pytest.approx(np.mean(scores))


def test_utility_is_the_harmonic_mean_and_dies_with_one_of_its_parts(given):
    parts = [
        value(given, AnswerProbability(partition="retain")),
        value(given, RougeL(partition="retain", max_new_tokens=6)),
        value(given, TruthRatio(partition="retain"), name="truth known"),
    ]
    assert value(given, ModelUtility(max_new_tokens=6)) == pytest.approx(3 / sum(1 / part for part in parts))
    assert harmonic_mean([0.5, 0.0, 1.0]) == 0.0


def test_utility_may_divide_probabilities_by_those_of_the_wrong_answers(given):
    shares = []
    for i in given.partitions["test"].tolist():
        true, *wrong = (math.exp(-np.mean(plain_losses(given, "fair", i, version))) for version in (0, 4, 5))
        shares.append(true / (true + sum(wrong)))
    parts = [value(given, RougeL(partition="test")), value(given, TruthRatio(partition="test"), name="truth known")]
    found = value(given, ModelUtility(kept=("test",), divided=("test",)))
    assert found == pytest.approx(harmonic_mean([np.mean(shares), *parts]), rel=1e-5)
    assert found != pytest.approx(value(given, ModelUtility(kept=("test",))), rel=1e-3)
    with pytest.raises(InvalidParameters, match='"test" is not one of kept'):
        ModelUtility(divided=("test",))


def test_all_measures_of_tokens_cost_one_pass(given):
    model = given.models["fair"]
    calls = []
    handle = model.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    known = {}

    def outputs(partition):
        if partition not in known:
            known[partition] = given.outputs("fair", partition)
        return known[partition]

    for measure in (AnswerProbability(), ExtractionStrength(), ExactMemorisation(), AnswerMembership()):
        evaluation = given.evaluation(measure, "fair")
        measure.measure(replace(evaluation, subject=replace(evaluation.subject, outputs=outputs)))
    handle.remove()
    assert sum(calls) == len(given.partitions["forget"]) + len(given.partitions["test"])
    assert torch.equal(known["forget"].ids, given.partitions["forget"])


def plain_hits(given, model, sample):
    """Whether each token of an answer, its end left out, is the most likely one after the token before it."""
    ids, roles = given.x[sample, 0].tolist(), given.x[sample, 1].tolist()
    best = given.models[model].table.detach().double().argmax(1)
    return [int(best[ids[k - 1]]) == ids[k] for k in range(1, len(ids)) if roles[k] == ANSWER]


@pytest.mark.parametrize("model", ["fair", "gold"])
def test_memorisation_and_extraction_are_counted_token_by_token(given, model):
    answers = [plain_hits(given, model, i) for i in given.partitions["forget"].tolist()]
    assert any(any(hits) for hits in answers)
    assert value(given, ExactMemorisation(), model) == pytest.approx(np.mean([np.mean(hits) for hits in answers]))
    followed = [next((len(hits) - k for k in range(len(hits)) if all(hits[k:])), 0) / len(hits) for hits in answers]
    assert value(given, ExtractionStrength(), model) == pytest.approx(np.mean(followed))
