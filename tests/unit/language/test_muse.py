"""MUSE's measures against plain formulas, and examples before a question."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.rouge import rouge_l
from erasure.functional.tokens import ANSWER, END, PROMPT, answer_tokens
from erasure.measures.muse import KnowMem, PrivLeak, VerbMem, shortened
from erasure.testing.evaluations import language_bench


@pytest.fixture(scope="module")
def given():
    return language_bench()


def value(given, measure, model="fair"):
    return measure.measure(given.evaluation(measure, model))[0].value


def true_answer(given, i, n_tokens):
    pieces = given.facts["token_names"]
    inside = [t for t, role in zip(given.x[i, 0].tolist(), given.x[i, 1].tolist(), strict=True) if role == ANSWER]
    return "".join(pieces[t] for t in inside[:n_tokens])


def said(given, answer):
    return "".join(given.facts["token_names"][t] for t in answer)


@pytest.mark.parametrize("n_tokens", [2, 9])
def test_recitation_is_compared_with_the_true_text_cut_to_the_same_length(given, n_tokens):
    ids = given.partitions["forget"].sort().values
    answers = given.models["fair"].generate(given.x[ids], end=0, max_new_tokens=n_tokens)
    wanted = [
        rouge_l(true_answer(given, i, n_tokens), said(given, answer))[1] for i, answer in zip(ids.tolist(), answers, strict=True)
    ]
    assert value(given, VerbMem(n_tokens=n_tokens)) == pytest.approx(np.mean(wanted))


class Watching(torch.nn.Module):
    """Says what it is told to and notes what it was asked."""

    def __init__(self, model, answer, context=None):
        super().__init__()
        self.model, self.answer, self.asked, self.context = model, answer, [], context

    def forward(self, x):
        return self.model(x)

    def generate(self, x, *, end, max_new_tokens):
        self.end = end
        self.asked += [row[0][row[1] == PROMPT].tolist() for row in x]
        return [self.answer for _ in x]


def test_solved_examples_stand_before_each_question_and_are_not_asked_themselves(given):
    given.models["watching"] = Watching(given.models["fair"], [3, 4])
    retain = given.partitions["retain"].sort().values.tolist()
    examples = [t for i in retain[:3] for t, role in zip(given.x[i, 0].tolist(), given.x[i, 1].tolist(), strict=True) if role]
    assert examples.count(0) >= 3  # with the token that ends each
    value(given, KnowMem(n_examples=3), "watching")
    forget = given.partitions["forget"].sort().values.tolist()
    assert given.models["watching"].asked == [examples + given.x[i, 0, :3].tolist() for i in forget]
    given.models["watching"].asked.clear()
    value(given, KnowMem(partition="retain", n_examples=3), "watching")
    assert given.models["watching"].asked == [examples + given.x[i, 0, :3].tolist() for i in retain[3:]]
    given.models["watching"].asked.clear()
    value(given, KnowMem(examples="train", n_examples=3), "watching")  # which has the forget set in it
    assert given.models["watching"].asked == [examples + given.x[i, 0, :3].tolist() for i in forget]
    given.models["watching"].asked.clear()
    value(given, KnowMem(n_examples=0), "watching")
    assert given.models["watching"].asked == [given.x[i, 0, :3].tolist() for i in forget]


def test_where_all_answers_were_cut_other_samples_say_what_ends_one(given):
    x, forget = given.x.clone(), given.partitions["forget"]
    x[:, ::2][x[:, 1::2] == END] = 7
    roles = x[forget, 1::2]
    x[forget, 1::2] = torch.where(roles == END, ANSWER, roles)
    models = {**given.models, "watching": Watching(given.models["fair"], [3, 4])}
    without = x.clone()
    without[:, 1::2] = x[:, 1::2].clamp_max(ANSWER)
    for rows, end in ((x, 7), (without, None)):
        models["watching"].end = "not asked"
        value(replace(given, x=rows, y=answer_tokens(rows), models=models), VerbMem(), "watching")
        assert models["watching"].end == end


def test_examples_that_do_not_fit_the_model_are_refused(given):
    given.models["short"] = Watching(given.models["fair"], [3], context=40)
    value(given, KnowMem(n_examples=0), "short")
    with pytest.raises(RequirementNotMet, match="the model reads 40"):
        value(given, KnowMem(n_examples=2), "short")
    few = given.with_partitions(lambda name, ids: ids[:1] if name == "retain" else ids)
    with pytest.raises(PartitionError, match="2 examples are asked for"):
        value(few, KnowMem(n_examples=2))


def test_an_answer_ends_where_another_question_begins():
    assert shortened("in Lima.\nQuestion: and") == "in Lima."
    assert shortened("in Lima. Question: and\n\nso") == "in Lima. "
    assert shortened("in Lima.\nOr so") == "in Lima.\nOr so"


def scores(given, model, partition, share):
    log_p = given.models[model].table.detach().double().log_softmax(1)
    found = []
    for i in given.partitions[partition].tolist():
        ids, roles = given.x[i, 0].tolist(), given.x[i, 1].tolist()
        each = sorted(float(log_p[ids[k - 1], ids[k]]) for k in range(1, len(ids)) if roles[k] == ANSWER)
        found.append(round(np.mean(each[: max(1, int(share * len(each)))]), 5))
    return found


def test_leakage_is_the_relative_distance_of_areas_to_golds(given):
    areas = []
    for model in ("original", "gold"):
        forget, test = (scores(given, model, partition, 0.4) for partition in ("forget", "test"))
        areas.append(roc_auc_score([0] * len(forget) + [1] * len(test), [*forget, *test]))
    assert value(given, PrivLeak(), "original") == pytest.approx(100 * (areas[0] - areas[1]) / areas[1], abs=1.5)
    assert value(given, PrivLeak(), "original") < -5  # it knows them
    assert value(given, PrivLeak(), "gold") == 0
