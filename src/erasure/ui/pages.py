"""The pages as HTML."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from erasure.analysis.overview import Overview
from erasure.reports.figures.render import inline_svg
from erasure.reports.figures.theme import VERDICT_MARKS
from erasure.reports.run_summary import RunSummary
from erasure.reports.templating import render, template_text
from erasure.ui.attacks import ATTACKS
from erasure.ui.drawings import confusion_figure
from erasure.ui.models import ROLE_NAMES, RunModels

__all__ = ["message_page", "overlay_page", "report_page", "report_policy", "runs_page"]

_PURPOSE = "erasure ui"
_SHOWN_VERDICTS = 3
_ICON = '<link rel="icon" href="data:,">'


def runs_page(root: Path, runs: Sequence[RunSummary], *, is_cut: bool = False) -> str:
    """The list of runs.

    Args:
        root: The folder.
        runs: What is in it.
        is_cut: Whether the folder has more directories than were looked through.

    Raises:
        MissingDependency: If what pages are made with is not installed.
    """
    return _render(
        "ui_runs.html.j2",
        root=str(root),
        runs=runs,
        is_cut=is_cut,
        data_sets=sorted({run.data for run in runs if run.data}),
        methods=sorted({method for run in runs for method in run.methods}),
        verdicts=list(dict.fromkeys(v.title for run in sorted(runs, key=lambda r: r.name) for v in run.verdicts)),
        n_shown=_SHOWN_VERDICTS,
        query=lambda run: _query({"run": run.name}),
        day=lambda run: run.date.replace("T", " ")[:16],
    )


def message_page(title: str, text: str) -> str:
    """A page that says why there is no other.

    Raises:
        MissingDependency: If what pages are made with is not installed.
    """
    return _render("ui_message.html.j2", title=title, text=text)


def report_page(report: str, run: RunSummary) -> str:
    """The report of a run with a way back to the list and on to two models side by side.

    Args:
        report: The report as it is written to a file.
        run: Its run.
    """
    query = html.escape(_query({"run": run.name}))
    links = ['<a href="./">← All runs</a>', f"<b>{html.escape(run.title)}</b>"]
    if run.has_outputs:
        links.append(f'<a href="overlay?{query}">Two models side by side</a>')
    style = (
        "display:flex;flex-wrap:wrap;align-items:baseline;justify-content:flex-start;gap:.3rem 1.4rem;max-width:68rem;margin:0 auto;"
        "padding:.8rem 1.25rem 0;font-size:.95rem"
    )
    bar = f'<nav class="ui" aria-label="Runs" style="{style}">{"".join(links)}</nav>'
    return report.replace("</head>", f"{_ICON}</head>", 1).replace('<main id="main"', f'{bar}<main id="main"', 1)


def report_policy() -> str:
    """The content security policy of a report: its own style and the one script that this version writes into it."""
    digest = base64.b64encode(hashlib.sha256(template_text("report.js").encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def overlay_page(
    run: RunSummary,
    overview: Overview,
    models: RunModels,
    *,
    a: str,
    b: str,
    role: str,
    group: int,
    found: Mapping[str, Any],
    problem: str,
    measured: Sequence[str],
) -> str:
    """Two models side by side.

    Args:
        run: The run.
        overview: Its verdicts.
        models: The models of one group.
        a: The first model.
        b: The second.
        role: Samples whose predictions are shown.
        group: Number of the group.
        found: Predictions of both, or nothing.
        problem: Why there are no predictions.
        measured: Attacks that measures carried out on both.

    Raises:
        MissingDependency: If what pages are made with is not installed.
    """
    judged = {j.label: {"title": j.title, "colour": VERDICT_MARKS[j.finding][0]} for j in overview.verdicts}
    places = {label: i for i, label in enumerate(overview.order)}
    kept = {"run": run.name, "group": str(group)}
    return _render(
        "ui_overlay.html.j2",
        run=run,
        a=a,
        b=b,
        role=role,
        group=group,
        groups=[(each.problem or each.retain).strip(" ()") for each in overview.folder.groups],
        judged=judged,
        labels=sorted(models.labels, key=lambda label: (label in places, places.get(label, 0))),
        gold=models.gold,
        roles=[(each, ROLE_NAMES[each], models.partitions[each]) for each in models.roles],
        found=found,
        problem=problem,
        figure=_figure(found) if found else None,
        attacks=[(attack.key, attack.title) for attack in ATTACKS.values()],
        measured=measured,
        names=ROLE_NAMES,
        seed=models.seed,
        query=_query({"run": run.name}),
        swapped=_query({**kept, "a": b, "b": a, "on": role}),
        group_query=lambda number: _query({"run": run.name, "group": str(number)}),
        data=_query({**kept, "a": a, "b": b}),
    )


def _query(parameters: Mapping[str, str]) -> str:
    """Parameters of an address; names of directories need not be Unicode."""
    return urlencode(parameters, errors="surrogateescape")


def _figure(found: Mapping[str, Any]) -> dict[str, str] | None:
    figure = confusion_figure(found)
    if figure is None:
        return None
    return {
        "title": figure.title,
        "caption": figure.caption,
        "wide": inline_svg(figure, "wide-confusion"),
        "narrow": inline_svg(figure, "narrow-confusion", narrow=True),
    }


def _render(template: str, **content: Any) -> str:
    return render(template, _PURPOSE, filters={}, package="erasure.ui", icon=_ICON, **content)
