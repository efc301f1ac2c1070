"""A deletion request from the plan to the certificate."""

import dataclasses
import json
import os
import re
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from own_models import Calls, N, problem, trainer
from torch import nn

import erasure
from erasure.certificates.signing import sign, signer
from erasure.certificates.verifying import opened, verify, verify_ledger
from erasure.engine.given_models import MeasuredModels
from erasure.errors import DataError, InvalidParameters, RequirementNotMet, StoreError
from erasure.events import ignore_events
from erasure.records.requests import Ledger
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.gold_model import GoldModel
from erasure.workflows.deletion_folder import DeletionFolder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ERASURE_STORE", str(tmp_path / "store"))
    return tmp_path


def request(place, **changes):
    data, test = problem()
    fit = changes.get("train") or trainer(data, steps=30)
    given = {
        "model": changes.pop("model", None) or trainer(data, steps=30)(np.arange(N), 1),
        "forget": range(12),
        "data": data,
        "test": test,
        "train": fit,
        "methods": (),
        "folder": place / "requests",
        "n_originals": 3,
        "n_golds": 2,
        "batch_size": 16,
    } | changes
    return erasure.forget(**given)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A request that is answered by retraining; tests read it, or change a copy."""
    place = tmp_path_factory.mktemp("answered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ERASURE_STORE", str(place / "store"))
        return request(place, who=["anna@example.org", 4711])


@pytest.fixture
def copied(answered, place):
    """A copy of the folder in which that request was answered."""
    return shutil.copytree(answered.folder.parent, place / "requests")


def test_retraining_answers_and_everything_verifies(place):
    calls = Calls()
    answer = request(place, train=trainer(problem()[0], steps=30, calls=calls))
    folder = answer.folder
    assert [n for n, _ in calls.made] == [N - 12]  # its making is the evidence, and nothing else is trained
    assert answer.entry.method == "Retraining"
    assert answer.entry.verdict == "retrained"
    assert answer.entry.guarantee == "exact"
    checked = verify(
        answer.certificate,
        key=place / "requests" / "private" / "signing-key.pub",
        model=folder / "model",
        evidence=folder / "evidence",
        ledger=place / "requests" / "ledger.jsonl",
    )
    assert checked.passed, checked.checks
    assert checked.statement.n_forgotten == 12
    assert (checked.statement.n_golds, checked.statement.findings) == (0, ())
    assert "trained again from the beginning" in (folder / "answer.html").read_text()
    assert (folder / "evidence" / "report.html").exists()
    with torch.no_grad():
        assert answer.model(problem()[1][0]).shape == (60, 2)


@pytest.mark.parametrize("part", ["model/model.safetensors", "evidence/rows.parquet", "certificate.json"])
def test_a_flipped_bit_is_found(answered, copied, part):
    folder = copied / answered.folder.name
    file = folder / part
    content = bytearray(file.read_bytes())
    place_of_bit = content.index(b'"payload"') + 40 if part.endswith("json") else len(content) // 2
    content[place_of_bit] ^= 1
    file.write_bytes(content)
    checked = verify(
        folder / "certificate.json",
        model=folder / "model" / "model.safetensors",
        evidence=folder / "evidence",
        ledger=copied / "ledger.jsonl",
    )
    assert not checked.passed


def test_a_claim_that_the_rows_do_not_hold_is_found(place):
    answer = request(place, methods=["Finetuning"])  # which does not convince, and has retrained models measured
    statement, _ = opened(answer.certificate.read_bytes())
    claim = dataclasses.replace(statement.findings[0], unlearned=statement.findings[0].unlearned + 0.1)
    other = dataclasses.replace(statement, findings=(claim, *statement.findings[1:]))
    lie = place / "lie.json"
    lie.write_bytes(sign(other, signer(place / "requests" / "private" / "signing-key")))
    (check,) = [each for each in verify(lie, evidence=answer.folder / "evidence").checks if each.name == "evidence"]
    assert not check.passed
    assert f"{claim.measure} on {claim.partition} is" in check.sentence


def test_a_training_that_cannot_be_pickled_and_a_model_elsewhere_are_no_matter(place, monkeypatch):
    data, _ = problem()
    fit = trainer(data, steps=30)
    answer = request(place, train=lambda indices, seed: fit(indices, seed), device="cpu")
    assert answer.entry.number == 1
    with pytest.raises(RequirementNotMet, match="cuda"):
        request(place / "other", device="cuda:7")
    with pytest.raises(RequirementNotMet, match='on the device "meta"'):
        request(place / "other", model=fit(np.arange(N), 1).to("meta"))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([{"name": "SSD"}], '"name" is not read there'),
        ([{"class": "Finetuning", "epochs": 1}], '"epochs" is not read there'),
        (["SSD", {"parameters": {}}], r"methods\[1\]: expected the method's name as \"class\""),
        ([{"class": {"class": "SSD"}}], "expected the method's name"),
        ([{"class": "SSD", "parameters": [1]}], 'expected "parameters" by name'),
        ([{"class": "SSD", "label": "original"}], "choose another label"),
        ({"class": "SSD", "label": "Retraining"}, "choose another label"),
        ([{"class": "Cascade", "parameters": {"steps": ["SDD"]}}], 'did you mean "SSD"'),
        (None, "to retrain at once"),
    ],
)
def test_a_method_that_cannot_be_read_is_named(place, methods, message):
    with pytest.raises(InvalidParameters, match=message):
        request(place, methods=methods, train=None)


def test_steps_of_a_method_may_be_described_like_methods(place):
    steps = [{"class": "Finetuning", "parameters": {"epochs": 1}}, "SSD"]
    plan = request(place, methods={"class": "Cascade", "parameters": {"steps": steps}}, train=None, dry_run=True)
    (method,) = plan.candidates
    assert [type(each).__name__ for each in method.unlearner.steps] == ["Finetuning", "SelectiveSynapticDampening"]
    assert "nothing to judge it beside" in method.refusal


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permission bits do not bind root")
@pytest.mark.parametrize("part", ["", "private"])
def test_a_folder_without_permission_is_named(place, part):
    (place / "requests" / "private").mkdir(parents=True)
    (place / "requests" / part).chmod(0o500)
    with pytest.raises(StoreError, match=f"the folder .*{part or 'requests'} cannot be read and written"):
        request(place, train=None)
    (place / "requests" / part).chmod(0o700)


def test_a_key_that_a_password_protects_cannot_sign(place):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    secret = BestAvailableEncryption(b"secret")
    (place / "key").write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    with pytest.raises(DataError, match="protected by a password"):
        request(place, key=place / "key", train=None)


def test_asked_twice_it_does_nothing_twice(place):
    calls = Calls()
    data, _ = problem()
    fit = trainer(data, steps=30, calls=calls)
    model = trainer(data, steps=30)(np.arange(N), 1)
    first = request(place, train=fit, model=model)
    n = len(calls)
    again = request(place, train=fit, model=model)
    of_the_new = request(place, train=fit, model=first.model)
    assert len(calls) == n
    assert again.entry == of_the_new.entry == first.entry
    assert len(Ledger(place / "requests" / "ledger.jsonl")) == 1
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), first.model.parameters(), strict=True))
    planned = request(place, train=fit, model=model, dry_run=True)
    assert planned.already == 1
    assert "request 1 has answered" in str(planned)


def test_requests_follow_one_another_and_removed_samples_stay_removed(place):
    calls = Calls()
    data, _ = problem()
    fit = trainer(data, steps=30, calls=calls)
    first = request(place, train=fit)
    seen = {n for n, _ in calls.made}
    assert N - 12 in seen
    second = request(place, train=fit, model=first.model, forget=range(10, 20))
    assert second.entry.n_forgotten == 8
    assert second.entry.original == first.entry.unlearned
    assert min(n for n, _ in calls.made if n > 20) == N - 20
    ledger = Ledger(place / "requests" / "ledger.jsonl")
    assert [entry.number for entry in ledger.lineage(second.entry.unlearned)] == [1, 2]
    with pytest.raises(DataError, match="removed all of these samples already"):
        request(place, train=fit, model=second.model, forget=[3, 15])


def test_a_model_that_another_one_has_replaced_is_refused(place):
    original = trainer(problem()[0], steps=30)(np.arange(N), 1)
    first = request(place, model=original)
    with pytest.raises(DataError, match=r"request 1 has made another model from this one, .* start from .*0001.model"):
        request(place, model=original, forget=range(20, 24))
    assert request(place, model=original).entry == first.entry


def test_who_comes_second_waits_for_the_first(place):
    original = trainer(problem()[0], steps=30)(np.arange(N), 1)
    said, answers = [], []
    folder = DeletionFolder(place / "requests")
    with folder.answering(ignore_events):
        second = threading.Thread(target=lambda: answers.append(request(place, model=original, listener=said.append)))
        second.start()
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not answers
    second.join()
    assert "is being answered; waiting" in said[0].text
    assert answers[0].entry.number == 1


def test_records_that_are_gone_or_cut_are_missed_before_anything_is_trained(place, answered, copied):
    ledger, private = (copied / "ledger.jsonl", copied / "private")
    for file, content, message in (
        (private / "salt", None, "salt is gone: without it nobody can tell who was forgotten"),
        (private / "removed.json", None, "lacks the samples of earlier requests"),
        (private / "removed.json", b"{", "removed.json is damaged"),
        (private / "signing-key", None, "there is no key at .*signing-key, though earlier requests were signed"),
        (ledger, ledger.read_bytes()[:-5], "lists 0 requests, and there is the answer 0001: its end was cut off"),
        (ledger, None, "lists 0 requests"),
    ):
        whole = file.read_bytes()
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(DataError, match=message):
            request(place, model=answered.model, forget=range(20, 24), train=None)
        file.unlink(missing_ok=True)
        file.write_bytes(whole)


def test_a_ledger_is_held_against_the_certificates_beside_it(answered, copied):
    ledger = copied / "ledger.jsonl"
    assert [check.name for check in verify_ledger(ledger) if check.passed] == ["chain", "certificates"]
    whole = ledger.read_bytes()
    ledger.write_bytes(whole.replace(b'"n_forgotten":12', b'"n_forgotten":11'))  # the last line is bound by no other
    (check,) = [each for each in verify_ledger(ledger) if not each.passed]
    assert check.sentence == "Request 1: n_forgotten is 11 there, and 12 in the certificate."
    assert not verify(answered.certificate, ledger=ledger).passed
    ledger.write_bytes(b"")
    assert [check.name for check in verify_ledger(ledger) if not check.passed] == ["end"]


def test_the_records_hold_no_personal_data(answered):
    folder = answered.folder.parent
    text = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and "private" not in path.parts)
    assert b"anna" not in text
    assert b"4711" not in (folder / "ledger.jsonl").read_bytes()
    assert re.fullmatch("[0-9a-f]{64}", answered.entry.request)
    removed = json.loads((folder / "private" / "removed.json").read_bytes())
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in removed["samples"])
    assert (folder / "private" / "signing-key").stat().st_mode & 0o077 == 0


def test_a_method_that_does_not_convince_is_refused(place):
    refused = request(place, methods=["Finetuning"], fallback=False)
    assert refused.certificate is None
    assert refused.entry.refusal
    assert not (refused.folder / "certificate.json").exists()
    assert "no certificate was issued" in (refused.folder / "answer.html").read_text()
    retrained = request(place / "other", methods=["Finetuning"], model=None)
    assert retrained.entry.method == "Retraining"
    assert any(row.label == "Finetuning" for row in retrained.audit.rows)


class WithoutPromise(GoldModel):
    """A method that retrains and does not say so: measurements have to find it."""

    exact = False


@pytest.mark.slow
def test_a_method_that_convinces_on_seeds_that_did_not_choose_it_is_kept_and_certified(place):
    data, test = problem(3, n_test=1000)
    fit = trainer(data, steps=60)
    answer = request(
        place,
        model=fit(np.arange(N), 2),
        data=data,
        test=test,
        train=fit,
        forget=range(16),
        methods=[WithoutPromise()],
        n_originals=9,
        n_golds=2,
        max_utility_loss=0.1,
        seed=2,
    )
    assert (answer.entry.method, answer.entry.verdict) == ("WithoutPromise", "indistinguishable")
    assert {row.seed_train for row in answer.audit.rows} == set(range(9))  # the tenth original served to choose
    checked = verify(answer.certificate, model=answer.folder / "model" / "model.safetensors", evidence=answer.folder / "evidence")
    assert checked.passed
    assert checked.statement.n_golds == 18
    assert "no difference was found" in checked.statement.verdict_sentence


def test_what_is_prepared_is_not_made_when_somebody_asks(place, monkeypatch):
    calls = Calls()
    fit = trainer(problem()[0], steps=5, calls=calls)
    asked = {
        "train": fit,
        "model": trainer(problem()[0], steps=30)(np.arange(N), 1),
        "methods": ["Finetuning"],
        "fallback": False,
    }
    plan = request(place, **asked, n_golds=1, prepare=True)
    assert [each.n - each.n_cached for each in plan.models] == [0, 0, 0]
    assert not (place / "requests" / "ledger.jsonl").exists()
    n = len(calls)
    assert n >= 4 + 3 + 8
    assert (plan.chosen.label, plan.n_applied, plan.n_confirmed, list(plan.untried)) == ("Finetuning", 2, 3, [])
    assert plan.unlearning_s == plan.chosen.seconds > 0
    assert "2 of 3 models to confirm it on are there" in str(plan)
    applied, apply = [], Finetuning.unlearn
    measured, measure = [], MeasuredModels._measured
    monkeypatch.setattr(MeasuredModels, "_measured", lambda *arguments: measured.append(1) or measure(*arguments))
    monkeypatch.setattr(Finetuning, "unlearn", lambda *arguments: applied.append(1) or apply(*arguments))
    assert request(place, **asked, n_golds=1).entry.method == "Finetuning"
    assert len(calls) == n
    assert len(applied) == 1  # to the model in use alone
    assert len(measured) == 3 + 1  # what was unlearned, in three blocks and the one that chose
    with pytest.raises(RequirementNotMet, match="give train="):
        request(place / "other", train=None, prepare=True)


def test_the_next_best_method_is_tried_where_the_best_is_refused(place):
    answer = request(place, methods=["Finetuning", "SuccessiveRandomLabels"], n_golds=1, n_attempts=2, max_utility_loss=1.0)
    labels = {row.label for row in answer.audit.rows if row.model_role == "unlearned"}
    assert labels == {"Retraining", "Finetuning", "SuccessiveRandomLabels"}
    assert answer.entry.verdict == "retrained"
    # The evidence is what they were refused on: all three originals, and not the model in use alone.
    originals = {row.seed_train for row in answer.audit.rows if row.label == "Finetuning"}
    assert len(originals) == 3
    assert {row.seed_train for row in answer.audit.rows if row.label == "Retraining"} < originals
    refused = request(place / "other", methods=["Finetuning", "SuccessiveRandomLabels"], n_golds=1, n_attempts=2, fallback=False)
    assert "Finetuning" in refused.entry.refusal
    assert "SuccessiveRandomLabels" in refused.entry.refusal


def test_a_method_that_learns_from_a_retrained_model_gets_one_that_judges_nothing_and_costs_nothing(place):
    calls = Calls()
    fit = trainer(problem()[0], steps=5, calls=calls)
    learning = {"class": "DMM", "parameters": {"targets": "gold", "epochs": 1}}
    asked = {
        "train": fit,
        "model": trainer(problem()[0], steps=30)(np.arange(N), 1),
        "methods": [learning],
        "fallback": False,
        "max_utility_loss": 1.0,
    }
    plan = request(place, **asked, dry_run=True)
    n = len(calls)
    assert n == 3  # what times a training
    answer = request(place, **asked)
    assert answer.entry.method == "DMM"
    assert len(calls) - n == sum(each.n for each in plan.models)
    assert answer.entry.cost_s > 0


def test_a_method_that_retrains_gets_no_model_that_is_there_already(place):
    calls = Calls()
    fit = trainer(problem()[0], steps=5, calls=calls)
    asked = {"train": fit, "model": trainer(problem()[0], steps=30)(np.arange(N), 1), "methods": [WithoutPromise()], "n_golds": 1}
    plan = request(place, **asked, prepare=True, max_utility_loss=1.0)
    golds, _, rulers = plan.models
    retrained = {seed for n, seed in calls.made if n == N - 12}
    assert plan.n_applied == 2
    assert len(retrained) >= golds.n + rulers.n // 2 + 3  # one to choose, and one for each that it is confirmed on


def test_a_retrained_answer_is_prepared_where_no_method_is_to_be_tried(place):
    calls = Calls()
    asked = {"train": trainer(problem()[0], steps=5, calls=calls), "model": trainer(problem()[0], steps=30)(np.arange(N), 1)}
    request(place, **asked, prepare=True)
    n = len(calls)
    assert request(place, **asked).entry.verdict == "retrained"
    assert len(calls) == n


def test_a_dry_run_tells_the_plan_and_its_price_and_answers_nothing(place):
    plan = request(place, methods=["Finetuning", "SSD"], dry_run=True, price_per_hour=3600.0, n_attempts=2)
    assert [each.n - each.n_cached for each in plan.models] == [8, 3, 8]
    assert {each.label for each in plan.candidates} == {"Finetuning", "SSD"}
    assert plan.total_s > plan.training_s > 0
    assert "in money" in str(plan)
    assert "Where the best is refused, up to 1 more" in str(plan)
    steps = plan.steps
    assert min(steps.planning_s, steps.pass_s, steps.judging_s, steps.report_s, steps.answer_s) > 0  # each was timed
    evidence_s = steps.planning_s + plan.measuring_s + steps.report_s + steps.answer_s
    assert plan.total_s == pytest.approx(plan.training_s + plan.unlearning_s + evidence_s)
    assert not [*(place / "requests").glob("[0-9]*"), *(place / "requests").glob(".making*")]  # a rehearsal leaves nothing behind
    assert not (place / "requests" / "ledger.jsonl").exists()
    tight = request(place, methods=["Finetuning", "SSD"], dry_run=True, max_seconds=0.0)
    assert not tight.tried
    assert (tight.models, tight.training_s) == ((), 0.0)
    assert "retrain without the samples, which has to be compared with nothing" in str(tight)
    assert tight.retraining_s < tight.total_s < plan.total_s
    assert "it does not fit into 0 s" in str(tight)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"forget": [N]}, DataError, "1 of the positions are not in the data"),
        ({"forget": range(N)}, DataError, "all 80 samples are to be forgotten"),
        ({"forget": []}, DataError, "nothing to forget"),
        ({"forget": ["anna"]}, DataError, "must be positions of samples in data, .*found 'anna'"),
        ({"data": None}, DataError, "give what the model was trained on as data="),
        ({"train": 5}, RequirementNotMet, "train is a int, expected a function fit"),
        ({"train": lambda indices: None}, RequirementNotMet, r"fit\(indices, seed\) failed on .* samples: TypeError"),
        ({"test": None, "fallback": False, "methods": ["Finetuning"]}, None, "without test data"),
        ({"train": None}, RequirementNotMet, "no method is to be tried, and nothing may be retrained: give train="),
        ({"n_originals": 2}, InvalidParameters, "n_originals: expected a whole number from 3, found 2"),
        ({"n_golds": 0, "dry_run": True}, InvalidParameters, "n_golds: expected a whole number from 1, found 0"),
        ({"max_seconds": -1.0, "dry_run": True}, InvalidParameters, "max_seconds: expected a number from 0, found -1.0"),
        ({"max_money": -1, "price_per_hour": 2.0, "dry_run": True}, InvalidParameters, "max_money: expected a number from 0"),
        ({"max_money": 5.0, "dry_run": True}, InvalidParameters, "max_money: says nothing without price_per_hour"),
        ({"price_per_hour": float("nan")}, InvalidParameters, "price_per_hour: expected a number from 0, found nan"),
        ({"max_utility_loss": 2}, InvalidParameters, "max_utility_loss: expected a number from 0 to 1, found 2"),
        ({"key": "public"}, DataError, "is no private key"),
        ({"model": nn.Linear(12, 2)}, DataError, "seems not to be trained on this data"),
        ({"model": nn.Linear(7, 2)}, DataError, "does not take these samples"),
    ],
)
def test_a_mistake_gets_one_sentence(place, changes, error, message):
    if "key" in changes:
        (place / "public").write_text("-----BEGIN PUBLIC KEY-----")
        changes = {"key": place / "public"}
    if isinstance(changes.get("model"), nn.Linear):
        torch.manual_seed(0)
        nn.init.zeros_(changes["model"].weight)
    if error is None:
        assert message in request(place, **changes).entry.refusal
        return
    with pytest.raises(error, match=message):
        request(place, **changes)
    assert not (place / "requests" / "ledger.jsonl").exists()


def test_samples_that_the_model_never_saw_are_noticed(place):
    data, _ = problem()
    x, y = data[0].clone(), data[1].clone()
    fit = trainer(data, steps=200)
    model = fit(np.arange(20, N), 1)
    y[:20] = 1 - model(x[:20]).argmax(1)
    test = (problem()[1][0], model(problem()[1][0]).argmax(1))
    with pytest.raises(DataError, match="never to have seen the samples to forget"):
        request(place, model=model, data=(x, y), test=test, forget=range(20))
    assert request(place, model=model, data=(x, y), test=test, forget=range(20), check_data=False).entry.number == 1
