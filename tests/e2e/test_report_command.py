"""The report of real runs: what is kept beside the rows is true, and the command makes every file."""

import csv
import json
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from small import command, small_experiment

import erasure
from erasure.store import Store

pytest.importorskip("vl_convert", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two seeds, a trace and two settings of one method."""
    folder = tmp_path_factory.mktemp("run")
    methods = [
        "GoldModel",
        {"class": "SSD", "parameters": {"selection_weighting": 2.0}},
        {"class": "SSD", "parameters": {"selection_weighting": 5.0}},
        {"class": "Finetuning", "parameters": {"epochs": 2}},
        "Identity",
    ]
    configuration = small_experiment(unlearners=methods)
    configuration["evaluator"]["trace"] = {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}]}
    path = folder / "small.jsonc"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    done = command("run", path, "--store", folder / "store", "--output", folder / "out", "--seeds", "0,1", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def kept(run):
    return json.loads((run / "out" / "report.json").read_bytes())


def test_a_run_ends_with_its_report(run):
    text = (run / "out" / "report.html").read_text("utf-8")
    assert "Verdict on each method" in text
    assert len(text) < 5_000_000


def test_what_was_forgotten_is_counted_from_the_partitions(run, kept):
    (group,) = kept["groups"]
    sizes = {p["name"]: p["n"] for p in group["partitions"]}
    assert (group["forget"], group["retain"], group["heldout"], group["training"]) == ("forget", "retain", "test", "train")
    assert group["forgotten"]["n"] == sizes["forget"]
    assert sum(each["forget"] for each in group["forgotten"]["classes"]) == sizes["forget"]
    assert sum(each["training"] for each in group["forgotten"]["classes"]) == sizes["train"] == sizes["forget"] + sizes["retain"]


def test_every_sample_is_in_every_histogram(kept):
    (group,) = kept["groups"]
    sizes = {p["name"]: p["n"] for p in group["partitions"]}
    for quantity in ("losses", "confidences"):
        series = group[quantity]["series"]
        assert len(series) == 7 * 3
        assert all(sum(each["counts"]) == each["n"] == sizes[each["partition"]] for each in series)


def stored_losses(store, group, kept, label, partition):
    """Losses by a second way: every object of the store that was computed from the model and has as many samples."""
    model = next(m["address"] for m in kept["models"] if m["label"] == label and m["seed"] == group["seed"])
    n = next(p["n"] for p in group["partitions"] if p["name"] == partition)
    for address in store.addresses():
        artifact = store.open(address)
        if artifact.kind == "outputs" and artifact.content["model"] == model:
            losses = artifact.tensors("outputs")["losses"]
            if len(losses) == n:
                return losses.numpy().astype(np.float64)
    raise AssertionError(f"no outputs of {label} on {partition}")


@pytest.mark.parametrize("label", ["original", "gold", "Finetuning"])
def test_the_curve_of_the_loss_attack_is_that_of_an_independent_library(run, kept, label):
    (group,) = kept["groups"]
    store = Store(run / "store")
    forget, heldout = (stored_losses(store, group, kept, label, p) for p in ("forget", "test"))
    scores, truth = -np.concatenate([forget, heldout]), np.r_[np.ones(len(forget)), np.zeros(len(heldout))]
    curve = next(each for each in group["rocs"]["series"] if each["label"] == label)
    assert curve["auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    for fpr, tpr in zip(group["rocs"]["fpr"], curve["tpr"], strict=True):
        best = max((forget < t).mean() for t in [*heldout, np.inf] if (heldout < t).mean() <= fpr + 1e-9)
        assert tpr == pytest.approx(best)
    assert group["rocs"]["gold"]["n"] == 2


def test_accuracy_by_class_adds_up_to_the_accuracy_of_the_rows(run, kept):
    (group,) = kept["groups"]
    results = erasure.Results.load(run / "out")
    for row in group["classes"]["rows"]:
        if row["partition"] == "forget":
            counts = {each["class"]: each["forget"] for each in group["forgotten"]["classes"]}
            pairs = zip(group["classes"]["names"], row["values"], strict=True)
            right = sum(value * counts[name] for name, value in pairs if value is not None)
            wanted = next(
                r.value
                for r in results
                if (r.label, r.measure, r.partition, r.seed_train) == (row["label"], "accuracy", "forget", group["seed"])
            )
            assert right / sum(counts.values()) == pytest.approx(wanted)


def test_layers_changed_where_weights_did(run, kept):
    (group,) = kept["groups"]
    changes = {row["label"]: row["values"] for row in group["layers"]["rows"]}
    assert set(changes["Identity"]) == {0.0}
    assert all(value > 0 for value in changes["gold"])
    store = Store(run / "store")
    addresses = {m["label"]: m["address"] for m in kept["models"] if m["seed"] == group["seed"]}
    before, after = (store.open(addresses[label]).tensors("model") for label in ("original", "Finetuning"))
    layer = group["layers"]["names"][0]
    old, new = (np.concatenate([t[k].numpy().ravel() for k in sorted(t) if k.startswith(f"{layer}.")]) for t in (before, after))
    assert changes["Finetuning"][0] == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-5)


def test_least_forgotten_samples_have_the_smallest_loss_beside_gold(kept):
    (group,) = kept["groups"]
    for side in group["samples"]:
        differences = [loss - gold for loss, gold in zip(side["loss"], side["gold"], strict=True)]
        assert differences == sorted(differences, reverse=side["side"] == "most")


def test_the_command_to_reproduce_is_whole_and_shows_no_path_of_the_machine(run, kept):
    assert kept["command"].get("note", "") == ""
    assert kept["command"]["text"].startswith("erasure run small.jsonc --seeds 0,1 --device cpu")
    assert str(run) not in json.dumps(kept)
    assert kept["configuration"]["files"][0]["file"] == "small.jsonc"


def test_no_sample_leaves_the_store_unasked(run, kept):
    assert "image/png" not in (run / "out" / "report.html").read_text("utf-8")
    assert "mean radius" not in (run / "out" / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def everything(run, tmp_path_factory):
    """A folder with all that the command writes of the run at once, and what it said."""
    where = tmp_path_factory.mktemp("everything")
    pictures, tables = ("--figures", where / "f", "--formats", "svg"), ("--tables", where / "t")
    options = ("--json", "--with-samples", "--store", run / "store", *pictures, *tables, "--output", where / "p.html")
    done = command("report", run / "out", *options)
    assert done.returncode == 0, done.stderr
    return where, done.stdout


def test_samples_are_shown_when_asked_for(everything):
    assert "mean radius" in (everything[0] / "p.html").read_text("utf-8")


def test_overrides_make_the_command_incomplete_and_it_says_so(run, tmp_path):
    changed = ("--set", "evaluator.floor_repeats=0", "--set", "evaluator.trace=null")
    options = ("--store", run / "store", "--output", tmp_path / "out", *changed, "--quiet", "--no-report")
    assert command("run", "small.jsonc", *options, cwd=run).returncode == 0
    found = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert "--set" in found["command"]["note"]
    assert found["configuration"]["canonical"]["evaluator"]["parameters"]["floor_repeats"] == 0


def test_the_command_writes_figures_tables_and_the_bibliography(everything):
    where, _ = everything
    drawn = {path.stem for path in (where / "f").glob("*.svg")}
    behaviour = {"loss", "confidence", "roc", "by_class", "layers", "trace"}
    assert drawn == {"tradeoff", "values", "differences", "ranks", "costs", "sensitivity"} | behaviour
    assert {path.stem for path in (where / "f").glob("*.csv")} == drawn
    with (where / "f" / "sensitivity.csv").open(newline="") as file:
        assert {float(record["parameter"]) for record in csv.DictReader(file)} == {2.0, 5.0}
    assert {path.name for path in (where / "t").iterdir()} == {
        "results.csv",
        "results.parquet",
        "results.md",
        "results.tex",
        "references.bib",
    }
    assert "eprint = {2302.09880}" in (where / "t" / "references.bib").read_text("utf-8")  # U-MIA's paper


def brief(run, path, **more):
    """The configuration of that run with fewer methods and without a trace; its models are in the store."""
    configuration = json.loads((run / "small.jsonc").read_text("utf-8")) | more
    configuration["unlearners"] = [each for each in configuration["unlearners"] if "SSD" not in str(each)]
    del configuration["evaluator"]["trace"]
    path.write_text(json.dumps(configuration), encoding="utf-8")
    return path


def test_seeds_of_an_axis_alone_are_options_of_the_command(run, tmp_path):
    brief(run, tmp_path / "small.jsonc")
    seeds = ("--train-seeds", "0,1", "--unlearn-seeds", "3,4")
    options = ("--store", run / "store", "--output", tmp_path / "out", *seeds, "--quiet")
    assert command("run", "small.jsonc", *options, cwd=tmp_path).returncode == 0
    text = json.loads((tmp_path / "out" / "report.json").read_bytes())["command"]["text"]
    assert text.startswith("erasure run small.jsonc --train-seeds 0,1 --unlearn-seeds 3,4 --device cpu")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Everything was repeated with 2 training seeds, each with 2 repetitions" in page
    assert "sd between training seeds" in page


def test_a_sweep_is_reported_as_one_run(run, tmp_path):
    sweep = {"over": {"unlearners[1].parameters.epochs": [1, 2]}, "seeds": {"train": [0, 1]}}
    path = brief(run, tmp_path / "swept.jsonc", sweep=sweep)
    done = command("sweep", path, "--store", run / "store", "--output", tmp_path / "out", "--quiet", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "whether any method here has forgotten is undecided" in done.stdout  # two originals with one further gold each
    assert "  Finetuning (epochs=" in done.stdout
    point = json.loads((tmp_path / "out" / "points" / "0" / "report.json").read_bytes())
    assert point["command"]["text"].startswith("erasure sweep swept.jsonc --train-seeds 0,1 ")
    assert "this one is epochs=1" in point["command"]["note"]
    figures = tmp_path / "figures"
    done = command("report", tmp_path / "out", "--json", "--figures", figures, "--formats", "svg")
    assert done.returncode == 0, done.stderr
    labels = {each["label"] for each in json.loads(done.stdout)["verdicts"]}
    assert {"Finetuning (epochs=1)", "Finetuning (epochs=2)", "Identity", "GoldModel"} == labels
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "The best of 2 settings was chosen by the values that it is judged by" in page
    with (figures / "sensitivity.csv").open(newline="") as file:
        records = [record for record in csv.DictReader(file) if record["panel"] == "Finetuning: epochs"]
    assert {record["parameter"] for record in records} == {"1", "2"}
    assert {record["kind"] for record in records} == {"mean", "repetition"}


def test_a_program_reads_the_verdicts_as_json(everything):
    where, said = everything
    found = json.loads(said)
    assert {each["label"]: each["verdict"] for each in found["verdicts"]}["Identity"] == "no-op"
    assert str(where / "p.html") in found["files"]
    assert found["recommendation"]


def test_a_wrong_folder_or_format_is_one_clear_error(run, tmp_path):
    assert "no file rows.parquet" in command("report", tmp_path).stderr
    done = command("report", run / "out", "--formats", "gif")
    assert done.returncode == 2
    assert '"gif" is no format; there are svg, png, pdf' in done.stderr


def test_a_failed_method_and_missing_pictures_cost_nothing_else(tmp_path):
    hopeless = {
        "class": "NegGrad",
        "label": "hopeless",
        "parameters": {"optimizer": {"class": "SGD", "parameters": {"lr": 1e30}}},
    }
    configuration = small_experiment(unlearners=[hopeless, {"class": "Finetuning", "parameters": {"epochs": 1}}])
    configuration["evaluator"] = {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}]}
    results = erasure.run(configuration, store=tmp_path / "store", output=tmp_path / "out")
    assert not results.is_sound
    found = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert {m["label"] for m in found["models"] if m.get("failed")} == {"hopeless"}
    assert {"rocs"} <= {each["what"] for each in found["missing"]}  # nobody looked at held-out samples
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "hopeless" in text
    assert ">failed<" in text


def test_without_the_extra_a_run_works_and_says_that_there_is_no_report(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    from erasure.experiment.configuration import load_experiment
    from erasure.workflows.options import RunOptions
    from erasure.workflows.run import run_experiment

    said = []
    configuration = small_experiment(unlearners=["Identity"])
    results = run_experiment(
        load_experiment(configuration),
        RunOptions(store=tmp_path / "store", output=tmp_path / "out"),
        lambda event: said.append(str(event)),
    )
    assert results.is_sound
    assert not (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "report.json").exists()
    assert any("erasure-unlearning[report]" in event for event in said)
