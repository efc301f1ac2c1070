"""Comparing real runs: three training seeds of two data sets, with a method that does damage and one that does next to nothing."""

import json

import pytest
from small import command, small_experiment

METHODS = [
    "GoldModel",
    {"class": "SSD", "parameters": {"selection_weighting": 1e-6, "dampening_constant": 0.0}},  # every weight becomes zero
    {"class": "Finetuning", "parameters": {"epochs": 1, "optimizer": {"class": "SGD", "parameters": {"lr": 1e-4}}}},
    "Identity",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of the runs of three seeds of each data set."""
    folder = tmp_path_factory.mktemp("compare")
    found = {}
    for dataset in ("breast_cancer", "wine"):
        configuration = small_experiment(name=f"small_{dataset}", unlearners=METHODS)
        configuration["data"]["data_source"]["parameters"]["name"] = dataset
        configuration["evaluator"]["floor_repeats"] = 4  # with fewer, three originals can accuse nobody
        path = folder / f"{dataset}.json"
        path.write_text(json.dumps(configuration), encoding="utf-8")
        for seed in range(3):
            where = folder / f"{dataset}_{seed}"
            options = ("--seed", seed, "--store", folder / "store", "--output", where, "--quiet", "--no-report")
            done = command("run", path, *options, cwd=folder)
            assert done.returncode == 0, done.stderr
            found[dataset, seed] = where
    return found


@pytest.fixture(scope="module")
def compared(runs):
    done = command("compare", *runs.values(), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_damage_is_named_a_real_difference(compared):
    losses = {(duel["label"], duel["problem"]) for duel in compared["duels"] if duel["outcome"] == "loss" and duel["is_gapped"]}
    assert losses == {("SSD", "breast_cancer"), ("SSD", "wine")}
    assert all(duel["p"] <= 0.05 for duel in compared["duels"] if duel["outcome"] != "tie")
    overall = compared["rankings"][0]
    assert overall["blocks"] == 6
    assert max(overall["ranks"], key=overall["ranks"].get) == "SSD"


def test_doing_next_to_nothing_ties_with_doing_nothing(compared):
    assert any({"Finetuning", "Identity"} <= set(group) for group in compared["rankings"][0]["indistinguishable"])
    ties = [duel for duel in compared["duels"] if duel["label"] in {"Finetuning", "Identity"} and duel["is_gapped"]]
    assert len(ties) == 2 * 2 * 5
    assert {duel["outcome"] for duel in ties} == {"tie"}


def test_against_a_method_who_is_better_wins(runs):
    done = command("compare", *runs.values(), "--against", "SSD", "--json")
    found = json.loads(done.stdout)
    wins = {duel["label"] for duel in found["duels"] if duel["outcome"] == "win" and duel["is_gapped"]}
    assert wins == {"GoldModel", "Finetuning", "Identity"}


def test_the_changed_node_and_its_effect_are_found(runs, tmp_path):
    old = runs["wine", 0]
    folder = old.parent
    options = ("--store", folder / "store", "--output", tmp_path / "new", "--quiet", "--no-report")
    change = ("--set", "unlearners[1].parameters.selection_weighting=1e6")
    done = command("run", folder / "wine.json", *options, *change, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(command("compare", old, tmp_path / "new", "--json").stdout)
    (changes,) = found["changes"]
    assert [(n["path"], n["old"], n["new"]) for n in changes["nodes"]] == [
        ("unlearners[1].parameters.selection_weighting", 1e-06, 1e6)
    ]
    judged = {
        (v["label"], v["measure"], v["partition"]): v["judgement"] for v in changes["values"] if v["unit"] not in {"s", "MiB"}
    }
    assert judged["SSD", "accuracy", "retain"] == "changed"
    assert {judgement for key, judgement in judged.items() if key[0] != "SSD"} == {"same"}


def test_the_terminal_and_the_page_say_the_same(runs, tmp_path):
    pytest.importorskip("jinja2", reason="the extra report is not installed")
    done = command("compare", *runs.values(), "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "loss: SSD, accuracy retain on wine: differs from retrained models" in done.stdout
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "differs from retrained models" in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_folder_without_results_is_refused(tmp_path):
    done = command("compare", tmp_path)
    assert done.returncode == 2
    assert "there are no results" in done.stderr
