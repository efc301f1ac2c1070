"""A store that an earlier version wrote stays readable, and one of a later version is left alone.

``store_format_1`` was written by version 0.1.0 and is never changed; a later format gets a directory beside it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from erasure.errors import CorruptArtifact, StoreError
from erasure.store import Store, address
from erasure.store.artifacts import Manifest

FIXTURE = Path(__file__).parent / "store_format_1"
MODEL = {"predictor": {"class": "MLP", "parameters": {"hidden_sizes": [4, 2], "dropout": 0.1}}, "seed": 3, "name": "größe"}
MODEL_AT = "9dc6579b60e9d8c37fba1fb097b7a9f470f5d265ce417664d71b60eba2a2331d"
VALUES_AT = "b160e44b49273750f6831e3c0effbc7935067c9a51dd7a054a451382fb84debe"


@pytest.fixture
def old(tmp_path):
    """The old store, in a copy: opening one may tidy it."""
    return Store(shutil.copytree(FIXTURE, tmp_path / "old"))


def test_addresses_are_made_as_they_were():
    assert address("model", MODEL) == MODEL_AT
    assert address("values", {"model": MODEL_AT}) == VALUES_AT


def test_everything_in_it_reads_as_it_was_written(old):
    assert list(old.addresses()) == sorted([MODEL_AT, VALUES_AT])
    model = old.open(MODEL_AT)
    model.verify()
    assert (model.kind, model.content, model.elapsed_s) == ("model", MODEL, 1.25)
    assert model.facts == {"signature": "train MLP", "peak_memory_mib": 12.5, "epochs": 2}
    tensors = model.tensors("model")
    assert list(tensors) == ["bias", "half", "none", "steps", "weight"]
    assert torch.equal(tensors["weight"], torch.arange(6.0).reshape(2, 3) / 3)
    assert torch.equal(tensors["half"], torch.tensor([0.5, -1.5], dtype=torch.bfloat16))
    assert torch.equal(tensors["steps"], torch.tensor(7))
    assert tensors["none"].shape == (0, 2)
    values = old.open(VALUES_AT)
    assert values.json("values") == [{"name": "accuracy", "value": 1 / 3, "reason": None}]
    assert values.path("raw.bin").read_bytes() == bytes(range(256))


def test_it_goes_on_as_a_cache(old):
    def never(writer):
        raise AssertionError("a stored object was computed again")

    assert old.get_or_compute(MODEL_AT, "model", MODEL, never).address == MODEL_AT
    entries = {entry.address: entry for entry in old.entries()}
    assert (entries[MODEL_AT].elapsed_s, entries[MODEL_AT].peak_memory_mib, entries[MODEL_AT].signature) == (
        1.25,
        12.5,
        "train MLP",
    )
    new = address("model", {})
    old.get_or_compute(new, "model", {}, lambda writer: writer.save_json("x", 1))
    assert len(old.entries()) == 3


def test_its_bytes_would_be_written_again_today(old, tmp_path):
    today = Store(tmp_path / "today")
    with today.publish(MODEL_AT, "model", MODEL) as writer:
        writer.save_tensors("model", old.open(MODEL_AT).tensors("model"))
    assert (
        today.open(MODEL_AT).path("model.safetensors").read_bytes() == old.open(MODEL_AT).path("model.safetensors").read_bytes()
    )


def test_a_store_of_a_newer_format_is_left_alone(old):
    (old.root / "FORMAT").write_text('{"format": 2}\n')
    before = sorted(old.root.rglob("*"))
    with pytest.raises(
        StoreError, match=r"is a store of format 2, this version of erasure reads format 1; upgrade erasure, or choose"
    ):
        Store(old.root)
    (old.root / "FORMAT").write_text('{"format": 0}\n')
    with pytest.raises(StoreError, match="use the version of erasure that wrote it"):
        Store(old.root)
    assert sorted(old.root.rglob("*")) == before


def test_an_object_of_a_newer_format_is_not_taken_for_damage(old):
    """A store that two versions share must not send each other's objects to quarantine."""
    manifest = old.root / "objects" / MODEL_AT[:2] / MODEL_AT / "manifest.json"
    record = json.loads(manifest.read_text()) | {"format": 2}
    del record["manifest_sha256"]
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    manifest.write_text(json.dumps(record | {"manifest_sha256": hashlib.sha256(text.encode()).hexdigest()}))
    with pytest.raises(StoreError, match="is of format 2") as raised:
        Manifest.decode(manifest.read_bytes(), MODEL_AT)
    assert not isinstance(raised.value, CorruptArtifact)
    with pytest.raises(StoreError, match="upgrade erasure"):
        old.get_or_compute(MODEL_AT, "model", MODEL, lambda writer: writer.save_json("x", 1))
    assert manifest.exists()
    assert not (old.root / "quarantine").exists()
