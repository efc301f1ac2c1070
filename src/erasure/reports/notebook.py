"""What notebooks show: the table of results with its figures. All names are text, whatever they look like."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from erasure.analysis.overview import overview_of
from erasure.errors import MissingDependency
from erasure.records.rows import Row
from erasure.records.run_folder import RunFolder
from erasure.reports.figures.figure import Figure
from erasure.reports.figures.of_run import figures_of
from erasure.reports.figures.render import plain_svg
from erasure.reports.table import html_table

__all__ = ["picture", "results_html", "runs_html"]


def results_html(folder: RunFolder) -> str:
    """What to do, the table, and the first figures; without the renderer the table alone."""
    if not folder.rows:
        return html_table(())
    overview = overview_of(folder)
    table = html_table(folder.rows, overview.judged)
    try:
        figures = [figure for figure in figures_of(overview) if figure.in_notebooks]
        pictures = "".join(f"<p><b>{html.escape(f.title)}.</b> {html.escape(f.caption)}</p>{picture(f)}" for f in figures)
    except (MissingDependency, ValueError):
        pictures = ""
    return f"<p><b>{html.escape(overview.recommendation)}</b></p>{table}{pictures}"


def runs_html(runs: Iterable[tuple[str, Sequence[Row]]]) -> str:
    """What each of several runs holds, one line a run."""
    lines = []
    for name, rows in runs:
        methods = dict.fromkeys(row.label for row in rows if row.model_role == "unlearned")
        cells = (
            name,
            ", ".join(dict.fromkeys(row.dataset for row in rows)),
            ", ".join(methods),
            str(len({(row.seed_split, row.seed_train, row.seed_unlearn) for row in rows if row.model_role == "unlearned"})),
            str(len(rows)),
            str(sum(row.value is None for row in rows)),
        )
        lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    head = "".join(
        f'<th scope="col">{title}</th>' for title in ("run", "data", "methods", "repetitions", "rows", "without a value")
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(figure: Figure) -> str:
    """A figure as an image, which nothing around it can change and which changes nothing around it.

    Raises:
        MissingDependency: If the renderer is not installed.
        ValueError: If the renderer cannot draw it.
    """
    data = base64.b64encode(plain_svg(figure).encode()).decode()
    return f'<img alt="{html.escape(figure.alt, quote=True)}" src="data:image/svg+xml;base64,{data}" style="max-width:100%">'
