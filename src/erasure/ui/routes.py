"""What is at each address of the local page."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from erasure.analysis.overview import Overview
from erasure.errors import MissingDependency, StoreError
from erasure.reports.page import page
from erasure.reports.templating import template_text
from erasure.store import Store
from erasure.ui import overlay
from erasure.ui.library import Library
from erasure.ui.models import ROLE_NAMES, Models, RunModels
from erasure.ui.pages import message_page, overlay_page, report_page, report_policy, runs_page
from erasure.ui.server import Reply

__all__ = ["Site"]

_MAX_PAGES = 12
_HOME = "erasure.ui"
_SCRIPTS = {"runs.js": "ui_runs.js", "overlay.js": "ui_overlay.js", "theme.js": "ui_theme.js"}


class Site:
    """Pages and data about the runs of a folder.

    Args:
        library: The runs.
        store: Where the outputs of their models are; opened for reading only.
    """

    def __init__(self, library: Library, store: Store) -> None:
        self.library: Library = library
        self.models: Models = Models(store)
        self._lock = threading.Lock()
        self._reports: dict[str, tuple[Any, bytes]] = {}
        self._routes: Mapping[str, Callable[[Mapping[str, str]], Reply]] = {
            "": self._runs,
            "run": self._report,
            "overlay": self._overlay,
            "data/runs.json": self._runs_data,
            "data/predictions.json": self._predictions_data,
            "data/embedding.json": self._embedding_data,
            "data/attack.json": self._attack_data,
            "style.css": lambda _: Reply(_style().encode(), "text/css; charset=utf-8"),
            **{name: _script(file) for name, file in _SCRIPTS.items()},
        }

    def answer(self, route: str, query: Mapping[str, str]) -> Reply:
        """What is at an address.

        Args:
            route: The address without the token; compared as a whole, never used as a path.
            query: Its parameters.
        """
        make = self._routes.get(route)
        is_data = route.startswith("data/")
        if make is None:
            return _message("There is no such page", "This address is not one of those that these pages link to.", 404)
        try:
            return make(query)
        except MissingDependency as error:
            return Reply.text(503, str(error))  # pages need the library that is missing
        except StoreError as error:
            return _json({"error": str(error)}, 404) if is_data else _message("This cannot be shown", str(error), 404)

    # Pages

    def _runs(self, query: Mapping[str, str]) -> Reply:
        return _page(runs_page(self.library.root, self.library.runs(), is_cut=self.library.is_cut))

    def _report(self, query: Mapping[str, str]) -> Reply:
        name = _required(query, "run")
        stamp = self.library.stamp(name)
        with self._lock:
            known = self._reports.get(name)
        if known is None or known[0] != stamp:
            # Rebuilt from the rows: the stored page may come from another version, or from somebody else.
            overview = self.library.overview(name)
            known = (stamp, report_page(page(overview), self.library.run(name)).encode("utf-8", "replace"))
            with self._lock:
                self._reports[name] = known
                while len(self._reports) > _MAX_PAGES:
                    self._reports.pop(next(iter(self._reports)))
        return Reply(known[1], policy=report_policy())

    def _overlay(self, query: Mapping[str, str]) -> Reply:
        name = _required(query, "run")
        overview = self.library.overview(name)
        models = self._models(overview, query)
        a, b = _chosen(models, overview, query)
        role = _role(models, query)
        try:
            found, problem = overlay.predictions(models, a, b, role), ""
        except StoreError as error:
            found, problem = {}, str(error)
        measured = overlay.measured_attacks(overview.folder.record.curves, (a, b), models.seed)
        return _page(
            overlay_page(
                self.library.run(name),
                overview,
                models,
                a=a,
                b=b,
                role=role,
                group=_group(query),
                found=found,
                problem=problem,
                measured=measured,
            )
        )

    # Data

    def _runs_data(self, query: Mapping[str, str]) -> Reply:
        runs = [run.record() for run in self.library.runs()]
        return _json({"folder": str(self.library.root), "is_cut": self.library.is_cut, "runs": runs})

    def _predictions_data(self, query: Mapping[str, str]) -> Reply:
        models = self._models(self.library.overview(_required(query, "run")), query)
        return _json(overlay.predictions(models, _required(query, "a"), _required(query, "b"), _role(models, query)))

    def _embedding_data(self, query: Mapping[str, str]) -> Reply:
        models = self._models(self.library.overview(_required(query, "run")), query)
        return _json(overlay.embedding(models, _required(query, "a"), _required(query, "b")))

    def _attack_data(self, query: Mapping[str, str]) -> Reply:
        overview = self.library.overview(_required(query, "run"))
        models = self._models(overview, query)
        a, b, key = _required(query, "a"), _required(query, "b"), query.get("attack", "loss")
        if key.startswith("measured:"):
            curves = overview.folder.record.curves
            return _json(overlay.measured_attack(curves, models, a, b, key.removeprefix("measured:")))
        return _json(overlay.attack(models, a, b, key))

    def _models(self, overview: Overview, query: Mapping[str, str]) -> RunModels:
        return self.models.of(overview.folder, _group(query))


def _required(query: Mapping[str, str], name: str) -> str:
    if name not in query:
        raise StoreError(f'This address lacks "{name}"; go back to the list of runs.')
    return query[name]


def _group(query: Mapping[str, str]) -> int:
    text = query.get("group", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise StoreError("A group is a whole number; go back to the list of runs.")
    return int(text)


def _role(models: RunModels, query: Mapping[str, str]) -> str:
    role = query.get("on", "forget" if "forget" in models.roles else models.roles[0])
    if role not in ROLE_NAMES:
        raise StoreError(f"There are no samples {role[:100]!r}; there are {', '.join(ROLE_NAMES)}.")
    return role


def _chosen(models: RunModels, overview: Overview, query: Mapping[str, str]) -> tuple[str, str]:
    """The models asked for; else the best method beside gold."""
    known = set(models.labels)
    methods = [verdict.label for verdict in overview.verdicts if not verdict.is_exact and verdict.label in known]
    a = query.get("a") or next(iter(methods), models.labels[0])
    b = query.get("b") or models.gold or next((label for label in models.labels if label != a), a)
    for label in (a, b):
        if label not in known:
            raise StoreError(
                f"There is no model {label[:200]!r} whose outputs were kept; there are {', '.join(models.labels[:20])}."
            )
    return a, b


def _style() -> str:
    return template_text("report.css") + template_text("ui.css", _HOME)


def _script(file: str) -> Callable[[Mapping[str, str]], Reply]:
    return lambda _: Reply(template_text(file, _HOME).encode(), "text/javascript; charset=utf-8")


def _page(text: str) -> Reply:
    return Reply(text.encode("utf-8", "replace"))


def _message(title: str, text: str, status: int) -> Reply:
    return Reply(message_page(title, text).encode("utf-8", "replace"), status=status)


def _json(value: Any, status: int = 200) -> Reply:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Reply(text.encode("utf-8", "replace"), "application/json", status)
