"""``erasure request`` on a file with somebody's own training."""

import re
from fractions import Fraction

import pytest
from small import command, training_file

IDS = '[f"user{k // 3}" for k in range(60)]'
FAST = ("--retrain", "--originals", 3, "--golds", 1, "--quiet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    import runpy

    import torch

    folder = tmp_path_factory.mktemp("own")
    (folder / "training.py").write_text(training_file(IDS, n_in_bern=6))
    fit = runpy.run_path(str(folder / "training.py"))["fit"]
    torch.save(fit(range(60), 1).state_dict(), folder / "model.pt")
    return folder


def request(place, *arguments, folder="requests", model="model.pt"):
    options = ("--folder", place / folder, "--store", place / "store", *FAST)
    return command("request", place / "training.py", "--model", place / model, *options, *arguments)


def test_two_requests_and_their_certificates(place):
    first = request(place, "--ids", "user1,user2")
    assert first.returncode == 0, first.stderr
    assert "request 1: 6 forgotten by Retraining (retrained)" in first.stdout
    second = request(place, "--where", "city=Bern", model="requests/0001/model")
    assert second.returncode == 0, second.stderr
    assert "request 2: 3 forgotten" in second.stdout  # three of Bern are user1's, who is gone
    ledger = place / "requests" / "ledger.jsonl"
    listed = command("requests", "list", "--ledger", ledger)
    *requests, total = listed.stdout.splitlines()
    assert [line.split()[0] for line in requests] == ["1", "2"]
    assert total.startswith("2 requests have cost")
    assert "original model, then requests 1, 2" in command("requests", "show", 2, "--ledger", ledger.parent).stdout
    folder = place / "requests" / "0002"
    checked = command(
        "verify",
        folder / "certificate.json",
        "--model",
        folder / "model" / "model.safetensors",
        "--original",
        place / "requests" / "0001" / "model" / "model.safetensors",
        "--evidence",
        folder / "evidence",
        "--ledger",
        ledger,
    )
    assert checked.returncode == 0, checked.stdout
    other = command("verify", folder / "certificate.json", "--model", place / "requests" / "0001" / "model" / "model.safetensors")
    assert other.returncode == 1
    assert "it is the original model" in other.stdout
    assert not re.search("user1|Bern", ledger.read_text())


def test_a_dry_run_shows_the_plan(place):
    done = request(place, "--ids", "user4", "--dry-run", folder="planned")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "3 of 60 training samples are to be forgotten."
    assert "retrain without the samples, which has to be compared with nothing" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ids", "user1,nobody"), "1 of 2 ids are not in the data: 'nobody'"),
        (("--where", "town=Bern"), '"town=Bern" should be COLUMN=VALUE'),
        (("--where", "city"), '"city" should be COLUMN=VALUE with a column of columns() in'),
        (("--where", "city=Rome"), "no sample has the value 'Rome'"),
        (("--positions", "60"), "1 of the positions are not in the data"),
        ((), "nobody is asked to be forgotten"),
    ],
)
def test_a_mistake_gets_one_sentence(place, arguments, message):
    done = request(place, *arguments, folder="mistakes")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_damaged_file_of_weights_and_one_with_code_are_refused(place):
    import torch

    (place / "damaged.pt").write_bytes((place / "model.pt").read_bytes()[:500])
    torch.save({"layer": Fraction(1, 3)}, place / "objects.pt")  # harmless, and no tensor
    for file, reason in (("damaged.pt", "cannot be read"), ("objects.pt", "holds more than tensors")):
        done = request(place, "--ids", "user1", model=file, folder="mistakes")
        assert done.returncode == 2
        assert file in done.stderr
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
