"""Which values are marked as best, as ties and as second."""

from dataclasses import replace

from report_rows import method, references, row, with_jury

from erasure.analysis.gaps import RolePartitions
from erasure.analysis.result_table import result_table
from erasure.analysis.verdicts import judge_all


def table_of(rows, exact=()):
    return result_table(rows, judge_all(with_jury(rows), RolePartitions(), {}, exact))


def marks(table, column=0):
    return {line.label: line.cells[column].mark for line in table.lines}


def test_the_smallest_gap_is_best_and_the_next_second():
    table = table_of([*references(), *method("a", forget=0.93), *method("b", forget=0.95), *method("c", forget=0.96)])
    assert marks(table) == {"original": "", "gold": "", "a": "best", "b": "second", "c": ""}


def test_values_that_do_not_tell_from_retrained_models_tie():
    table = table_of([*method("a", forget=0.901), *method("b", forget=0.905), *method("c", forget=0.93)])
    assert marks(table) == {"a": "best", "b": "tie", "c": "second"}
    assert [line.cells[0].is_apart for line in table.lines] == [False, False, True]
    assert table.records()[0]["differs"] is False and table.records()[-3]["p"] < 0.05


def test_a_value_that_differs_from_retrained_models_is_never_better_than_one_that_does_not():
    rows = [*method("a", forget=0.93), *method("b", forget=0.905)]
    # The gap to the gold shown says otherwise: it is one model, and the test has the jury.
    rows = [replace(each, gap={"a": 0.001, "b": 0.01}[each.label]) if each.partition == "forget" else each for each in rows]
    table = table_of(rows)
    assert [line.cells[0].is_apart for line in table.lines] == [True, False]
    assert marks(table) == {"a": "second", "b": "best"}


def test_retraining_and_useless_methods_do_not_compete():
    rows = [
        *method("GoldModel"),
        *method("nothing", forget=0.90, status="no-op"),
        *method("broken", forget=0.90, retain=0.5),
        *method("a", forget=0.95),
    ]
    assert marks(table_of(rows, exact=["GoldModel"])) == {"GoldModel": "", "nothing": "", "broken": "", "a": "best"}


def test_costs_are_ranked_by_their_direction():
    rows = [*method("a"), *method("b")]
    rows += [
        row(label, "RunTime", "", value, gold=None, noise_floor=None, direction="lower", ideal=None)
        for label, value in (("a", 3.0), ("b", 2.0))
    ]
    assert marks(table_of(rows), column=3) == {"a": "second", "b": "best"}


def test_a_column_has_its_gold_and_the_mean_floor():
    table = table_of([*method("a"), *method("a", noise_floor=0.03, seed_train=1)])
    assert table.columns[0].gold == 0.90
    assert table.columns[0].floor == 0.02


def test_intervals_are_shown_for_repetitions_only():
    one = table_of([row("a", value=0.9, low=0.8, high=1.0)])
    two = table_of([row("a", value=v, low=0.8, high=1.0, n=2, seed_train=s) for s, v in enumerate((0.85, 0.95))])
    assert one.lines[0].cells[0].half is None
    assert abs(two.lines[0].cells[0].half - 0.1) < 1e-12


def test_a_failed_value_is_named_in_its_cell():
    table = table_of([*method("a"), row("b", value=None, status="failed", reason="no")])
    assert table.lines[1].cells[0].note == "failed"
    assert table.lines[1].cells[1].note == ""
