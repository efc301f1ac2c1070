"""The index is fast, shared, and never the truth."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from erasure.errors import StoreError
from erasure.planning.estimate import costs
from erasure.store import Artifact, Store, address
from erasure.store.index import Entry, Index


def publish(root, seed, **facts):
    content = {"seed": seed}
    where = address("model", content)
    with Store(root).publish(where, "model", content) as writer:
        writer.save_json("history", [seed] * 10)
        writer.facts |= {"signature": f"train {seed % 2}", **facts}
    return where


def publish_several(root, seeds):
    for seed in seeds:
        publish(root, seed)


def without_opening(monkeypatch):
    def refuse(self, *args):
        raise AssertionError("an object was opened")

    monkeypatch.setattr(Artifact, "__init__", refuse)


def test_entries_are_known_without_opening_an_object(store, monkeypatch):
    addresses = sorted(publish(store.root, seed, peak_memory_mib=2.5 + seed) for seed in range(4))
    expected = [Entry.of(store.open(where).manifest) for where in addresses]
    without_opening(monkeypatch)
    found = Store(store.root).entries()
    assert found == expected
    assert [entry.address for entry in found] == addresses
    assert {entry.signature for entry in found} == {"train 0", "train 1"}
    assert max(entry.peak_memory_mib for entry in found) == 5.5
    assert all(entry.size == 22 and entry.kind == "model" for entry in found)


@pytest.mark.parametrize("damage", ["lost", "truncated", "flipped", "gibberish", "a directory"])
def test_a_damaged_index_is_made_again(store, damage, monkeypatch):
    for seed in range(3):
        publish(store.root, seed)
    index = store.root / "index.jsonl"
    expected, data = store.entries(), index.read_bytes()
    index.unlink()
    if damage == "truncated":
        index.write_bytes(data[:-20])
    elif damage == "flipped":
        place = data.index(b'"elapsed_s": ') + len(b'"elapsed_s": ')
        index.write_bytes(data[:place] + (b"7" if data[place : place + 1] != b"7" else b"8") + data[place + 1 :])
    elif damage == "gibberish":
        index.write_bytes(b'\x00\xff\n["00000000", {}]\n[]\n' + b'["' * 1000)
    elif damage == "a directory":
        index.mkdir()
    assert store.entries() == expected
    if damage != "a directory":
        without_opening(monkeypatch)
        assert store.entries() == expected


def test_an_object_that_is_gone_has_no_entry(store):
    gone, kept = publish(store.root, 0), publish(store.root, 1)
    assert store.remove(gone)
    assert not store.remove(gone)
    assert [entry.address for entry in store.entries()] == [kept]
    assert not list((store.root / "tmp").iterdir())
    publish(store.root, 0)
    assert len(store.entries()) == 2


def test_an_object_copied_by_hand_is_found(store, tmp_path):
    where = publish(tmp_path / "other", 0)
    publish(store.root, 1)
    source, target = (root / "objects" / where[:2] / where for root in (tmp_path / "other", store.root))
    shutil.copytree(source, target)
    assert where in [entry.address for entry in store.entries()]


def test_a_damaged_manifest_is_left_out(store):
    where = publish(store.root, 0)
    (store.root / "index.jsonl").unlink()
    (store.root / "objects" / where[:2] / where / "manifest.json").write_bytes(b"{")
    assert store.entries() == []
    assert costs(store) == {}


def test_processes_that_publish_at_once_lose_no_line(store):
    context = get_context("fork" if sys.platform != "win32" else "spawn")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        for done in [pool.submit(publish_several, store.root, range(n, 60, 4)) for n in range(4)]:
            done.result()
    entries, lines = Index(store.root / "index.jsonl").read()
    assert lines == len(entries) == 60
    assert sorted(entries) == list(store.addresses())


def test_a_disk_that_refuses_the_index_stops_nothing(store, monkeypatch):
    real = os.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith("index.jsonl"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    where = publish(store.root, 0)
    assert [entry.address for entry in store.entries()] == [where]
    assert not (store.root / "index.jsonl").exists()


def test_an_index_of_things_that_are_gone_is_tidied(store, tmp_path):
    kept = publish(store.root, 0)
    index = Index(store.root / "index.jsonl")
    entry = store.entries()[0]
    index.add(Entry(address=f"{n:064x}", kind="model", created_at="", elapsed_s=0.0, size=0) for n in range(1200))
    assert index.read()[1] == 1201
    assert store.entries() == [entry]
    assert index.read() == ({kept: entry}, 1)


def test_costs_are_medians_of_seconds_and_the_most_memory(store):
    for seed, memory in enumerate((3.0, 9.0, 5.0, None)):
        publish(store.root, 2 * seed, peak_memory_mib=memory)
    found = costs(store)
    assert set(found) == {"train 0"}
    assert (found["train 0"].peak_memory_mib, found["train 0"].n) == (9.0, 4)
    seconds = sorted(entry.elapsed_s for entry in store.entries())
    assert found["train 0"].elapsed_s == (seconds[1] + seconds[2]) / 2


def test_facts_of_an_unexpected_type_are_not_taken_for_costs(store):
    publish(store.root, 0, signature=7, peak_memory_mib=True)
    (entry,) = store.entries()
    assert (entry.signature, entry.peak_memory_mib) == ("", None)
    assert costs(store) == {}


def test_the_lines_are_json(store):
    publish(store.root, 0)
    checksum, record = json.loads((store.root / "index.jsonl").read_text())
    assert len(checksum) == 8
    assert record["kind"] == "model"


def test_contains_many_says_what_contains_says(store):
    there = {publish(store.root, seed) for seed in range(3)}
    absent = {address("model", {"seed": seed}) for seed in range(3, 6)}
    assert store.contains_many(there | absent) == there
    assert store.contains_many(()) == frozenset()
    assert all(store.contains(where) for where in there)
    assert Store(store.root.with_name("nowhere")).contains_many(absent) == frozenset()


def test_a_prefix_finds_what_begins_with_it(store):
    where = publish(store.root, 0)
    assert store.matching(where[:6]) == store.matching(where) == [where]
    assert store.matching(where[:5]) == []
    assert store.matching("../../") == []
    assert store.matching(where[:6] + ("0" if where[6] != "0" else "1")) == []


def test_what_a_base_has_is_taken_from_it_and_new_things_go_on_top(tmp_path):
    old = publish(tmp_path / "base", 0)
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "base").rglob("*"))
    store = Store(tmp_path / "top", base=tmp_path / "base")
    calls = []

    def compute(writer):
        calls.append(1)
        writer.save_json("history", 1)

    store.get_or_compute(old, "model", {"seed": 0}, compute)
    new = address("model", {"seed": 1})
    store.get_or_compute(new, "model", {"seed": 1}, compute)
    assert len(calls) == 1
    assert list(store.addresses()) == sorted([old, new]) == [entry.address for entry in store.entries()]
    assert store.contains_many([old, new]) == {old, new}
    assert store.matching(old[:8]) == [old]
    assert list(Store(tmp_path / "top").addresses()) == [new]
    assert not store.remove(old)
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "base").rglob("*")) == before


def test_damage_in_a_base_is_reported_and_repaired_on_top(tmp_path):
    where = publish(tmp_path / "base", 0)
    damaged = tmp_path / "base" / "objects" / where[:2] / where / "history.json"
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    reports = []
    store = Store(tmp_path / "top", base=tmp_path / "base", on_corrupt=lambda *report: reports.append(report))
    for _ in range(2):
        artifact = store.get_or_compute(where, "model", {"seed": 0}, lambda writer: writer.save_json("history", 1))
        assert artifact.json("history") == 1
    assert [report[0] for report in reports] == [where]
    assert damaged.exists()


def test_a_base_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no file FORMAT.*no other can be laid over it"):
        Store(tmp_path / "top", base=tmp_path / "nowhere")


def test_nothing_in_a_base_is_changed(tmp_path):
    where = publish(tmp_path / "base", 0)
    (tmp_path / "base" / "index.jsonl").unlink()
    dead = tmp_path / "base" / "tmp" / "dead"
    dead.mkdir()
    os.utime(dead, (0, 0))
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "base").rglob("*"))
    store = Store(tmp_path / "top", base=tmp_path / "base")
    assert [entry.address for entry in store.entries()] == [where]
    assert store.quarantine(where, "a test") is None
    assert not store.remove(where)
    assert not (tmp_path / "top").exists()
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "base").rglob("*")) == before


def test_a_store_opened_for_reading_refuses_to_be_changed(store):
    where = publish(store.root, 0)
    reader = Store(store.root, read_only=True)
    assert reader.get_or_compute(where, "model", {"seed": 0}, None).address == where
    other = address("model", {"seed": 1})
    for change in (
        lambda: reader.remove(where),
        lambda: reader.quarantine(where, "a test"),
        lambda: reader.publish(other, "model", {"seed": 1}).__enter__(),
        lambda: reader.get_or_compute(other, "model", {"seed": 1}, None),
    ):
        with pytest.raises(StoreError, match=r"was opened for reading only; choose another directory with --store"):
            change()
    assert list(reader.addresses()) == [where]
