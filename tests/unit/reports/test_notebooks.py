import base64
import re
import sys
from collections import Counter
from dataclasses import replace

import pytest
from report_rows import jury_of, method, references
from small import small_experiment

from erasure.experiment.configuration import load_experiment
from erasure.measures.sklearn_metric import Accuracy
from erasure.planning.flow import flow_svg
from erasure.records.rows import Row, write_rows
from erasure.reports.query import load_results
from erasure.reports.results import Results
from erasure.testing.evaluations import bench
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan


def _row(label):
    return Row(
        experiment="e",
        dataset="d",
        unlearner="U",
        label=label,
        model_role="unlearned",
        measure="accuracy",
        partition="test",
        value=0.5,
    )


def test_results_are_a_table_in_a_notebook():
    html = Results(rows=(_row("SCRUB"),))._repr_html_()
    assert html.startswith("<p><b>There is no retrained model in this run")
    assert "<td>SCRUB</td>" in html
    assert "0.500" in html


def test_verdicts_and_advice_are_at_hand():
    rows = (*references(), *method("good"), *method("bad", retain=0.5))
    found = Results(rows=rows, jury=tuple(jury_of(rows)))
    assert list(found.verdicts) == ["good", "bad"]
    assert found.verdicts["good"].reasons
    assert found.recommendation.startswith("good came nearest")


def test_several_runs_are_a_line_each(tmp_path):
    for name, rows in (("one", [*references(), *method("good")]), ("two", [*method("<b>"), replace(_row("bad"), value=None)])):
        (tmp_path / name).mkdir()
        write_rows(rows, tmp_path / name)
    html = load_results(tmp_path)._repr_html_()
    assert re.findall(r"<tr><td>(.*?)</td></tr>", html) == [
        f"{tmp_path.as_posix()}/one</td><td>toys</td><td>good</td><td>1</td><td>8</td><td>0",
        f"{tmp_path.as_posix()}/two</td><td>toys, d</td><td>&lt;b&gt;, bad</td><td>2</td><td>4</td><td>1",
    ]


def test_results_bring_their_figures_as_images():
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    rows = (*references(), *method("good"), *method("bad", retain=0.5))
    html = Results(rows=rows, jury=tuple(jury_of(rows)))._repr_html_()
    assert "good came nearest" in html
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert len(images) == 3  # the trade-off, every value and the differences
    drawn = base64.b64decode(images[0]).decode()
    assert drawn.startswith("<svg")
    assert "var(--" not in drawn  # colours of its own, not those of our page
    assert 'alt="Scatter plot of 2 methods.' in html


def test_without_the_renderer_the_table_remains(monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    html = Results(rows=(*references(), *method("good")))._repr_html_()
    assert "<td>good</td>" in html
    assert "<img" not in html


def test_names_stay_text():
    html = Results(rows=(_row("<script>alert(1)</script>"),))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_no_results_are_said():
    assert "no results" in Results(rows=())._repr_html_()


def test_a_plan_is_a_table_in_a_notebook():
    plan = make_plan(load_experiment(small_experiment()), RunOptions())
    html = plan._repr_html_()
    assert html.count("<tr>") == len(plan.stages) + 1
    assert "<td>train gold</td>" in html
    kinds = {stage.kind for stage in plan.stages.values()}
    assert html.count("<rect") == len(kinds)
    counts = Counter(stage.kind for stage in plan.stages.values())
    assert f">values × {counts['values']}</text>" in html


def test_the_picture_of_a_plan_leads_from_the_data_to_the_values():
    svg = flow_svg({"data": 1, "model": 2, "<b>": 3}, [("data", "model"), ("model", "<b>"), ("data", "<b>")])
    xs = [int(x) for x in re.findall(r'<rect x="(\d+)"', svg)]
    assert xs == sorted(set(xs))
    assert svg.count("<path") == 2 * 3
    assert "<b>" not in svg


def test_an_evaluation_shows_the_model_and_the_partitions():
    problem = bench()
    html = problem.evaluation(Accuracy(partition="test"))._repr_html_()
    assert "unlearned model; classification" in html
    for name, ids in problem.partitions.items():
        assert f"<td>{name}</td><td>{len(ids)}</td>" in html
