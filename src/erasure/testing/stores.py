"""What every store must keep to, as a test suite to inherit; the contract in prose is ``docs/store.md``.

::

    class TestMyStore(StoreConformance):
        def make(self, place, **options):
            return MyStore(place / "store", **options)

It is for stores that keep their objects elsewhere, and runs under pytest in some seconds. A store has the methods of
:class:`erasure.store.Store`, gives objects with those of :class:`erasure.store.Artifact`, and writers with those of
:class:`erasure.store.Writer`.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import torch

from erasure.errors import CorruptArtifact, StoreError
from erasure.store import Store, Writer, address
from erasure.testing.checks import check
from erasure.types import Json

__all__ = ["StoreConformance"]

_KIND = "model"
_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "truncated": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "lengthened": lambda data: data + b"\n",
}


class StoreConformance:
    """Checks of one kind of store; give :meth:`make`, and change the class data where the store differs.

    Class data:
        shared: Whether several processes may use one store at once.
    """

    shared: ClassVar[bool] = True

    def make(self, place: Path, **options: Any) -> Store:
        """The store at a place, reopened; ``options`` are those of :class:`erasure.store.Store`, such as ``on_corrupt``."""
        raise NotImplementedError

    def damage(self, store: Store, where: str, name: str, change: Callable[[bytes], bytes]) -> None:
        """Change the bytes of a stored file behind the store's back."""
        path = store.open(where).path(name)
        path.write_bytes(change(path.read_bytes()))

    # Whole or absent

    def test_what_is_published_reads_back_equal(self, tmp_path: Path) -> None:
        store, content = self.make(tmp_path), _content(0)
        where = _publish(store, 0)
        for reader in (store, self.make(tmp_path)):
            found = reader.open(where)
            check((found.address, found.kind, found.content) == (where, _KIND, content), "address, kind or content differ")
            check(dict(found.facts) == {"signature": "train", "n": 0}, "the facts differ")
            check(found.elapsed_s >= 0, "the time is negative")
            check(found.files == ("history.json", "raw.bin", "weights.safetensors"), f"the files are {found.files}")
            check(found.json("history") == {"loss": [0.1, 1 / 3, 0]}, "JSON differs")
            check(found.path("raw.bin").read_bytes() == b"\x00\xff0", "bytes differ")
            tensors = found.tensors("weights")
            check(torch.equal(tensors["w"], torch.arange(6.0).reshape(2, 3)), "a tensor differs")
            check(tensors["n"].dtype is torch.int64 and tensors["e"].shape == (0, 2), "a type or a shape differs")
            found.verify()

    def test_an_object_is_absent_until_its_block_ends(self, tmp_path: Path) -> None:
        store, content = self.make(tmp_path), _content(0)
        where = address(_KIND, content)
        with store.publish(where, _KIND, content) as writer:
            writer.save_json("history", 1)
            check(not self.make(tmp_path).contains(where), "an object is there before it is whole")
        check(self.make(tmp_path).contains(where), "a published object is not there")

    def test_an_error_while_writing_leaves_nothing(self, tmp_path: Path) -> None:
        store, content = self.make(tmp_path), _content(0)
        where = address(_KIND, content)
        with suppress(ZeroDivisionError), store.publish(where, _KIND, content) as writer:
            writer.save_json("history", 1)
            raise ZeroDivisionError
        check(not store.contains(where) and not list(store.addresses()), "half an object is there")

        def fail(writer: Writer) -> None:
            writer.save_json("history", 1)
            raise ZeroDivisionError

        _raises(ZeroDivisionError, lambda: store.get_or_compute(where, _KIND, content, fail))
        found = store.get_or_compute(where, _KIND, content, _write)
        check(found.json("history") == {"loss": [0.1, 1 / 3, 0]}, "a failed computation was kept")

    def test_what_is_not_there_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        store, where = self.make(tmp_path), address(_KIND, _content(0))
        check(where in str(_raises(StoreError, lambda: store.open(where))), "the error does not name the address")
        _publish(store, 0)
        check("nothing.json" in str(_raises(StoreError, lambda: store.open(where).json("nothing"))), "the file is not named")

    def test_an_address_of_other_content_is_refused(self, tmp_path: Path) -> None:
        store, where = self.make(tmp_path), address(_KIND, _content(0))
        _raises(StoreError, lambda: store.get_or_compute(where, _KIND, _content(1), _write))
        _raises(StoreError, lambda: store.get_or_compute(where, "values", _content(0), _write))
        _raises(StoreError, lambda: store.contains("../../etc/passwd"))
        check(not list(store.addresses()), "something was stored")

    # Immutable

    def test_the_first_of_two_publishers_stays(self, tmp_path: Path) -> None:
        store, content = self.make(tmp_path), _content(0)
        where = address(_KIND, content)
        with store.publish(where, _KIND, content) as late:
            late.facts["who"] = "late"
            with self.make(tmp_path).publish(where, _KIND, content) as early:
                early.facts["who"] = "early"
        check(dict(store.open(where).facts) == {"who": "early"}, "a published object was replaced")

    def test_what_is_there_is_not_computed_again(self, tmp_path: Path) -> None:
        where = _publish(self.make(tmp_path), 0)

        def never(writer: Writer) -> None:
            raise AssertionError("a stored object was computed again")

        self.make(tmp_path).get_or_compute(where, _KIND, _content(0), never)

    def test_changing_a_loaded_tensor_does_not_change_the_store(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        where = _publish(store, 0)
        store.open(where).tensors("weights")["w"].fill_(9.0)
        check(store.open(where).tensors("weights")["w"].max().item() == 5.0, "the stored tensor changed")

    # Never a wrong byte

    def test_damage_is_found_before_a_byte_is_read(self, tmp_path: Path) -> None:
        for number, (kind, change) in enumerate(_DAMAGE.items()):
            for name in ("history.json", "weights.safetensors", "raw.bin"):
                store = self.make(tmp_path / f"{number}-{name}")
                where = _publish(store, number)
                self.damage(store, where, name, change)
                self._is_refused(store, where, name, kind)

    @staticmethod
    def _is_refused(store: Store, where: str, name: str, kind: str) -> None:
        def read() -> None:
            found = store.open(where)
            {"history.json": found.json, "weights.safetensors": found.tensors}.get(name, found.path)(
                name if name == "raw.bin" else name.partition(".")[0]
            )

        check(where in str(_raises(CorruptArtifact, read)), f"{name}, {kind}: the error does not name the object")
        _raises(CorruptArtifact, lambda: store.open(where).verify())

    def test_damage_is_quarantined_reported_and_computed_again(self, tmp_path: Path) -> None:
        for number, (kind, change) in enumerate(_DAMAGE.items()):
            where = _publish(self.make(tmp_path), number)
            self.damage(self.make(tmp_path), where, "history.json", change)
            reports: list[tuple[str, str]] = []
            store = self.make(tmp_path, on_corrupt=lambda *report, to=reports: to.append(report))
            found = store.get_or_compute(where, _KIND, _content(number), _write)
            check(found.json("history") == {"loss": [0.1, 1 / 3, 0]}, f"{kind}: the repaired object is wrong")
            check([report[0] for report in reports] == [where], f"{kind}: reported {len(reports)} times")
            self.make(tmp_path).open(where).verify()

    # Lists

    def test_lists_agree_with_what_was_published_and_removed(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        check(list(store.addresses()) == [] and store.entries() == [], "a new store is not empty")
        there = sorted(_publish(store, seed) for seed in range(5))
        absent = address(_KIND, _content(5))
        for reader in (store, self.make(tmp_path)):
            check(list(reader.addresses()) == there, "the addresses are not those published, sorted")
            check(reader.contains_many([*there, absent]) == set(there), "contains_many differs from what is there")
            entries = reader.entries()
            check([entry.address for entry in entries] == there, "the entries are not those published")
            check({(entry.kind, entry.signature) for entry in entries} == {(_KIND, "train")}, "an entry has other facts")
            check(reader.matching(there[0][:32]) == [there[0]], "a prefix does not find its object")
            check(reader.matching(there[0][:5]) == [], "a prefix of five digits finds something")
        check(store.remove(there[0]) and not store.remove(there[0]), "an object is removed once")
        check(list(self.make(tmp_path).addresses()) == there[1:], "a removed object is listed")
        for seed in range(5):
            _publish(store, seed)
        check([entry.address for entry in store.entries()] == there, "a removed object cannot come back")

    # Shared

    def test_threads_that_ask_for_one_object_compute_it_once(self, tmp_path: Path) -> None:
        store, content, calls = self.make(tmp_path), _content(0), []
        where = address(_KIND, content)

        def compute(writer: Writer) -> None:
            calls.append(1)
            time.sleep(0.1)
            _write(writer)

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(store.get_or_compute, where, _KIND, content, compute) for _ in range(4)]
            check({future.result().address for future in asked} == {where}, "a thread got something else")
        check(len(calls) == 1, f"computed {len(calls)} times")

    def test_processes_share_the_work(self, tmp_path: Path) -> None:
        if not self.shared:
            return
        context = multiprocessing.get_context("spawn" if sys.platform in {"win32", "darwin"} else "fork")
        log = tmp_path / "log"
        log.touch()
        with ProcessPoolExecutor(3, mp_context=context) as pool:
            for done in [pool.submit(_compute_all, self.make, tmp_path, log, start) for start in range(3)]:
                done.result()
        computed = sorted(map(int, log.read_text().split()))
        check(computed == list(range(12)), f"an object was computed twice or never: {computed}")
        store = self.make(tmp_path)
        check(len(list(store.addresses())) == len(store.entries()) == 12, "an object or an entry is lost")
        for where in store.addresses():
            store.open(where).verify()


def _content(seed: int) -> Json:
    return {"predictor": {"class": "MLP", "parameters": {"hidden_sizes": [4, 2], "dropout": 0.1}}, "seed": seed}


def _write(writer: Writer) -> None:
    writer.save_json("history", {"loss": [0.1, 1 / 3, 0]})


def _publish(store: Store, seed: int) -> str:
    content = _content(seed)
    where = address(_KIND, content)
    with store.publish(where, _KIND, content) as writer:
        _write(writer)
        tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([1, 2]), "e": torch.empty(0, 2)}
        writer.save_tensors("weights", tensors)
        writer.path("raw.bin").write_bytes(b"\x00\xff0")
        writer.facts |= {"signature": "train", "n": seed}
    return where


def _compute_all(make: Callable[[Path], Store], place: Path, log: Path, start: int) -> None:
    """Ask for twelve objects, each process from another one on."""
    store = make(place)
    for number in range(12):
        seed = (start * 4 + number) % 12

        def compute(writer: Writer, seed: int = seed) -> None:
            with log.open("a") as file:
                file.write(f"{seed}\n")
            time.sleep(0.01)
            _write(writer)

        store.get_or_compute(address(_KIND, _content(seed)), _KIND, _content(seed), compute)


def _raises(kind: type[Exception], call: Callable[[], object]) -> Exception:
    try:
        call()
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} was raised, expected {kind.__name__}: {error}") from error
    raise AssertionError(f"no {kind.__name__} was raised")
