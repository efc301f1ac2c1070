"""Figures: what they are drawn from, and what they leave out."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from report_rows import evidence, method, references, with_jury

from erasure.analysis import judging
from erasure.analysis.equivalence import Limits
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.power import Detection
from erasure.analysis.verdicts import TITLES, Verdict, judge_all
from erasure.records.evidence import ModelRecord, RunRecord
from erasure.records.figure_records import Curve, Histogram, Histograms, Roc, Rocs
from erasure.records.run_folder import TracePoint
from erasure.reports.figures.labels import LONGEST, place_labels, short_labels
from erasure.reports.figures.models import by_class, distributions, layers, measured_rocs, rocs
from erasure.reports.figures.panels import Axis, Panels
from erasure.reports.figures.render import _drawable, _written
from erasure.reports.figures.retraining import memory_left, power_curve, relabelled
from erasure.reports.figures.settings import costs, sensitivity, trace
from erasure.reports.figures.theme import COLOURS, VERDICT_MARKS
from erasure.reports.figures.verdicts import seeds, tradeoff

ROLES = {"forget": "forget", "retain": "retain", "test": "test"}


def judged(*labels, **values):
    rows = with_jury([r for label in labels for r in method(label, **values)])
    return judge_all(rows, RolePartitions(), dict.fromkeys(labels, 0.1)).verdicts


def test_the_trade_off_is_in_standard_deviations_of_retraining_and_leaves_retraining_to_the_origin():
    rows = [*method("GoldModel"), *method("a", forget=0.92, test=0.965)]
    judgements = judge_all(with_jury(rows), RolePartitions(), {"a": 0.3}, ["GoldModel"]).verdicts
    figure = tradeoff(judgements)
    (point,) = figure.data
    assert (point["method"], point["cost"]) == ("a", 0.3)
    (own,) = (j for j in judgements if j.label == "a")
    forget, test = own.tested.difference("accuracy", "forget"), own.tested.difference("accuracy", "test")
    assert point["forgetting"] == pytest.approx(forget.amount / forget.gold_sd) == pytest.approx(8, abs=1)
    assert point["utility"] == pytest.approx(test.amount / test.gold_sd)


def test_there_is_no_trade_off_without_gold():
    assert tradeoff(judge_all(method("a"), RolePartitions()).verdicts) is None
    assert tradeoff([]) is None


def test_every_repetition_is_a_dot():
    rows = [r for seed in range(3) for r in method("a", forget=0.9 + seed / 100, seed_train=seed)]
    figure = seeds([*references(), *rows], ["a"])
    assert [(d["seed"], d["value"]) for d in figure.data if d["measure"] == "accuracy, forget"] == [
        (0, 0.9),
        (1, 0.91),
        (2, 0.92),
    ]
    assert "3 repetitions" in figure.caption


def test_gold_is_a_line_where_no_further_one_gives_it_a_band():
    rows = [*references(), *method("a", forget=0.9)]
    figures = [seeds(each, ["a"]) for each in (rows, [replace(row, noise_floor=None) for row in rows])]
    bands, lines = zip(*([layer["data"]["values"] for layer in figure.spec["layer"][-3:-1]] for figure in figures), strict=True)
    assert lines[0][0]["value"] == lines[1][0]["value"]
    assert bands[0][0]["value"] < lines[0][0]["value"] < bands[0][2]["value"]
    assert {point["value"] for point in bands[1] if point["line"] == point["column"] == 0} == {lines[1][0]["value"]}
    assert ["band" in figure.caption for figure in figures] == [True, False]


def test_of_very_many_repetitions_some_are_dots_and_all_are_data():
    rows = [r for seed in range(1500) for r in method("a", forget=0.8 + seed / 1e4, seed_train=seed)]
    figure = seeds([*references(), *rows], ["a"])
    drawn = [d for d in figure.spec["layer"][-1]["data"]["values"] if d["measure"] == "accuracy, forget"]
    assert len(drawn) == 1000
    assert (drawn[0]["value"], drawn[-1]["value"]) == (0.8, 0.8 + 1499 / 1e4)
    assert len(figure.data) == 4500
    assert "1000 dots for each method, evenly from its smallest to its largest value in 1500 repetitions" in figure.caption


def test_costs_are_means_and_keep_what_is_done_in_advance_apart():
    models = RunRecord.of(evidence("a")).models
    models = [*models, replace(models[2], seed=1, elapsed_s=3.0)]
    found = {(d["model"], d["quantity"], d["part"]): d["value"] for d in costs(models, [], ["a"]).data}
    assert found["a", "time [s]", "each request"] == 2.0
    assert found["a", "time [s]", "once, in advance"] == 0.5
    assert found["gold", "time [s]", "each request"] == 10.0


def test_sensitivity_needs_settings_of_one_method_that_differ_in_a_number():
    models = RunRecord.of(evidence("a", "b", "c")).models
    judgements = judged("a", "b", "c", forget=0.92)
    assert sensitivity(models, judgements) is None
    models = [
        replace(model, key="SSD", parameters={"alpha": float(number), "same": 1, "name": "x"})
        for number, model in enumerate(models[2:])
    ]
    figure = sensitivity(models, judgements)
    assert {d["panel"] for d in figure.data} == {"SSD: alpha"}
    assert [d["parameter"] for d in figure.data if d["question"] == "forgetting"] == [0.0, 1.0, 2.0]
    assert figure.data[0]["gap"] == pytest.approx(8, abs=1)
    many = [
        replace(j, tested=replace(j.tested, differences=[replace(d, apart=d.apart * 600) for d in j.tested.differences]))
        for j in judgements
    ]
    figure = sensitivity(models, many)
    assert len(figure.data) == 2 * 3 * 601
    assert len(figure.spec["concat"][0]["data"]["values"]) == 2 * 3 * 501
    assert "not all of them" in figure.caption


def test_the_trace_shows_one_repetition():
    points = [TracePoint(e, "a", "accuracy", "forget", 0.5, 0.4, seed) for seed in "01" for e in range(2)]
    assert len(trace(points, ["a"]).data) == 2
    assert trace([], ["a"]) is None


def test_the_trace_shows_the_epoch_that_was_kept():
    points = [TracePoint(e, label, "accuracy", "forget", 0.5, 0.4, "0") for label in "ab" for e in range(3)]
    models = [ModelRecord(label="a", role="unlearned", seed=0, chosen_epoch=1), ModelRecord(label="b", role="unlearned", seed=0)]
    figure = trace(points, ["a", "b"], models)
    assert [(d["method"], d["epoch"]) for d in figure.data if d["chosen"]] == [("a", 1)]
    assert "epoch that was kept" in figure.caption
    assert "kept" not in trace(points, ["a", "b"], models[1:]).caption


def test_distributions_are_shares_of_each_partition():
    losses = RunRecord.of(evidence("a")).repetitions[0].losses
    figure = distributions(losses, quantity="loss", order=["a"], roles=ROLES, gold="gold")
    mine = [d["share"] for d in figure.data if d["model"] == "a" and d["samples"] == "forgotten"]
    assert mine == [0.3, 0.7]
    empty = Histograms(edges=(0, 1), series=(Histogram(label="a", partition="forget", n=0, counts=(0,)),))
    assert distributions(empty, quantity="loss", order=["a"], roles=ROLES, gold=None) is None


def test_measured_curves_become_a_mean_with_a_range():
    def curve(label, role, tpr):
        return Curve(label=label, role=role, measure="LiRA", kind="roc", fpr=(0.0, 0.01, 0.1, 1.0), tpr=(0.0, *tpr, 1.0))

    curves = [curve("a", "unlearned", (0.2, 0.4)), curve("a", "unlearned", (0.4, 0.6)), curve("gold", "gold", (0.0, 0.1))]
    found = measured_rocs([*curves, Curve(label="a", role="unlearned", kind="bars", measure="x")])
    assert list(found) == ["LiRA"]
    (mine,) = [each for each in found["LiRA"].series if each.label == "a"]
    at = next(i for i, fpr in enumerate(found["LiRA"].fpr) if fpr >= 0.01 - 1e-12)
    assert (mine.low[at], mine.high[at]) == (0.2, 0.4)
    assert mine.tpr[at] == pytest.approx(0.3)
    assert found["LiRA"].gold.high[-1] == 1.0
    assert rocs(found["LiRA"], ["a"]).data[0]["model"] == "gold"


def test_a_curve_is_drawn_by_its_bends_and_kept_whole():
    grid = [0.001 * 10 ** (i / 10) for i in range(31)]
    tpr = [max(0.02, min(1.0, 4 * at)) for at in grid]
    figure = rocs(Rocs(fpr=tuple(grid), series=(Roc(label="a", tpr=tuple(tpr)),)), ["a"])
    assert [record["tpr"] for record in figure.data] == tpr
    chance, curve = (layer["data"]["values"] for layer in figure.spec["layer"][-2:])
    assert [(end["fpr"], end["tpr"]) for end in chance] == [(0.001, 0.001), (1.0, 1.0)]
    assert len(curve) <= 7
    x, y = ([math.log(record[field]) for record in curve] for field in ("fpr", "tpr"))
    assert np.interp(np.log(grid), x, y) == pytest.approx(np.log(tpr))


def test_a_histogram_is_drawn_by_its_steps_up_to_the_end_of_its_last_bar():
    counts = Histogram(label="a", partition="forget", n=10, counts=(1, 1, 2, 0, 0, 2, 4, 0))
    figure = distributions(
        Histograms(edges=tuple(range(1, 10)), series=(counts,)), quantity="loss", order=["a"], roles=ROLES, gold="a"
    )
    assert [(d["x"], d["share"]) for d in figure.data] == [(1, 0.2), (3, 0.2), (5, 0.2), (7, 0.4)]
    shaded, line = (layer["data"]["values"] for layer in figure.spec["layer"][-2:])
    assert [(d["x"], d["share"]) for d in line] == [(1, 0.2), (7, 0.4), (9, 0.4)]
    assert [(d["x"], d["share"]) for d in shaded] == [(1, 0.0), (1, 0.2), (7, 0.4), (9, 0.4), (9, 0.0)]


@pytest.mark.parametrize(("n", "columns", "lines"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (5, 3, 2), (26, 3, 9)])
def test_panels_have_a_cell_each_and_no_more_width_than_a_phone(n, columns, lines):
    names = [f"method {i}" for i in range(n)]
    panels = Panels.small(
        names, Axis("x", {"domain": [0, 1]}, {0.0: "0", 1.0: "1"}), Axis("y", {"domain": [0, 1]}, {0.5: "half"}), height=0.5
    )
    values = [{"panel": name, "x": 0.5, "y": 0.5} for name in names]
    spec = panels.spec([{"values": values, "mark": {"type": "point"}}])
    cells = {(record["column"], record["line"]) for record in spec["layer"][-1]["data"]["values"]}
    assert len(cells) == n
    assert (max(column for column, _ in cells) + 1, max(line for _, line in cells) + 1) == (columns, lines)
    assert spec["width"] <= 300


def test_labels_of_a_small_axis_keep_apart_and_within_it():
    ticks = {10.0**i: f"1e{i}" for i in range(-6, 1)}
    labels = Axis("x", {"type": "log", "domain": [1e-6, 1]}, ticks).labels(90)
    assert [(label["label"], label["align"]) for label in labels] == [("1e0", "right"), ("1e-3", "center"), ("1e-5", "center")]
    assert len(Axis("x", {"type": "log", "domain": [1e-6, 1]}, ticks).labels(900)) == len(ticks)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.5, 0.6), ["0.5", "0.6"]),
        ((0.513, 0.593), ["0.52", "0.54", "0.56", "0.58"]),
        ((-0.035, 0.036), ["−0.02", "0.00", "0.02", "0.04"]),
        ((1.0, 1.0), ["0.95", "1.00", "1.05"]),
        ((0.0,), ["−0.5", "0.0", "0.5"]),
        ((3.0, 24_000.0), ["0", "20,000"]),
        ((0.0, 2e8), ["0", "2e+08"]),
        ((0.95, 0.95 + 1e-8), ["0.92", "0.94", "0.96", "0.98"]),
        ((0.0, 1e-9), ["0", "1e−09"]),
        ((0.95, 0.95 + 1.2e-6), ["0.95", "0.950001"]),
    ],
)
def test_an_axis_around_values_has_round_ticks(values, labels):
    axis = Axis.around("x", values)
    assert list(axis.ticks.values()) == labels
    assert all(0 < axis.share(value) < 1 for value in values)
    assert all(-1e-9 < axis.share(tick) < 1 + 1e-9 for tick in axis.ticks)


def test_classes_without_samples_are_left_out():
    classes = RunRecord.of(evidence("a")).repetitions[0].classes
    figure = by_class(classes, order=["a"], gold="gold", roles=ROLES)
    assert {(d["class"], d["samples"]) for d in figure.data} == {
        ("cat", "forgotten samples"),
        ("cat", "held-out samples"),
        ("dog", "held-out samples"),
    }


def test_classes_of_one_name_stay_apart():
    classes = replace(RunRecord.of(evidence("a")).repetitions[0].classes, names=("cat", "cat"))
    assert {d["class"] for d in by_class(classes, order=["a"], gold="gold", roles=ROLES).data} == {"cat", "cat (2)"}


def test_layers_that_did_not_change_are_pale():
    figure = layers(RunRecord.of(evidence("a")).repetitions[0].layers, ["a"], gold=None)
    assert [(d["layer"], d["change"]) for d in figure.data] == [("conv", 0.1), ("head", 0.0)]
    assert [d["depth"] for d in figure.spec["data"]["values"]][1] == 0.0


def test_every_verdict_has_a_colour_and_a_shape_and_colours_occur_once():
    assert set(VERDICT_MARKS) == set(TITLES)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_labels_of_crowded_points_do_not_cover_one_another():
    points = [(100.0 + i, 100.0 + i) for i in range(6)]
    places = place_labels(points, ["method"] * 6, 400, 300)
    boxes = [(p.x - 19, p.y - 6.5, p.x + 19, p.y + 6.5) for p in places]
    for i, a in enumerate(boxes):
        assert a[0] >= 0 and a[2] <= 400
        for b in boxes[i + 1 :]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) + 1e-9 or min(a[3], b[3]) <= max(a[1], b[1]) + 1e-9


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_a_figure_is_written_with_its_data(tmp_path, kind):
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    from erasure.reports.figures.render import write_figures

    figure = tradeoff(judged("=evil()", "b"))
    drawn, data = write_figures([figure], tmp_path, [kind])
    start = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    assert drawn.read_bytes().startswith(start)
    with data.open(newline="") as file:
        assert {record["method"] for record in csv.DictReader(file)} == {"'=evil()", "b"}


def test_characters_that_no_svg_may_hold_do_not_end_the_process():
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    from erasure.reports.figures.render import inline_svg

    label = "clear\x1b[2J\x00\x07\ud800\ufffe\u202e\n" + "long " * 500
    drawn = inline_svg(tradeoff(judged(label)), "x")
    assert "\x1b" not in drawn
    assert "clear\ufffd[2J" in drawn


def test_long_labels_are_cut_to_what_sets_them_apart():
    labels = [f"SSD (selection_weighting={w}, dampening_constant=0.3)" for w in (1.0, 2.0)] + [
        "x" * 60,
        "x" * 59 + "y" + "x" * 60,
        "short",
    ]
    short = short_labels(labels)
    assert short[labels[0]] == "SSD (sw=1.0, dc=0.3)"
    assert "short" not in short
    assert len(set(short.values())) == 4
    assert max(map(len, short.values())) <= LONGEST


def verdict_on(label, finding=judging.Finding.NOT_TOLD_APART, **facts):
    return Verdict(label, finding, (), judging.Tested(label, finding, **facts))


def test_memory_left_is_drawn_with_both_limits_and_says_how_many_are_within_the_band():
    near, far = Limits(0.01, -0.1, 0.12, 5), Limits(0.9, 0.7, 1.1, 5)
    figure = memory_left(
        [
            verdict_on("near", judging.Finding.INDISTINGUISHABLE, memory=near),
            verdict_on("far", judging.Finding.UNDER_FORGOTTEN, memory=far),
            verdict_on("one original"),
        ]
    )
    assert [(d["method"], d["low"], d["mean"], d["high"]) for d in figure.data] == [
        ("near", -0.1, 0.01, 0.12),
        ("far", 0.7, 0.9, 1.1),
    ]
    assert "1 lies within" in figure.alt
    assert figure.spec["layer"][0]["encoding"]["x"]["scale"]["domain"] == [-0.3, 1.1]
    assert memory_left([verdict_on("one original")]) is None


def test_each_method_is_a_line_among_the_bars_of_its_labellings():
    maxima = tuple(i / 10 for i in range(40))
    figure = relabelled(
        [
            verdict_on("a", maxima=maxima, maximum=2.0, p=0.5, adjusted=1.0),
            verdict_on("b", judging.Finding.UNDER_FORGOTTEN, maxima=maxima, maximum=3.9, p=0.025, adjusted=0.05),
            verdict_on("by t", p=0.3, adjusted=0.6),
        ]
    )
    lines = [d for d in figure.data if d["kind"] == "observed"]
    assert [(d["method"], d["start"], d["p"]) for d in lines] == [("a", 2.0, "p = 1"), ("b", 3.9, "p = 0.05")]
    for method_name in ("a", "b"):
        bars = [d for d in figure.data if d["kind"] == "retrained" and d["method"] == method_name]
        assert sum(d["share"] for d in bars) == pytest.approx(1)
        assert (bars[0]["start"], bars[-1]["end"]) == (0.0, 3.9)
    assert "1 is told from retraining" in figure.alt
    assert relabelled([verdict_on("by t", p=0.3)]) is None


def test_the_power_curve_passes_through_what_the_report_says_is_found():
    report = judging.TestedReport({}, 12, 0.05, detection=Detection(4.0, 0.5, 5))
    figure = power_curve(report)
    own = {d["shift"]: d["found"] for d in figure.data if d["run"] == "5 originals"}
    assert report.shift == pytest.approx(2.42, abs=0.01)
    assert own[0.0] < 1e-4
    assert max(own.values()) > 0.98
    assert np.interp(report.shift, list(own), list(own.values())) == pytest.approx(0.8, abs=0.01)
    assert all(d["found"] >= own[d["shift"]] for d in figure.data if d["run"] == "10 originals")
    assert "12 methods together" in figure.caption
    assert power_curve(judging.TestedReport({}, 3, 0.05)) is None


@pytest.mark.parametrize(
    "text", ["plain", "umlaut ä, dash –", 'quoted "word"', "back\\slash", "new\nline", "\u202e", "\ud800", "x" * 301, '"' * 400]
)
def test_a_specification_is_written_as_if_each_of_its_texts_had_been_looked_at(text):
    spec = {"data": {"values": [{"label": text, "value": 1.5}]}, "width": 3, "dash": (5, 2), "title": None}
    assert json.loads(_written(spec)) == json.loads(json.dumps(_drawable(spec)))
