from __future__ import annotations

import errno
import json
import logging
import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from erasure.durable import owned
from erasure.errors import CorruptArtifact, StoreError
from erasure.store import Store, address, default_store_path


class Compute:
    """Writes the fixture object, once the barrier is reached if there is one, and counts how often."""

    def __init__(self, barrier=None):
        self.calls, self.barrier = 0, barrier

    def __call__(self, writer):
        self.calls += 1
        if self.barrier is not None:
            self.barrier.wait(60)
        writer.save_json("history", {"loss": [0.1, 1 / 3]})


def _is_empty(directory):
    return not directory.exists() or not list(directory.iterdir())


def test_looking_at_a_store_that_is_not_there_makes_nothing(tmp_path, where):
    store = Store(tmp_path / "deep" / "store")
    assert not store.contains(where)
    assert list(store.addresses()) == []
    assert not (tmp_path / "deep").exists()


def test_addresses_lists_what_was_published(store, publish, where):
    publish()
    assert list(store.addresses()) == [where]
    assert store.contains(where)
    assert json.loads((store.root / "FORMAT").read_text()) == {"format": 1}


def test_an_exception_while_writing_leaves_nothing(store, where, content):
    with pytest.raises(ZeroDivisionError), store.publish(where, "model", content) as writer:
        writer.save_json("history", 1)
        raise ZeroDivisionError
    assert not store.contains(where)
    assert _is_empty(store.root / "tmp")


def test_the_second_of_two_publishers_is_thrown_away(store, where, content):
    with store.publish(where, "model", content) as late:
        late.facts["who"] = "late"
        with store.publish(where, "model", content) as early:
            early.facts["who"] = "early"
    assert store.open(where).facts == {"who": "early"}
    assert _is_empty(store.root / "tmp")
    assert _is_empty(store.root / "quarantine")


def test_publishing_over_a_corrupt_object_replaces_it(store, publish, where):
    (publish() / "history.json").write_bytes(b"{}")
    publish()
    store.open(where).verify()
    assert len(list((store.root / "quarantine").iterdir())) == 2


def test_an_address_that_belongs_to_other_content_is_refused(store, where, content):
    with pytest.raises(StoreError, match="is not the address of this rows"), store.publish(where, "rows", content):
        pass
    with pytest.raises(StoreError, match="is not the address of this model"):
        store.get_or_compute(where, "model", {}, Compute())


def test_what_is_in_the_store_is_not_computed_again(store, where, content):
    compute = Compute()
    first = store.get_or_compute(where, "model", content, compute)
    second = Store(store.root).get_or_compute(where, "model", content, compute)
    assert compute.calls == 1
    assert first.json("history") == second.json("history") == {"loss": [0.1, 1 / 3]}


def test_a_failed_computation_is_tried_again_next_time(store, where, content):
    def fail(writer):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.get_or_compute(where, "model", content, fail)
    assert store.get_or_compute(where, "model", content, Compute()).kind == "model"


def test_threads_that_ask_for_one_object_compute_it_once(store, where, content):
    all_here, waits = threading.Barrier(4), []
    compute = Compute(all_here)

    def on_wait(address):
        waits.append(address)
        all_here.wait(60)

    with ThreadPoolExecutor(4) as pool:
        ask = [pool.submit(store.get_or_compute, where, "model", content, compute, on_wait=on_wait) for _ in range(4)]
        assert {future.result().address for future in ask} == {where}
    assert compute.calls == 1
    assert waits == [where] * 3


def _flip(place):
    path = place / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        lambda place: (place / "weights.safetensors").write_bytes(b"12"),
        lambda place: (place / "weights.safetensors").unlink(),
        lambda place: (place / "manifest.json").write_bytes(b"{"),
        lambda place: (place / "manifest.json").unlink(),
    ],
    ids=["flipped byte", "truncated", "missing", "manifest damaged", "manifest missing"],
)
def test_a_corrupt_object_is_quarantined_reported_and_computed_again(store, publish, where, content, damage, caplog):
    damage(publish())
    reports, compute = [], Compute()
    repaired = Store(store.root, on_corrupt=lambda *report: reports.append(report))
    with caplog.at_level(logging.WARNING):
        artifact = repaired.get_or_compute(where, "model", content, compute)
    assert compute.calls == 1
    assert artifact.files == ("history.json",)
    assert [report[0] for report in reports] == [where]
    assert "corrupt" in reports[0][1]
    assert where in caplog.text
    (note,) = (store.root / "quarantine").glob("*.json")
    assert json.loads(note.read_text())["reason"] == reports[0][1]
    assert note.with_suffix("").is_dir()
    artifact.verify()


def test_what_another_process_took_first_is_not_quarantined_twice(store, publish, where):
    publish()
    assert store.quarantine(where, "A test.") is not None
    assert store.quarantine(where, "A test.") is None


def _refuse(number):
    def refuse(self, *args, **kwargs):
        raise OSError(number, os.strerror(number), str(self))

    return refuse


@pytest.mark.parametrize("operation", ["rename", "mkdir"])
def test_a_read_only_store_serves_what_it_has_and_refuses_the_rest(store, publish, where, monkeypatch, operation):
    publish()
    monkeypatch.setattr(Path, operation, _refuse(errno.EROFS))
    reader = Store(store.root)
    assert torch.equal(reader.open(where).tensors("weights")["b"], torch.tensor([1, 2]))
    assert reader.get_or_compute(where, "model", reader.open(where).content, Compute()).address == where
    other = address("model", {})
    with pytest.raises(StoreError, match=f"{store.root}.* read-only file system; choose a writable directory with --store"):
        reader.get_or_compute(other, "model", {}, Compute())
    assert not store.contains(other)
    monkeypatch.undo()
    assert _is_empty(store.root / "tmp")


def test_damage_in_a_read_only_store_is_named_as_damage(store, publish, where, content, monkeypatch):
    _flip(publish())
    monkeypatch.setattr(Path, "rename", _refuse(errno.EROFS))
    with pytest.raises(CorruptArtifact, match=r"do not match their checksum.*cannot be computed again here.*read-only"):
        store.get_or_compute(where, "model", content, Compute())


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
def test_a_directory_without_write_permission_is_a_read_only_store(store, publish, where):
    publish()
    directories = [path for path in store.root.rglob("*") if path.is_dir()]
    for directory in [store.root, *directories]:
        directory.chmod(0o555)
    try:
        assert Store(store.root).open(where).json("history")
        with pytest.raises(StoreError, match="permission denied"):
            store.get_or_compute(address("model", {}), "model", {}, Compute())
    finally:
        for directory in [store.root, *directories]:
            directory.chmod(0o755)


@pytest.mark.parametrize("call", ["write_bytes", "rename"])
def test_a_full_disk_is_named_and_leaves_nothing(store, where, content, monkeypatch, call):
    monkeypatch.setattr(Path, call, _refuse(errno.ENOSPC))
    with (
        pytest.raises(StoreError, match=f"{store.root}.*no space left.*free some space"),
        store.publish(where, "model", content) as w,
    ):
        w.save_json("history", 1)
    assert not store.contains(where)
    assert _is_empty(store.root / "tmp")


@pytest.mark.parametrize("what", ["tensors", "json", "path"])
def test_a_write_that_the_system_refuses_is_named_and_leaves_nothing(store, publish, where, content, what):
    """A real failure, by a limit on the size of files, for each way to write."""
    other = address("model", {})
    publish()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with (
            pytest.raises(StoreError, match=f"Cannot write {store.root}.*file too large"),
            store.publish(other, "model", {}) as writer,
        ):
            if what == "tensors":
                writer.save_tensors("weights", {"w": torch.ones(100_000)})
            elif what == "json":
                writer.save_json("history", list(range(100_000)))
            else:
                with writer.path("raw.bin").open("wb") as file:
                    file.write(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(store.addresses()) == [where]
    assert _is_empty(store.root / "tmp")


def test_an_error_of_the_computation_itself_passes_unchanged(store, where, content):
    with pytest.raises(FileNotFoundError), store.publish(where, "model", content):
        Path("/nowhere/data.csv").read_bytes()


def test_a_directory_with_somebody_elses_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(StoreError, match="not empty and not a store"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"), [('{"format": 99}', "a store of format 99"), ("gibberish", "is damaged"), ("", "is damaged")]
)
def test_a_store_of_another_format_is_refused(store, publish, text, named):
    publish()
    (store.root / "FORMAT").write_text(text)
    with pytest.raises(StoreError, match=named):
        Store(store.root)


def _age(directory, seconds):
    then = time.time() - seconds
    for path in [*directory.iterdir(), directory]:
        os.utime(path, (then, then))


def test_only_old_directories_that_nobody_holds_are_cleaned_up(store, publish):
    publish()
    dead, young, alive = (store.root / "tmp" / name for name in ("dead", "young", "alive"))
    for directory in (dead, young, alive):
        directory.mkdir()
        (directory / "weights.safetensors").write_bytes(b"half")
    _age(dead, 4000)
    _age(alive, 4000)
    with owned(alive):
        Store(store.root)
        assert (dead.exists(), young.exists(), alive.exists()) == (False, True, True)
    Store(store.root)
    assert not alive.exists()


def test_the_store_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ERASURE_STORE", raising=False)
    assert default_store_path() == tmp_path / ".erasure" / "store"
    monkeypatch.setenv("ERASURE_STORE", str(tmp_path / "elsewhere"))
    assert default_store_path() == tmp_path / "elsewhere"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks the system for the names of open files")
@pytest.mark.parametrize("takes_s", [0.0, 0.11])
def test_bytes_are_always_flushed_and_names_where_computing_took_long(store, where, content, monkeypatch, takes_s):
    flushed, fsync = [], os.fsync

    def noted(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    with store.publish(address("values", 1), "values", 1) as writer:  # makes the store
        writer.save_json("values", 2)
    monkeypatch.setattr(os, "fsync", noted)
    with store.publish(where, "model", content) as writer:
        staging = writer.path("another.json").parent
        writer.save_json("history", 1)
        time.sleep(takes_s)
    objects = store.root / "objects"
    names = [objects / where[:2], objects, store.root] if takes_s else []
    assert flushed == [staging / "history.json", staging / "manifest.json", staging, *names]
