from __future__ import annotations

import pytest

from erasure.store import Store, address


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def content():
    return {"class": "MLP", "parameters": {"widths": [4, 2], "dropout": 0.1}, "seed": 3}


@pytest.fixture
def where(content):
    return address("model", content)


@pytest.fixture
def publish(store, where, content):
    """Publish the fixture object with two JSON files and one of tensors."""

    def _publish():
        import torch

        with store.publish(where, "model", content) as writer:
            writer.save_tensors("weights", {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])})
            writer.save_json("history", {"loss": [0.1, 1 / 3]})
            writer.facts["epochs"] = 2
        return store.root / "objects" / where[:2] / where

    return _publish
