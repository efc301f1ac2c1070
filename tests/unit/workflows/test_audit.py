"""An audit of models of one's own: judged beside retrained models, or told what cannot be said."""

import functools

import numpy as np
import pytest
import torch
from own_models import Calls, N, network, problem, trainer
from torch import nn

import erasure
from erasure.engine.fits import callable_digest
from erasure.errors import DataError, RequirementNotMet, UnknownComponent
from erasure.measures.attacks.forgetting_quality import ForgettingQuality
from erasure.measures.attacks.lira import ULiRA

FORGET = np.arange(16)
RETAIN = np.arange(16, N)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("ERASURE_STORE", str(tmp_path / "store"))


@functools.cache
def originals():
    data, _ = problem()
    return [trainer(data)(np.arange(N), seed) for seed in (1, 2, 3, 4, 5)]


def audit(**changes):
    data, test = problem()
    fit = trainer(data)
    given = {
        "original": originals(),
        "forget": FORGET,
        "data": data,
        "test": test,
        "train": fit,
    } | changes
    return erasure.audit(**given)


def test_retraining_is_not_accused_and_the_original_is(store, tmp_path):
    data, _ = problem()
    fit = trainer(data)
    retrained = [fit(RETAIN, seed) for seed in (11, 12, 13, 14, 15)]
    lazy = [fit(np.arange(N), seed) for seed in (21, 22, 23, 24, 25)]
    found = audit(unlearned={"retrained": retrained, "lazy": lazy}, output=tmp_path / "audit")
    assert found.finding("retrained") in {"indistinguishable", "not-told-apart"}
    assert found.finding("lazy") == "under-forgotten"
    assert found.is_sound
    assert {path.name for path in (tmp_path / "audit").iterdir()} >= {"rows.parquet", "report.json", "report.html"}
    again = erasure.Results.load(tmp_path / "audit")
    assert len(again.jury) == len(found.jury) > 0
    assert again.overview().headline.startswith("Data: given data. 16 of 80 training rows (20")


def test_remedies_are_those_of_an_audit_and_not_options_of_a_run(store, tmp_path):
    data, test = problem()
    fit = trainer(data)
    given = {"original": fit(np.arange(N), 1), "unlearned": fit(RETAIN, 2), "forget": FORGET, "data": data, "test": test}
    erasure.audit(train=fit, measures=["Accuracy", "NLL"], n_golds=5, output=tmp_path / "audit", **given)
    again = erasure.Results.load(tmp_path / "audit")
    said = [again.recommendation, *(text for verdict in again.verdicts.values() for text in verdict.reasons)]
    said += again.overview().certainty.sentences
    assert any("originals" in text for text in said)
    assert not any("--seeds" in text for text in said)


def test_golds_are_trained_once_and_found_again(store):
    data, test = problem()
    calls = Calls()
    fit = trainer(data, calls=calls)
    original, unlearned = fit(np.arange(N), 1), fit(RETAIN, 2)
    calls.made.clear()
    given = {"original": original, "unlearned": unlearned, "forget": FORGET, "data": data, "test": test, "n_golds": 2}
    first = erasure.audit(train=fit, measures=["Accuracy"], **given)
    assert [n for n, _ in calls.made] == [len(RETAIN)] * 2
    assert len({seed for _, seed in calls.made}) == 2
    second = erasure.audit(train=fit, measures=["Accuracy"], **given)
    assert len(calls) == 2
    assert [row.value for row in second.jury] == [row.value for row in first.jury]
    erasure.audit(train=trainer(data, steps=5, calls=calls), measures=["Accuracy"], **given)
    assert len(calls) == 4


def test_a_recipe_stands_in_for_a_function(store):
    data, test = problem()
    original = trainer(data)(np.arange(N), 1)
    found = erasure.audit(
        original=original,
        unlearned=trainer(data)(RETAIN, 2),
        forget=FORGET,
        data=data,
        test=test,
        train={"epochs": 3, "optimizer": {"class": "Adam", "parameters": {"lr": 0.02}}},
        n_golds=2,
        measures=["Accuracy"],
    )
    assert 0.5 < found.value("accuracy", "test", "gold") <= 1


def test_golds_may_be_brought_along(store):
    data, test = problem()
    fit = trainer(data)
    golds = [fit(RETAIN, 30 + k) for k in range(19)]
    found = erasure.audit(
        original=fit(np.arange(N), 1), unlearned=fit(np.arange(N), 2), forget=FORGET, data=data, test=test, golds=golds
    )
    assert found.tested.methods["unlearned"].basis == "labellings"
    assert found.finding() == "under-forgotten"


def test_without_retrained_models_it_says_what_it_can_and_names_what_it_cannot(store):
    data, test = problem()
    fit = trainer(data)
    original = fit(np.arange(N), 1)
    parts = {"forget": (data[0][FORGET], data[1][FORGET]), "retain": (data[0][RETAIN], data[1][RETAIN])}
    found = erasure.audit(original=original, unlearned=fit(RETAIN, 2), **parts, test=test)
    assert found.finding() == "undecided"
    assert found.tested is None
    assert any("accuracy before and after: forget 100.0 →" in sentence for sentence in found.statements)
    assert any("Without a retrained model" in sentence for sentence in found.cannot)
    same = erasure.audit(original=original, unlearned=original, **parts)
    assert same.finding() == "no-op"
    assert "unlearned changed no weight: it is the original." in same.statements
    assert any("Without test data" in sentence for sentence in same.cannot)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"forget": [N, 3]}, DataError, r"1 of the positions are not in the data \(0 to 79\), the first is 80"),
        ({"forget": np.arange(N)}, DataError, "all 80 samples are to be forgotten"),
        ({"forget": np.zeros(N, dtype=bool)}, DataError, "there is nothing to forget"),
        ({"forget": np.zeros(5, dtype=bool)}, DataError, "a mask of 5 samples, and the data has 80"),
        ({"forget": [0.5]}, DataError, "must be positions of samples"),
        ({"forget": [1], "retain": [1, 2]}, DataError, "1 samples are in forget and in retain"),
        ({"train": 3}, RequirementNotMet, "expected a function fit"),
        ({"train": lambda indices, seed: None}, RequirementNotMet, "fit gave a NoneType"),
        ({"train": lambda indices, seed: nn.Linear(12, 2)}, RequirementNotMet, "another architecture than the original"),
        ({"data": None}, RequirementNotMet, "give it as data="),
        ({"unlearned": [network()]}, DataError, "1 unlearned models for 5 originals"),
        ({"measures": ["Acuracy"]}, UnknownComponent, "Accuracy"),
        ({"measures": ["Accuracy"], "test": None}, RequirementNotMet, 'the partition "test", which was not given'),
    ],
)
def test_a_mistake_gets_one_sentence(store, changes, error, message):
    data, _ = problem()
    if "data" in changes:
        changes = {**changes, "forget": (data[0][:5], data[1][:5]), "retain": (data[0][5:], data[1][5:])}
    with pytest.raises(error, match=message):
        audit(**({"unlearned": [network() for _ in range(5)], "n_golds": 1} | changes))


def test_a_training_that_sets_its_own_seed_is_refused_at_its_second_model(store):
    data, _ = problem()
    fit, n_trained = trainer(data), []

    def stubborn(indices, seed):
        n_trained.append(seed)
        return fit(indices, 0)

    with pytest.raises(RequirementNotMet, match="it sets a seed of its own"):
        audit(unlearned=[network() for _ in range(5)], train=stubborn)
    assert len(n_trained) == 2


def test_golds_that_are_one_model_twice_are_refused(store):
    golds = [trainer(problem()[0])(RETAIN, seed) for seed in (1, 2, 3, 4, 1)]
    with pytest.raises(DataError, match=r"golds\[0\] and golds\[4\] have the same weights"):
        audit(unlearned=[network() for _ in range(5)], golds=golds, train=None)


def test_a_changed_function_is_another_function():
    def make(rate, factor=1):
        def fit(indices, seed):
            return rate * factor

        return fit

    def other(indices, seed):
        return torch.zeros(3)

    assert callable_digest(make(1)) == callable_digest(make(1))
    digests = {callable_digest(each) for each in (make(1), make(2), make(1, 2), other)}
    assert len(digests) == 4


def test_attacks_that_unlearn_shadow_models_are_told_how(store):
    (x, y), (x_test, y_test) = problem()
    joined = torch.cat([x, x_test]), torch.cat([y, y_test])
    fit = trainer(joined, steps=20)
    forgot = []

    def unlearn(model, forget, retain, seed):
        forgot.append(set(forget.tolist()))
        assert not forgot[-1] & set(retain.tolist())
        return fit(retain, seed)

    shadows = {"n_shadows": 4, "retain": "retain"}
    given = {"original": fit(np.arange(N), 1), "unlearned": fit(RETAIN, 2), "train": fit, "n_golds": 1}
    attacks = [ULiRA(**shadows), ForgettingQuality(n_models=3)]
    found = audit(**given, measures=attacks, unlearn=unlearn)
    assert any("U-LiRA" in row.measure for row in found if row.model_role == "unlearned" and row.status == "ok")
    assert found.failures == {}
    assert len(forgot) == 4 + 3  # shadows, and the subject made again
    assert sum(len(each) for each in forgot[:4]) == 2 * (len(FORGET) + len(x_test))
    alone = audit(**given, measures=[ULiRA(**shadows)])
    assert any("give unlearn=" in reason for reason in alone.failures.values())
    with_less = audit(**given | {"train": trainer((x, y), steps=20)}, measures=[ULiRA(**shadows)], unlearn=unlearn)
    assert any("trains on samples of test as well" in reason for reason in with_less.failures.values())
