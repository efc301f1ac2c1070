"""Further golds have rows of their own, which files keep and tables do not show."""

import pytest
from small import small_experiment

from erasure.analysis.families import families_of
from erasure.analysis.gaps import RolePartitions
from erasure.experiment.configuration import load_experiment
from erasure.records.rows import read_rows
from erasure.records.run_folder import RunFolder
from erasure.reports.results import Results
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jury")
    measures = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "test")]
    configuration = small_experiment(unlearners=["Identity"], evaluator={"measures": measures, "floor_repeats": 3})
    options = RunOptions(store=folder / "store", output=folder / "out", report=False)
    return run_experiment(load_experiment(configuration), options), folder / "out"


def test_every_further_gold_has_a_row_for_each_value(run):
    results, _ = run
    assert [(row.number, row.partition) for row in results.jury] == [(k, p) for k in (1, 2, 3) for p in ("forget", "test")]
    assert {row.model_role for row in results.jury} == {"gold"}
    assert {row.gap for row in results.jury} == {None}
    for row in results.rows:
        if row.model_role == "unlearned":
            others = [each.value for each in results.jury if each.partition == row.partition]
            assert row.noise_floor == pytest.approx(max(abs(value - row.gold) for value in others))


def test_the_gold_shown_is_number_zero_and_other_models_have_none(run):
    results, _ = run
    assert {row.number for row in results.rows if row.model_role == "gold"} == {0}
    assert {row.number for row in results.rows if row.model_role != "gold"} == {None}


def test_files_keep_them_and_tables_do_not_show_them(run):
    results, output = run
    assert read_rows(output) == [*results.rows, *results.jury]
    for found in (RunFolder.load(output), Results.load(output)):
        assert tuple(found.rows) == results.rows
        assert tuple(found.jury) == results.jury
    assert Results.load(output).value("accuracy", "test") == results.value("accuracy", "test")


def test_the_curves_of_further_golds_are_in_the_band_around_gold(run):
    _, output = run
    (group,) = RunFolder.load(output).groups
    assert group.rocs.gold.n == 4


def test_shared_golds_have_rows_once_and_their_originals_are_one_block(tmp_path):
    measures = [{"class": "NLL", "parameters": {"partition": name}} for name in ("forget", "retain")]
    evaluator = {"measures": measures, "floor_repeats": 4, "shared_golds": True}
    configuration = small_experiment(unlearners=[{"class": "Finetuning", "parameters": {"epochs": 1}}], evaluator=evaluator)
    options = RunOptions(store=tmp_path / "store", axes={"train": (0, 1, 2)})
    results = run_experiment(load_experiment(configuration), options)
    assert len(results.jury) == 4 * 2
    assert {row.seed_train for row in results.jury} == {None}
    family = families_of([*results.rows, *results.jury], RolePartitions())[0]["Finetuning"]
    assert family.design.blocks == ((3, 4),)
    assert family.units == [(0, 0), (0, 1), (0, 2)]
    mine = [row.value for row in results.rows if row.model_role == "unlearned" and row.partition == "forget"]
    golds = [row.value for row in results.jury if row.partition == "forget"]
    assert family.values[:, 0].tolist() == [*mine, *golds]
    assert family.apart(0) == pytest.approx([value - sum(golds) / 4 for value in mine])
