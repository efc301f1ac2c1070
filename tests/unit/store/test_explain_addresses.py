"""What an address is made of, and why two differ."""

from __future__ import annotations

import pytest

from erasure.errors import StoreError
from erasure.store import address
from erasure.store.explain import ABSENT, ContentDifference, differences, inputs, made_of


def publish(store, kind, content, **facts):
    where = address(kind, content)
    with store.publish(where, kind, content) as writer:
        writer.save_json("x", 1)
        writer.facts |= facts
    return where


def chain(store, lr=0.1, epochs=5, seed=0):
    """A model, an unlearned one, its value; as the engine's stages depend on one another."""
    model = publish(store, "model", {"lr": lr, "layers": [4, 2]})
    unlearned = publish(store, "unlearned", {"original": model, "epochs": epochs, "seed": seed})
    return publish(store, "values", {"model": unlearned, "references": {"original": model}, "note": None})


def test_inputs_are_the_addresses_in_a_content_with_their_kinds(store):
    where = chain(store)
    content = made_of(store, where).content
    unknown = "0" * 64
    found = inputs(store, {**content, "other": [unknown]})
    assert [(item.path, item.kind, item.is_stored) for item in found] == [
        ("model", "unlearned", True),
        ("references.original", "model", True),
        ("other[0]", "", False),
    ]


def test_equal_contents_do_not_differ(store):
    one = made_of(store, chain(store))
    assert differences(store, one, one) == []


def test_a_difference_is_followed_to_its_cause(store):
    one, other = (made_of(store, chain(store, epochs=epochs)) for epochs in (5, 6))
    (found,) = differences(store, one, other)
    assert (found.path, found.kind) == ("model", "unlearned")
    assert found.because == (ContentDifference("epochs", 5, 6),)


def test_a_cause_that_several_share_is_explained_once(store):
    one, other = (made_of(store, chain(store, lr=lr)) for lr in (0.1, 0.2))
    model, references = differences(store, one, other)
    (original,) = model.because
    assert (original.path, original.because) == ("original", (ContentDifference("lr", 0.1, 0.2),))
    assert (references.path, references.because, references.explained_before) == ("references.original", (), True)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, [ContentDifference("a", 1, 1.0)]),
        ({"a": True}, {"a": 1}, [ContentDifference("a", True, 1)]),
        ({"a": None}, {}, [ContentDifference("a", None, ABSENT)]),
        ({}, {"b": {"c": 1}}, [ContentDifference("b", ABSENT, {"c": 1})]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, [ContentDifference("a[1]", 2, 3), ContentDifference("a[2]", ABSENT, 4)]),
        ({"a": {"b": 1}}, {"a": [1]}, [ContentDifference("a", {"b": 1}, [1])]),
        ([1], {"a": 1}, [ContentDifference("", [1], {"a": 1})]),
    ],
    ids=str,
)
def test_every_kind_of_difference_is_found(store, one, other, expected):
    found = differences(store, *(made_of(store, publish(store, "x", content)) for content in (one, other)))
    assert found == expected
    assert [(type(item.one), type(item.other)) for item in found] == [(type(item.one), type(item.other)) for item in expected]


def test_addresses_of_different_kinds_are_not_compared_further(store):
    one, other = publish(store, "model", {"a": 1}), publish(store, "data", {"a": 2})
    found = differences(store, *(made_of(store, publish(store, "x", {"of": where})) for where in (one, other)))
    assert found == [ContentDifference("of", one, other)]


def test_partitions_are_explained_by_the_split_that_names_them(store):
    data = publish(store, "data", {"source": "iris"})
    lineage = {seed: address("partition", {"above": data, "seed": seed}) for seed in (0, 1)}
    for seed, where in lineage.items():
        explains = {where: {"kind": "partition", "content": {"above": data, "seed": seed}}}
        publish(store, "split", {"partitions": {"train": where}}, explains=explains)
    one, other = (made_of(store, publish(store, "model", {"train": lineage[seed]})) for seed in (0, 1))
    (found,) = differences(store, one, other)
    assert (found.kind, found.because) == ("partition", (ContentDifference("seed", 0, 1),))
    (item,) = inputs(store, one.content)
    assert (item.kind, item.is_stored) == ("partition", False)
    assert made_of(store, lineage[0]).content == {"above": data, "seed": 0}


@pytest.mark.parametrize("explains", [7, ["x"], {"a": 7}, {"b": {}}, None])
def test_facts_of_another_shape_explain_nothing(store, explains):
    publish(store, "split", {"a": 1}, explains=explains)
    assert inputs(store, {"x": "1" * 64})[0].kind == ""


def test_an_address_that_nothing_knows_is_an_error(store):
    with pytest.raises(StoreError, match=r"Nothing in the store .* says what 1111"):
        made_of(store, "1" * 64)


def test_a_damaged_object_is_an_error(store):
    where = publish(store, "model", {"a": 1})
    (store.root / "objects" / where[:2] / where / "manifest.json").write_bytes(b"{")
    with pytest.raises(StoreError, match="corrupt"):
        made_of(store, where)
