"""The public conformance suite holds for our store, alone and over a base, and finds the faults of a careless one."""

import json

import pytest

from erasure.store import Artifact, Store, address
from erasure.testing import StoreConformance

OTHER = address("other", {})


class TestStore(StoreConformance):
    def make(self, place, **options):
        return Store(place / "store", **options)


class TestStoreOverABase(StoreConformance):
    def make(self, place, **options):
        base = Store(place / "base")
        if not (base.root / "FORMAT").exists():
            with base.publish(OTHER, "other", {}) as writer:
                writer.save_json("x", 1)
            base.remove(OTHER)
        return Store(place / "store", base=base.root, **options)


class CarelessArtifact(Artifact):
    """Hands out whatever the disk has."""

    def json(self, name):
        return json.loads((self.directory / f"{name}.json").read_bytes())

    def verify(self):
        pass


class Careless(Store):
    """Does not check what it reads."""

    def open(self, address):
        found = super().open(address)
        return CarelessArtifact(found.directory, found.manifest)


class Forgetful(Store):
    """Computes again what is there."""

    def get_or_compute(self, address, kind, content, compute, *, on_wait=None):
        self.remove(address)
        return super().get_or_compute(address, kind, content, compute, on_wait=on_wait)


def suite_of(cls):
    class Suite(StoreConformance):
        def make(self, place, **options):
            return cls(place / "store", **options)

    return Suite()


def test_a_store_that_checks_nothing_fails(tmp_path):
    with pytest.raises(AssertionError, match="CorruptArtifact"):
        suite_of(Careless).test_damage_is_found_before_a_byte_is_read(tmp_path)


def test_a_store_that_computes_again_fails(tmp_path):
    with pytest.raises(AssertionError, match="computed again"):
        suite_of(Forgetful).test_what_is_there_is_not_computed_again(tmp_path)
