"""A plan says what its design can find, and a budget gets a design."""

import json

import pytest


@pytest.fixture
def judged(tiny):
    configuration = tiny(unlearners=["GoldModel", "Identity", {"class": "Finetuning", "parameters": {"epochs": 1}}])
    configuration["evaluator"]["floor_repeats"] = 3
    return configuration


def test_a_plan_says_that_it_can_accuse_nobody_and_what_would_be_enough(cli, write_config, judged, tmp_path):
    code, out, _ = cli("plan", write_config(judged), "--store", tmp_path / "store")
    assert code == 0
    assert "1 original with 3 further golds, 1 method judged together: 4 labellings" in out
    assert "nobody can be accused" in out
    enough = out.partition("Enough would be ")[2]
    options = enough.partition(",")[0].split()
    code, out, _ = cli("plan", "config.jsonc", *options, "--json", "--store", tmp_path / "store")
    assert json.loads(out)["design"]["basis"] == "t"


def test_more_seeds_and_golds_find_smaller_shifts(cli, write_config, judged, tmp_path):
    options = ("--seeds", "0-4", "--set", "evaluator.floor_repeats=4", "--json", "--store", tmp_path / "store")
    design = json.loads(cli("plan", write_config(judged), *options)[1])["design"]
    assert (design["originals"], design["golds"], design["labellings"], design["basis"]) == (5, 4, 3125, "labellings")
    assert 1.5 < design["detectable_shift_sd"] < 2.5


def test_a_budget_needs_a_price(cli, write_config, judged, tmp_path):
    code, _, err = cli("plan", write_config(judged), "--for", "30min", "--store", tmp_path / "store")
    assert code != 0
    assert "run it once" in err


def test_a_budget_is_spent_on_a_design_that_fits(cli, write_config, judged, tmp_path):
    assert cli("run", write_config(judged), "--quiet", "--no-report", "--store", tmp_path / "store")[0] == 0
    code, out, _ = cli("plan", "config.jsonc", "--for", "1h", "--json", "--store", tmp_path / "store")
    assert code == 0
    designs = json.loads(out)["designs"]
    assert designs
    assert all(each["estimated_s"] <= 3600 for each in designs)
    assert designs[0]["originals"] > 1
    code, out, _ = cli("plan", "config.jsonc", "--for", "1h", "--store", tmp_path / "store")
    assert f"--seeds 0-{designs[0]['originals'] - 1}" in out
    code, _, err = cli("plan", "config.jsonc", "--for", "0s", "--store", tmp_path / "store")
    assert code != 0
    assert "no design that could accuse a method fits" in err


def test_a_time_is_a_number_with_a_unit(cli, write_config, judged):
    assert "write for example 90s, 30min or 2h" in cli("plan", write_config(judged), "--for", "soon")[2]
