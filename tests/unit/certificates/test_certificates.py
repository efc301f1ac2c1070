"""Certificates: what is signed verifies, and every change is found and named."""

import base64
import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.certificates.digests import file_digest, model_digest, new_salt, person_digest
from erasure.certificates.signing import PAYLOAD_TYPE, new_key, public_key, sign, signer
from erasure.certificates.statement import PREDICATE_TYPE, STATEMENT_TYPE, CertifiedValue, Guarantee, Statement
from erasure.certificates.verifying import verify, verify_ledger
from erasure.errors import DataError, StoreError
from erasure.records.requests import Ledger


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder / "company")
    new_key(folder / "stranger")
    return folder


@pytest.fixture(scope="module")
def issued(tmp_path_factory, keys):
    """A folder with two models, rows, a certificate and a ledger."""
    folder = tmp_path_factory.mktemp("issued")
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"before")
    (folder / "unlearned.safetensors").write_bytes(b"after")
    (folder / "rows.parquet").write_bytes(b"rows")
    statement = Statement(
        original=model_digest(folder / "original"),
        unlearned=model_digest(folder / "unlearned.safetensors"),
        request=person_digest([3, 5], new_salt()),
        n_forgotten=2,
        method="SSD",
        method_version="1",
        parameters={"dampening_constant": 1.0},
        verdict="indistinguishable",
        verdict_sentence="At most 12 % of what the original knew is left.",
        findings=(CertifiedValue(measure="accuracy", partition="forget", unlearned=0.95, gold=0.94, gold_sd=0.01, p=0.4),),
        n_golds=20,
        guarantee=Guarantee(),
        rows=file_digest(folder / "rows.parquet"),
        versions={"erasure": "0.1.0"},
        finished="2026-01-02T03:04:05Z",
    )
    (folder / "certificate.json").write_bytes(sign(statement, signer(keys / "company")))
    Ledger(folder / "ledger.jsonl").append(
        request=statement.request,
        received="2026-01-02T03:04:05Z",
        finished=statement.finished,
        n_forgotten=2,
        original=statement.original,
        unlearned=statement.unlearned,
        method="SSD",
        verdict=statement.verdict,
        certificate=file_digest(folder / "certificate.json"),
    )
    return folder


def all_checks(folder, keys, certificate=None, **changes):
    given = {
        "key": keys / "company.pub",
        "model": folder / "unlearned.safetensors",
        "original": folder / "original",
        "evidence": folder,
        "ledger": folder / "ledger.jsonl",
    }
    return verify(certificate or folder / "certificate.json", **given | changes)


def failed(found):
    return [check.name for check in found.checks if not check.passed]


def test_an_untouched_certificate_passes_every_check(issued, keys):
    found = all_checks(issued, keys)
    assert found.passed, found.checks
    assert [check.name for check in found.checks] == [
        "signature", "signer", "unlearned model", "original model", "evidence", "ledger",
    ]  # fmt: skip
    assert any("no guarantee" in sentence for sentence in found.limits)


def test_the_folder_of_an_answered_request_stands_for_what_is_in_it(issued, keys, tmp_path):
    folder = tmp_path / "0001"
    shutil.copytree(issued / "original", folder / "model")  # of the request before, say
    (folder / "evidence").mkdir()
    for name, place in (("rows.parquet", folder / "evidence"), ("certificate.json", folder)):
        shutil.copy(issued / name, place / name)
    found = all_checks(issued, keys, certificate=folder, original=folder, evidence=folder, ledger=issued)
    assert found.passed, found.checks
    assert failed(all_checks(issued, keys, certificate=folder, model=folder)) == ["unlearned model"]
    with pytest.raises(DataError, match=r"there is no certificate\.json in"):
        verify(tmp_path)
    with pytest.raises(DataError, match="is a folder; name the public key in it"):
        verify(folder, key=folder)
    with pytest.raises(DataError, match="is no private key but a public one, which verifies"):
        signer(keys / "company.pub")


def test_a_statement_survives_its_bytes(issued):
    from erasure.certificates.verifying import opened

    statement, _ = opened((issued / "certificate.json").read_bytes())
    assert Statement.from_bytes(statement.to_bytes()) == statement


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"key": "stranger.pub"}, "signer"),
        ({"model": "original"}, "unlearned model"),
        ({"original": "unlearned.safetensors"}, "original model"),
        ({"evidence": "unlearned.safetensors"}, "evidence"),
    ],
)
def test_what_belongs_to_something_else_is_named(issued, keys, changes, name):
    folder = keys if name == "signer" else issued
    found = all_checks(issued, keys, **{key: folder / value for key, value in changes.items()})
    assert failed(found) == [name]
    assert not found.passed


def test_the_models_swapped_are_told_apart(issued, keys):
    (check,) = [c for c in all_checks(issued, keys, model=issued / "original").checks if c.name == "unlearned model"]
    assert "it is the original model" in check.sentence


def test_a_changed_payload_is_named_as_changed_after_signing(issued, tmp_path):
    record = json.loads((issued / "certificate.json").read_bytes())
    payload = bytearray(base64.b64decode(record["payload"]))
    for place in (payload.index(b"Statement"), 0):  # what is read first is not to be blamed
        payload[place] ^= 1
        changed = tmp_path / f"{place}.json"
        changed.write_text(json.dumps({**record, "payload": base64.b64encode(payload).decode()}))
        (check,) = verify(changed).checks
        assert (check.name, check.passed) == ("signature", False)
        assert "changed after it was signed" in check.sentence


@pytest.mark.parametrize("field", ["guarantee", "findings", "n_forgotten"])
def test_a_signed_statement_that_makes_no_sense_is_refused(keys, tmp_path, field):
    from securesystemslib.dsse import Envelope

    holder = signer(keys / "company")
    nonsense = tmp_path / "nonsense.json"
    record = {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": [{"name": name, "digest": {"sha256": "0" * 64}} for name in ("original", "unlearned")],
        "predicate": {field: None},
    }
    envelope = Envelope(json.dumps(record).encode(), PAYLOAD_TYPE, {})
    envelope.sign(holder)
    shown = holder.public_key
    nonsense.write_text(json.dumps({**envelope.to_dict(), "publicKey": {"keyid": shown.keyid, **shown.to_dict()}}))
    assert failed(verify(nonsense)) == ["statement"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_of_a_certificate_is_found(tmp_path_factory, issued, keys, data):
    whole = bytearray((issued / "certificate.json").read_bytes())
    where = data.draw(st.integers(0, len(whole) - 1))
    whole[where] ^= 1 << data.draw(st.integers(0, 7))
    changed = tmp_path_factory.mktemp("changed") / "certificate.json"
    changed.write_bytes(bytes(whole))
    # Blanks of the file are not signed, so the ledger's digest finds what the signature does not see.
    assert not all_checks(issued, keys, certificate=changed).passed


def test_a_payload_signed_by_a_stranger_who_puts_in_their_key_fails_for_the_expected_signer(issued, keys, tmp_path):
    from erasure.certificates.verifying import opened

    statement, _ = opened((issued / "certificate.json").read_bytes())
    forged = tmp_path / "forged.json"
    forged.write_bytes(sign(statement, signer(keys / "stranger")))
    assert failed(verify(forged, key=keys / "company.pub")) == ["signer"]
    assert verify(forged).passed, "without an expected key the signature is whole by itself"
    assert "Who signed is not shown" in verify(forged).limits[0]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"payload": 1}', "no json", '{"payload": "", "payloadType": "x", "signatures": []}']
)
def test_files_of_other_kinds_are_no_certificates(tmp_path, text):
    file = tmp_path / "certificate.json"
    file.write_text(text)
    found = verify(file)
    assert not found.passed
    assert found.statement is None


def test_keys_are_private_and_never_overwritten(keys):
    assert (keys / "company").stat().st_mode & 0o077 == 0
    with pytest.raises(StoreError, match="never overwritten"):
        new_key(keys / "company")
    with pytest.raises(DataError, match="private key"):
        public_key(keys / "company")
    with pytest.raises(DataError, match="no private key"):
        signer(keys / "company.pub")


def test_salted_digests_do_not_depend_on_order_and_not_only_on_the_ids():
    salt = new_salt()
    assert person_digest(["b", "a", "a"], salt) == person_digest(["a", "b"], salt)
    assert person_digest(["a", "b"], salt) != person_digest(["a", "b"], new_salt())
    assert person_digest(["ab", "c"], salt) != person_digest(["a", "bc"], salt)
    with pytest.raises(DataError, match="nobody"):
        person_digest([], salt)


def test_a_folder_has_a_digest_of_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    assert model_digest(tmp_path) == model_digest(tmp_path / "a")  # a folder with one file stands for it
    (tmp_path / "c").write_text("2")
    first = model_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert model_digest(tmp_path) != first
    with pytest.raises(DataError, match="no model at"):
        model_digest(tmp_path / "absent")


def test_verifying_needs_no_torch(issued, keys):
    program = (
        "import sys\nfrom erasure.cli import main\n"
        f"sys.argv = ['erasure', 'verify', {str(issued / 'certificate.json')!r}, '--key', {str(keys / 'company.pub')!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What it does not prove" in done.stdout
    assert "compliant" not in done.stdout


def test_the_commands_say_what_they_found(issued, keys, tmp_path):
    def erasure(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "erasure", *map(str, arguments)], capture_output=True, text=True, check=False
        )

    assert erasure("keys", "new", tmp_path / "mine").returncode == 0
    done = erasure("verify", issued / "certificate.json", "--json", "--ledger", issued / "ledger.jsonl")
    assert done.returncode == 0
    assert json.loads(done.stdout)["passed"] is True
    wrong = erasure("verify", issued / "certificate.json", "--key", keys / "stranger.pub")
    assert wrong.returncode == 1
    assert "Do not rely" in wrong.stdout
    assert "ok    chain: 1 request, each bound" in erasure("requests", "verify", "--ledger", issued).stdout
    assert "SSD" in erasure("requests", "list", "--ledger", issued / "ledger.jsonl").stdout
    assert "lineage" in erasure("requests", "show", "1", "--ledger", issued / "ledger.jsonl").stdout
    assert erasure("requests", "show", "2", "--ledger", issued / "ledger.jsonl").returncode == 2


def test_a_clock_that_was_set_back_is_said_and_the_order_of_the_lines_counts(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    times = [("2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z"), ("2026-01-01T00:00:00Z", "2025-12-31T00:00:00Z")]
    for number, (received, finished) in enumerate(times):
        digests = {name: str(number + place) * 64 for place, name in enumerate(("request", "original", "unlearned"))}
        ledger.append(**digests, received=received, finished=finished, n_forgotten=1, method="SSD", verdict="exact")
    checks = verify_ledger(ledger.path)
    assert all(check.passed for check in checks)
    assert [check.sentence.partition(":")[0][:27] for check in checks if check.name == "clock"] == [
        "Request 2 was finished at 2"
    ] * 2
    assert "before it was received" in checks[-2].sentence
    assert "before request 1" in checks[-1].sentence
