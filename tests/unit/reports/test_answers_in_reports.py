"""Answers of models side by side, and shades of tokens, from made-up results in a store."""

import json

import pytest
import torch
from report_rows import evidence, method

from erasure.records.evidence import RunRecord
from erasure.records.run_folder import RunFolder
from erasure.records.stages_file import write_stages
from erasure.reports.answers import answers_of
from erasure.store import Store, address

PIECES = ("", " an", " oak", " elm")


@pytest.fixture
def run(tmp_path):
    """Two models with outputs on samples 5 and 3, and what they said of sample 3."""
    store, stages, models = Store(tmp_path / "store"), {}, []
    for label, role, likely in (("original", "original", -0.5), ("a", "unlearned", -3.5)):
        model = address("model", {"of": label})
        models.append({"label": label, "role": role, "address": model})
        statistics = torch.zeros(2, 2, 4)
        statistics[:, :, 0] = torch.tensor([likely, -1.0])
        kinds = {"outputs": {"model": model, "partition": "p"}, "values": {"model": model, "measure": "RougeL"}}
        for kind, content in kinds.items():
            where = address(kind, content)
            stages[where] = {"outputs": f"run {label} on forget", "values": f"measure RougeL of {label}"}[kind]
            with store.publish(where, kind, content) as writer:
                if kind == "outputs":
                    labels = torch.tensor([[1, 2], [1, -100]])
                    writer.save_tensors("outputs", {"ids": torch.tensor([5, 3]), "labels": labels, "logits": statistics})
                else:
                    writer.save_json("values", [])
                    writer.save_json("answers", [{"sample": 3, "said": f"{label} says"}])
    write_stages(stages, tmp_path)
    kept = evidence("a") | {"models": models}
    return RunFolder(method("a"), RunRecord.of(json.loads(json.dumps(kept))), directory=tmp_path), store


def test_answers_stand_side_by_side_with_the_change_of_each_token(run):
    found = answers_of(*run, [3, 5], PIECES)
    assert [(each["label"], each["said"]) for each in found[3]] == [("original", "original says"), ("a", "a says")]
    assert [each["said"] for each in found[5]] == [None, None]
    first, second = (each["tokens"] for each in found[5])
    assert [token["text"] for token in first] == [" an", " oak"]
    assert {token["change"] for token in first} == {None}
    assert [(token["change"], token["shade"]) for token in second] == [(-3.0, -3), (0.0, 0)]
    assert len(found[3][1]["tokens"]) == 1


def test_what_the_store_has_not_is_left_out(run):
    folder, store = run
    assert answers_of(folder, store, [4], PIECES) == {}
    for entry in store.entries():
        store.remove(entry.address)
    assert answers_of(folder, store, [3], PIECES) == {}
