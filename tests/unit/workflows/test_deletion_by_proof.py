"""Deletion requests whose evidence is the method's guarantee: shards of one's own training, exact and certified models."""

import html
import json

import numpy as np
import pytest
import torch
from own_models import Calls, N, network, problem, trainer

import erasure
from erasure.certificates.verifying import opened, verify
from erasure.errors import DataError, RequirementNotMet
from erasure.models.linear import LogisticRegression, Ridge
from erasure.training.batches import Batch
from erasure.training.predictor import ModelInput
from erasure.workflows import deletion_request
from erasure.workflows.deletion_cost import now

PEOPLE = [f"user{k // 8}" for k in range(N)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ERASURE_STORE", str(tmp_path / "store"))
    return tmp_path


def own_shards(calls=None):
    data, _ = problem()
    return erasure.sharded(trainer(data, steps=15, calls=calls), network, PEOPLE, shards=4)


def request(place, model, **changes):
    data, test = problem()
    given = {"model": model, "forget": range(8), "data": data, "test": test, "folder": place / "requests", "batch_size": 16}
    return erasure.forget(**{**given, **changes})


def fitted(kind):
    (x, y), _ = problem()
    model = kind.build(ModelInput((12,), 2, "classification", "table", ()))
    model.fit(Batch(x, y, torch.arange(N)), 3)
    return model.eval()


def same(a, b):
    return all(torch.equal(one, other) for one, other in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_shards_that_saw_the_samples_are_trained_again_and_the_result_is_retraining_bit_for_bit(place):
    calls = Calls()
    fit = own_shards(calls)
    model = fit(np.arange(N), 5)
    first = request(place, model, train=fit, who=["user0"])
    assert (first.entry.method, first.entry.verdict, first.entry.guarantee) == ("SISA", "exact", "exact")
    assert same(first.model, own_shards()(np.arange(8, N), 5))
    second = request(place, first.model, train=fit, forget=range(20, 30), who=["some of user2", "some of user3"])
    assert same(second.model, own_shards()(np.setdiff1d(np.arange(8, N), np.arange(20, 30)), 5))
    assert 0 < second.entry.retraining_s < 60
    planned = request(place, second.model, train=fit, forget=[40], dry_run=True)
    assert "its guarantee (exact) is the evidence" in str(planned)
    assert planned.unlearning_s < planned.retraining_s  # of one shard
    checked = verify(first.certificate, model=first.folder / "model" / "model.safetensors", evidence=first.folder / "evidence")
    assert checked.passed
    assert checked.statement.n_golds == 0
    assert any("learns from the samples that it is given" in each for each in checked.statement.guarantee.assumptions)
    assert "Provably" in checked.statement.verdict_sentence
    assert "trained again from the beginning" not in (first.folder / "answer.html").read_text()


def test_shards_of_another_training_are_refused(place):
    model = own_shards()(np.arange(N), 5)
    data, _ = problem()
    other = erasure.sharded(trainer(data, steps=15), network, [*PEOPLE[8:], *PEOPLE[:8]], shards=4)
    with pytest.raises(RequirementNotMet, match="trained with other groups"):
        request(place, model, train=other, methods=["SISA"], fallback=False)
    with pytest.raises(DataError, match="10 groups cannot be in 11 shards"):
        erasure.sharded(trainer(data), network, PEOPLE, shards=11)


@pytest.mark.parametrize(
    ("kind", "method", "guarantee"),
    [(Ridge(), "ExactDeletion", "exact"), (LogisticRegression(l2=1.0, perturbation=50.0), "NewtonRemoval", "certified")],
)
def test_a_model_that_forgets_by_proof_needs_no_retraining(place, kind, method, guarantee):
    answer = request(place, fitted(kind), check_data=False, max_utility_loss=1.0)
    assert (answer.entry.method, answer.entry.verdict, answer.entry.guarantee) == (method, guarantee, guarantee)
    statement, _ = opened(answer.certificate.read_bytes())
    assert statement.guarantee.kind == guarantee
    assert statement.guarantee.assumptions
    page = html.unescape((answer.folder / "answer.html").read_text())
    assert statement.guarantee.assumptions[0] in page
    if guarantee == "certified":
        assert 0 < statement.guarantee.eps <= 1
        assert statement.guarantee.delta == 1e-5


def test_a_guarantee_that_is_too_weak_is_no_evidence(place):
    with pytest.raises(RequirementNotMet, match=r"NewtonRemoval: it promises nothing by proof|nothing may be retrained"):
        request(place, fitted(LogisticRegression(l2=1.0, perturbation=50.0)), check_data=False, max_eps=1e-9)


def test_the_cost_and_the_time_of_receipt_count_attempts_that_were_interrupted(place, monkeypatch):
    monkeypatch.setattr(deletion_request, "save_model", lambda *_: 1 / 0)
    model = fitted(Ridge())
    with pytest.raises(ZeroDivisionError):
        request(place, model)
    (spent,) = (place / "requests").glob(".making-*/private/spent.json")
    assert json.loads(spent.read_text())["received"] <= now()
    spent.write_text(json.dumps({"seconds": 1000.0, "received": "2020-01-02T03:04:05Z"}))
    monkeypatch.undo()
    monkeypatch.setenv("ERASURE_STORE", str(place / "store"))
    answer = request(place, model)
    assert 1000 < answer.entry.cost_s < 1100
    assert answer.entry.received == "2020-01-02T03:04:05Z"
    assert not (answer.folder / "private").exists()


def test_where_a_guarantee_is_the_evidence_nothing_is_prepared(place):
    calls = Calls()
    fit = own_shards(calls)
    model = fit(np.arange(N), 1)
    n = len(calls)
    plan = request(place, model, train=fit, prepare=True)
    assert plan.note.startswith("Nothing has to be prepared")
    assert str(plan).endswith(plan.note)
    assert len(calls) - n <= 3  # what a retraining takes is timed on a part, for the price
