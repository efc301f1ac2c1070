"""A figure from outside the package: a function, and one entry point."""

from importlib.metadata import EntryPoint

from report_rows import method, references

from erasure.analysis.overview import overview_of
from erasure.records.run_folder import RunFolder
from erasure.reports.figures import of_run
from erasure.reports.figures.figure import Figure, base


def counted_rows(overview, *, narrow):
    n = len(overview.folder.rows)
    return Figure("rows", "Rows", f"{n} rows.", f"{n} rows.", base([{"n": n}], mark="bar"), [{"n": n}], section="cost")


def test_a_packages_figure_is_drawn_in_its_section(monkeypatch):
    point = EntryPoint("rows", f"{__name__}:counted_rows", "erasure.figures")
    monkeypatch.setattr(of_run, "entry_points", lambda group: [point] if group == point.group else [])
    of_run._of_other_packages.cache_clear()
    try:
        figures = of_run.figures_of(overview_of(RunFolder([*references(), *method("a")])))
    finally:
        of_run._of_other_packages.cache_clear()
    (found,) = (figure for figure in figures if figure.key == "rows")
    assert (found.section, found.data) == ("cost", [{"n": 8}])
