from small import small_experiment

from erasure.experiment.configuration import load_experiment
from erasure.experiment.run import RunOptions, make_plan
from erasure.reports.results import Results
from erasure.store.rows import Row


def _row(label):
    return Row(
        experiment="e",
        dataset="d",
        unlearner="U",
        label=label,
        model="unlearned",
        measure="accuracy",
        partition="test",
        value=0.5,
    )


def test_results_are_a_table_in_a_notebook():
    html = Results(rows=(_row("SCRUB"),))._repr_html_()
    assert html.startswith("<table>")
    assert "<td>SCRUB</td>" in html
    assert "0.500" in html


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
