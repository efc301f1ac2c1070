"""The ledger: what is appended stays, and every change shows."""

import json
import multiprocessing
import os
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import DataError, StoreError
from erasure.records.requests import GENESIS, Ledger


def answer(number: int, original: int | None = None, **changes):
    values = {
        "request": f"{number:064x}",
        "received": "2026-01-02T03:04:05Z",
        "finished": "2026-01-02T03:14:05Z",
        "n_forgotten": 3,
        "original": f"{1000 + (number if original is None else original):064x}",
        "unlearned": f"{1001 + number:064x}",
        "method": "SSD",
        "verdict": "indistinguishable",
        "cost_s": 1.5,
    }
    return values | changes


@pytest.fixture
def ledger(tmp_path):
    found = Ledger(tmp_path / "ledger.jsonl")
    for number in range(4):
        found.append(**answer(number))
    return found


def test_requests_are_numbered_and_bound_to_one_another(ledger):
    entries = ledger.entries()
    assert [e.number for e in entries] == [1, 2, 3, 4]
    assert [e.previous for e in entries] == [GENESIS, *(e.digest for e in entries[:-1])]
    assert ledger.head == entries[-1].digest


def test_a_request_that_was_answered_is_not_entered_again(ledger):
    before = ledger.path.read_bytes()
    assert ledger.append(**answer(2, method="another")).number == 3
    assert ledger.path.read_bytes() == before
    assert ledger.find(f"{2:064x}").number == 3
    assert ledger.find(f"{9:064x}") is None
    assert Ledger(ledger.path.parent).entries() == ledger.entries()  # by its folder


def test_a_model_is_followed_back_to_the_first_original(ledger):
    assert [e.number for e in ledger.lineage(f"{1001 + 2:064x}")] == [1, 2, 3]
    assert ledger.lineage("0" * 64) == ()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_is_found(tmp_path_factory, data):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.jsonl")
    for number in range(3):
        ledger.append(**answer(number))
    head = ledger.head
    whole = bytearray(ledger.path.read_bytes())
    where = data.draw(st.integers(0, len(whole) - 1))
    whole[where] ^= 1 << data.draw(st.integers(0, 7))
    ledger.path.write_bytes(bytes(whole))
    # A damaged last line end looks like an interrupted write; the digest noted elsewhere shows it.
    with pytest.raises((DataError, StoreError), match=r"ledger\.jsonl"):  # the latter for a flipped number of the format
        if ledger.head != head:
            raise DataError("ledger.jsonl ends early")


@pytest.mark.parametrize("change", ["remove", "swap", "repeat"])
def test_removed_swapped_and_repeated_lines_are_named(ledger, change):
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    changed = {"remove": [lines[0], *lines[2:]], "swap": [lines[1], lines[0], *lines[2:]], "repeat": [*lines, lines[3]]}[change]
    ledger.path.write_bytes(b"".join(changed))
    with pytest.raises(DataError, match=r"line \d does not follow"):
        ledger.entries()
    with pytest.raises(DataError):
        ledger.append(**answer(7))


def test_an_interrupted_line_never_counted(ledger):
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"format":1,"numb')
    assert len(ledger) == 4
    assert ledger.append(**answer(4)).number == 5
    assert ledger.path.read_bytes().startswith(whole)
    assert len(ledger) == 5


def test_the_ledger_holds_no_ids(tmp_path):
    from erasure.certificates.digests import new_salt, person_digest

    ids = ["jane.doe@example.org", "4711"]
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(**answer(0, request=person_digest(ids, new_salt())))
    text = ledger.path.read_text()
    assert not any(each in text for each in ids)
    record = json.loads(text)
    assert all(isinstance(value, int | float | str | None) for value in record.values())


def test_digests_alone_are_taken(tmp_path):
    with pytest.raises(DataError, match="request of a ledger entry"):
        Ledger(tmp_path / "ledger.jsonl").append(**answer(0, request="Jane Doe"))


def _appending(path, start):
    ledger = Ledger(path)
    for number in range(start, start + 10_000):
        ledger.append(**answer(number))


def test_two_processes_that_are_killed_leave_a_whole_ledger(tmp_path):
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_appending, args=(path, start)) for start in (0, 5_000)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < 20):
        time.sleep(0.01)
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    entries = Ledger(path).entries()
    assert len(entries) >= 20
    assert len({(e.request, e.original) for e in entries}) == len(entries)
    assert Ledger(path).append(**answer(99_999)).number == len(entries) + 1
