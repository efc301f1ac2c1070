from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import StoreError
from erasure.store import Store, address, file_digest

_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_json = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
_mappings = st.dictionaries(st.text(), _json, min_size=1, max_size=5)


def _reversed(value):
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None)  # other work on the machine must not fail a test
@given(_mappings)
def test_an_address_does_not_depend_on_the_order_of_keys(content):
    assert address("model", content) == address("model", _reversed(content))


@settings(deadline=None)  # other work on the machine must not fail a test
@given(_mappings, _json, st.data())
def test_an_address_changes_with_any_value(content, other, data):
    key = data.draw(st.sampled_from(sorted(content)))
    changed = {**content, key: other}
    same = json.dumps(changed[key], sort_keys=True) == json.dumps(content[key], sort_keys=True)
    assert (address("model", content) == address("model", changed)) is same


@settings(deadline=None)  # other work on the machine must not fail a test
@given(_json)
def test_an_address_survives_a_round_trip_through_json(content):
    assert address("model", content) == address("model", json.loads(json.dumps(content)))


def test_an_address_depends_on_the_kind():
    assert address("model", {}) != address("rows", {})


def test_an_address_is_the_digest_that_the_format_promises():
    text = '{"content":{"a":[1,2.5,"é"],"b":null},"format":1,"kind":"model"}'
    assert address("model", {"b": None, "a": (1, 2.5, "é")}) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"optimizer": {"lr": float("nan")}}, "content.optimizer.lr is nan"),
        ({"lr": [0.1, float("inf")]}, r"content.lr\[1\] is inf"),
        ({"seeds": {1: 2}}, "content.seeds has the key 1"),
        ({"seeds": {1, 2}}, "content.seeds is a set"),
        ({"name": "\ud800"}, "content.name is .* not valid Unicode"),
    ],
)
def test_content_without_a_json_form_is_refused_by_name(content, named):
    with pytest.raises(StoreError, match=named):
        address("model", content)


@pytest.mark.parametrize("text", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_what_is_not_an_address_never_becomes_a_path(tmp_path, text):
    with pytest.raises(StoreError, match="64 hexadecimal digits"):
        Store(tmp_path).contains(text)


def test_a_file_digest_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()
