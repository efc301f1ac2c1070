"""``erasure explain``."""

import json

import pytest

import erasure
from erasure.store import Store

PARTS = [
    {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
    {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
]


@pytest.fixture(scope="module")
def two_settings(tmp_path_factory):
    """A store with one experiment under two numbers of epochs; tests only read it."""
    store = tmp_path_factory.mktemp("explain") / "store"
    for epochs in (1, 2):
        configuration = {
            "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": PARTS},
            "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [4]}}, "epochs": epochs},
            "unlearners": ["Identity"],
            "evaluator": {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}], "floor_repeats": 0},
        }
        erasure.run(configuration, store=store)
    return store


def addresses(store, kind):
    return [entry.address for entry in Store(store).entries() if entry.kind == kind]


def test_one_address_shows_its_content_and_inputs(cli, two_settings):
    where = addresses(two_settings, "unlearned")[0]
    code, out, _ = cli("explain", where[:8], "--store", two_settings)
    assert code == 0
    assert out.startswith(f"unlearned {where} is made of\n")
    assert '"class": "unlearner:Identity"' in out
    assert ": model\n" in out
    record = json.loads(cli("explain", where, "--store", two_settings, "--json")[1])
    assert record["content"]["seed"] == Store(two_settings).open(where).content["seed"]
    assert {"path": "original", "kind": "model"}.items() <= record["inputs"][0].items()


def test_two_addresses_differ_because_of_the_epochs(cli, two_settings):
    one, other = addresses(two_settings, "unlearned")
    code, out, _ = cli("explain", one[:8], other[:8], "--store", two_settings)
    assert code == 0
    assert out.splitlines()[0] == f"unlearned {one[:12]} and {other[:12]} differ in"
    assert "  original: model " in out.splitlines()[1]
    assert "    predictor.parameters.epochs: " in out.splitlines()[2]
    record = json.loads(cli("explain", one, other, "--store", two_settings, "--json")[1])
    (found,) = record["differences"]
    assert found["path"] == "original"
    assert [(item["path"], {item["one"], item["other"]}) for item in found["because"]] == [
        ("predictor.parameters.epochs", {1, 2})
    ]


def test_a_measured_value_is_followed_to_the_same_cause(cli, two_settings):
    store = Store(two_settings)
    one, other = (where for where in addresses(two_settings, "values") if store.open(where).content["role"] == "unlearned")
    lines = cli("explain", one, other, "--store", two_settings)[1].splitlines()
    assert lines[1].startswith("  model: unlearned ")
    assert lines[2].startswith("    original: model ")
    assert lines[3].startswith("      predictor.parameters.epochs: ")
    assert len(lines) == 4


def test_an_address_and_itself_are_the_same(cli, two_settings):
    where = addresses(two_settings, "data")[0]
    assert cli("explain", where, where[:7], "--store", two_settings)[1] == f"data {where[:12]}: both are the same\n"


def test_addresses_of_two_kinds_say_so(cli, two_settings):
    out = cli("explain", addresses(two_settings, "data")[0], addresses(two_settings, "split")[0], "--store", two_settings)[1]
    assert "is data, " in out
    assert "is split; their contents differ in" in out
    assert "absent" in out


def test_an_unknown_address_is_bad_input(cli, two_settings):
    code, _, err = cli("explain", "0" * 64, "--store", two_settings)
    assert code == 2
    assert "no object in" in err
