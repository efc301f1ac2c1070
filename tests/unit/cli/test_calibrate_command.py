"""``erasure calibrate``: the configuration's own golds play its methods."""

import json

import pytest


@pytest.fixture
def judged(tiny):
    configuration = tiny(unlearners=["GoldModel", "Identity", {"class": "Finetuning", "parameters": {"epochs": 1}}])
    measures = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "retain")]
    configuration["evaluator"] = {"measures": measures, "floor_repeats": 5}
    return configuration


def test_it_says_how_often_a_retrained_model_is_accused_and_what_is_found(cli, write_config, judged, tmp_path):
    arguments = ("calibrate", write_config(judged), "--golds", 9, "--draws", 20, "--quiet", "--store", tmp_path / "store")
    code, out, _ = cli(*arguments)
    assert code == 0
    assert "1 original with 5 further golds, 1 method judged together; 20 reports from 9 golds" in out
    assert "at most 5 % are promised" in out
    assert "“not told apart” in " in out
    assert "NLL on forget" in out
    assert not (tmp_path / "runs").exists()
    found = json.loads(cli(*arguments, "--json")[1])
    assert found["draws"] == sum(found["findings"].values()) == 20
    assert [value["measure"] for value in found["values"]] == ["NLL", "NLL"]


def test_it_refuses_what_cannot_be_calibrated(cli, write_config, judged, tmp_path):
    store = ("--store", tmp_path / "store")
    assert "leaves too few of 4" in cli("calibrate", write_config(judged), "--golds", 4, *store)[2]
    assert "no method is judged" in cli("calibrate", "config.jsonc", "--set", "evaluator.floor_repeats=0", *store)[2]
    assert "there is no method" in cli("calibrate", "config.jsonc", "--set", "unlearners=[]", *store)[2]
