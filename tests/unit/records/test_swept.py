"""Settings of a sweep as one run: the same model once, others by what sets them apart."""

import csv
import json
import re
from dataclasses import replace

import pytest
from report_rows import evidence, jury_of, method, references

from erasure.analysis.overview import overview_of
from erasure.errors import StoreError
from erasure.records.evidence import CommandRecord, RunRecord, write_run_record
from erasure.records.figure_records import StoredOutputs
from erasure.records.rows import write_rows
from erasure.records.run_folder import RunFolder
from erasure.records.sweep_folder import Setting, merged_evidence, merged_jury, merged_rows, suffixes
from erasure.reports.exports import write_tables
from erasure.reports.figures.of_run import figures_of
from erasure.reports.page import page

PATH = "unlearners[1].parameters.optimizer.parameters.lr"


def setting(values, label, *, of_a="", of_original="", forget=0.9):
    """A run of methods a and b; the addresses of a, and of everything, may differ from other settings'."""
    kept = evidence("a", "b")
    for model in kept["models"]:
        model["address"] += of_original + (of_a if model["label"] == "a" else "")
        if "parameters" in model:
            model["parameters"] = {"lr": next(iter(values.values()))} if model["label"] == "a" else {}
    kept["experiment"] = f"sweep ({label})"
    kept["command"] = {"text": "erasure sweep x.jsonc", "note": f"this one is {label}"}
    rows = [*references(), *method("a", forget=forget), *method("b")]
    return Setting(label, values, rows, RunRecord.of(kept), jury_of(rows))


@pytest.fixture
def two():
    return [setting({PATH: lr}, f"lr={lr}", of_a=f"/{lr}", forget=0.9 + lr) for lr in (0.01, 0.1)]


def test_models_that_no_setting_changes_are_there_once(two):
    rows = merged_rows(two, suffixes(two))
    labels = [(row.label, row.partition) for row in rows]
    assert len(labels) == len(set(labels))
    assert {label for label, _ in labels} == {"original", "gold", "a (lr=0.01)", "a (lr=0.1)", "b"}
    values = {row.label: row.value for row in rows if row.partition == "forget"}
    assert (values["a (lr=0.01)"], values["a (lr=0.1)"]) == (0.91, 1.0)
    assert {row.experiment for row in rows} == {"sweep"}


def test_a_suffix_names_only_what_makes_the_difference():
    values = [(lr, alpha) for lr in (1, 2) for alpha in (3, 4)]
    settings = [
        setting({PATH: lr, "unlearners[2].parameters.alpha": alpha}, f"{lr} {alpha}", of_a=str(lr)) for lr, alpha in values
    ]
    assert [found["unlearned", "a"] for found in suffixes(settings)] == [" (lr=1)", " (lr=1)", " (lr=2)", " (lr=2)"]
    assert all(("unlearned", "b") not in found for found in suffixes(settings))


def test_evidence_has_every_model_once_and_series_under_the_same_names(two):
    kept = merged_evidence(two, suffixes(two))
    assert [model.label for model in kept.models] == ["original", "gold", "a (lr=0.01)", "b", "a (lr=0.1)"]
    (group,) = kept.repetitions
    assert [each.label for each in group.layers.rows] == ["a (lr=0.01)", "b", "a (lr=0.1)"]
    assert kept.command == CommandRecord(text="erasure sweep x.jsonc")
    assert [each.label for each in kept.sweep] == ["lr=0.01", "lr=0.1"]


def test_what_was_swept_is_a_parameter_whose_sensitivity_is_shown(two):
    names = suffixes(two)
    kept = merged_evidence(two, names)
    overview = overview_of(RunFolder(merged_rows(two, names), kept, jury=merged_jury(two, names)))
    figure = next(figure for figure in figures_of(overview) if figure.key == "sensitivity")
    assert {(record["method"], record["parameter"]) for record in figure.data} == {("a (lr=0.01)", 0.01), ("a (lr=0.1)", 0.1)}
    assert {record["panel"] for record in figure.data} == {"a: lr"}


def test_another_original_is_a_problem_of_its_own():
    path = "predictor.parameters.epochs"
    settings = [setting({path: n}, f"epochs={n}", of_original=f"/{n}") for n in (1, 2)]
    names = suffixes(settings)
    kept = merged_evidence(settings, names)
    assert {m.label for m in kept.models if m.role == "gold"} == {"gold (epochs=1)", "gold (epochs=2)"}
    assert [group.problem for group in kept.repetitions] == [" (epochs=1)", " (epochs=2)"]
    costs = {j.label: j.cost for j in overview_of(RunFolder(merged_rows(settings, names), kept)).verdicts}
    assert costs["a (epochs=1)"] == costs["a (epochs=2)"] == pytest.approx(0.15)
    assert {m.parameters[path] for m in kept.models if m.role == "unlearned"} == {1, 2}
    titles = [figure.title for figure in figures_of(overview_of(RunFolder(merged_rows(settings, names), kept)))]
    assert "Losses (epochs=2)" in titles


FORGET = "data.parameters.partitions[1].parameters.percentage"


@pytest.fixture
def two_forget_sets():
    """Two rates of a on each of two forget sets: it forgets with the larger rate on the first set, with the smaller on the second."""
    values = {(0.01, 0.1): 1.0, (0.1, 0.1): 0.9, (0.01, 0.2): 0.9, (0.1, 0.2): 1.0}
    return [
        setting({PATH: lr, FORGET: share}, f"lr={lr}, percentage={share}", of_a=f"/{lr}/{share}", forget=forget)
        for (lr, share), forget in values.items()
    ]


def test_methods_compete_on_one_forget_set_only(two_forget_sets):
    overview = overview_of(RunFolder.of_settings(two_forget_sets))
    assert [name for name, _ in overview.parts] == ["percentage=0.1", "percentage=0.2"]
    verdicts = [{j.label: j.finding for j in part.verdicts if j.label != "b"} for _, part in overview.parts]
    assert [{label for label, verdict in each.items() if verdict == "not-told-apart"} for each in verdicts] == [
        {"a (lr=0.1)"},
        {"a (lr=0.01)"},
    ]
    assert overview.best is None
    assert "[percentage=0.1]" in overview.recommendation
    assert "2 problems" in overview.headline


def test_a_model_that_meets_two_forget_sets_has_its_values_on_both(two_forget_sets):
    folder = RunFolder.of_settings(two_forget_sets)
    labels = {row.label for row in folder.rows}
    assert {"b (percentage=0.1)", "b (percentage=0.2)", "original (percentage=0.1)", "original (percentage=0.2)"} <= labels
    assert [{row.label for row in part.rows} for _, part in folder.problems] == [
        {"original", "gold", "a (lr=0.01)", "a (lr=0.1)", "b"}
    ] * 2


def test_what_every_model_said_is_found_again_under_its_name_in_the_sweep(two_forget_sets):
    settings = []
    for each in two_forget_sets:
        said = tuple(StoredOutputs(label=m.label, partition="forget", address=each.label) for m in each.evidence.models)
        groups = tuple(replace(group, outputs=said) for group in each.evidence.repetitions)
        settings.append(replace(each, evidence=replace(each.evidence, repetitions=groups)))
    groups = RunFolder.of_settings(settings).groups
    assert [group.problem for group in groups] == [" (percentage=0.1)", " (percentage=0.2)"]
    said = {entry.label: entry.address for group in groups for entry in group.outputs}
    assert said["a (lr=0.1, percentage=0.2)"] == "lr=0.1, percentage=0.2"
    assert {"original (percentage=0.1)", "b (percentage=0.2)", "a (lr=0.01, percentage=0.1)"} <= set(said)


def test_every_problem_has_its_own_figures_and_one_figure_goes_across(two_forget_sets):
    figures = figures_of(overview_of(RunFolder.of_settings(two_forget_sets)))
    keys = [figure.key for figure in figures]
    assert len(keys) == len(set(keys))
    assert {"tradeoff_problem_1", "tradeoff_problem_2", "values_problem_1", "sensitivity"} <= set(keys)
    across = next(figure for figure in figures if figure.key == "sensitivity")
    assert {record["panel"] for record in across.data} == {"a: percentage", "b: percentage"}
    assert {record["parameter"] for record in across.data} == {0.1, 0.2}


def test_a_page_of_two_problems_says_what_to_do_about_each_and_names_nothing_twice(two_forget_sets):
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    text = page(overview_of(RunFolder.of_settings(two_forget_sets)))
    assert text.count("a (lr=0.1) came nearest") == text.count("a (lr=0.01) came nearest") == 1
    identifiers = re.findall(r'\sid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert {"results-1", "results-2", "part-1", "across"} <= set(identifiers)


def test_tables_of_two_problems_are_written_apart(two_forget_sets, tmp_path):
    overview = overview_of(RunFolder.of_settings(two_forget_sets))
    write_tables(overview.table, tmp_path, parts=[(name, part.table) for name, part in overview.parts])
    with (tmp_path / "results.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert {record["problem"] for record in records} == {"percentage=0.1", "percentage=0.2"}
    assert (tmp_path / "results.md").read_text(encoding="utf-8").count("## percentage") == 2
    assert (tmp_path / "results.tex").read_text(encoding="utf-8").count(r"\toprule") == 2


def test_a_folder_of_a_sweep_is_read_setting_by_setting(two, tmp_path):
    for number, each in enumerate(two):
        where = tmp_path / "points" / str(number)
        where.mkdir(parents=True)
        write_rows(each.rows, where)
        write_run_record(each.evidence, where)
    points = [{"folder": str(n), "label": each.label, "settings": each.values} for n, each in enumerate(two)]
    (tmp_path / "points.json").write_text(json.dumps(points), encoding="utf-8")
    folder = RunFolder.load(tmp_path)
    assert {row.label for row in folder.rows if row.model_role == "unlearned"} == {"a (lr=0.01)", "a (lr=0.1)", "b"}
    assert folder.name == "sweep"


def test_a_folder_outside_the_sweep_is_not_read(two, tmp_path):
    (tmp_path / "points.json").write_text('[{"folder": "../../etc", "label": "x", "settings": {}}]', encoding="utf-8")
    with pytest.raises(StoreError, match="points/etc"):
        RunFolder.load(tmp_path)
    (tmp_path / "points.json").write_text('[{"label": 1}]', encoding="utf-8")
    with pytest.raises(StoreError, match="run the sweep again"):
        RunFolder.load(tmp_path)


def test_a_jury_seen_by_an_attack_of_a_method_goes_by_the_name_of_its_setting(two):
    golds = two[0].jury[0]
    seen = [
        replace(each, jury=[golds, replace(golds, value=float(number), label="a", unlearner="A", treated_like="unlearned")])
        for number, each in enumerate(two)
    ]
    found = merged_jury(seen, suffixes(seen))
    assert [(row.label, row.value) for row in found] == [
        (golds.label, golds.value),
        ("a (lr=0.01)", 0.0),
        ("a (lr=0.1)", 1.0),
    ]
