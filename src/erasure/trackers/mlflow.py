"""MLflow: a run in a SQLite file or on a server, with the configuration as parameters and the rows as metrics."""

from __future__ import annotations

import importlib
import json
import logging
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from erasure.events import Event, RowReady, RunFinished, RunStarted
from erasure.trackers.records import Names, Steps, settings

__all__ = ["MLflow"]

_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TAG = 250, 6000, 5000
_PARAMETERS, _METRICS = 100, 1000
"""MLflow's limits on names, values and the size of one call."""


_PATIENCE_S = 5.0


def _refuse_unusable_file(uri: str) -> None:
    path = Path(unquote(uri.partition("?")[0].removeprefix("sqlite:///")))
    if path.is_dir():
        raise ValueError(f'"{path}" is a folder; give a file in it, such as mlflow:{path / "mlruns.db"}')
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_S)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise ValueError(f'"{path}" is no file of SQLite that can be read and written ({error})') from error


def _refuse_silent_server(uri: str) -> None:
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise ValueError(f"no server answers there ({error}); start it, or give the path of a SQLite file") from error


class MLflow:
    """Keeps a run in MLflow.

    Args:
        place: A tracking URI (``http://…``, ``sqlite:///…``), or the path of a SQLite file, which is made if it is missing.

    Raises:
        ValueError: If the place is no file of SQLite, or no server answers; MLflow itself would try again for two minutes.
    """

    def __init__(self, place: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would call home; who wants that sets it to false
        from mlflow import MlflowClient

        for library in ("mlflow", "alembic"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self._artifacts: str | None = None
        if "://" not in place:
            path = Path(place).expanduser().absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._artifacts = path.with_name(f"{path.name}.artifacts").as_uri()
            place = f"sqlite:///{path}"
        if place.startswith("sqlite:"):
            _refuse_unusable_file(place)
            for library in ("sqlalchemy", "alembic"):  # the small MLflow does without them, and says so in riddles
                importlib.import_module(library)
        elif place.startswith(("http://", "https://")):
            _refuse_silent_server(place)
        self._client = MlflowClient(tracking_uri=place)
        self._client.search_experiments(max_results=1)  # a place that cannot be used shows now, not during the run
        self._steps = Steps(_LONGEST_NAME)
        self._metrics: list[Any] = []
        self._run = ""

    def listen(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case RunStarted():
                self._start(event)
            case RowReady(row):
                self._add(row)
            case RunFinished():
                self._end("FINISHED" if event.is_sound else "FAILED", {"failures": json.dumps(dict(event.failures))})
            case _:
                pass

    def close(self, *, interrupted: bool) -> None:
        """End the run, if it has not ended."""
        self._end("KILLED" if interrupted else "FAILED", {})

    def _start(self, event: RunStarted) -> None:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(event.experiment)
        where = found.experiment_id if found else self._client.create_experiment(event.experiment, self._artifacts)
        tags = {"erasure.output": event.output, "erasure.stages": str(event.total), "erasure.cached": str(event.cached)}
        self._run = self._client.create_run(where, run_name=event.experiment, tags=tags).info.run_id
        named = {**dict(settings(event.configuration)), **dict(settings(event.options, "options"))}
        names = Names(_LONGEST_NAME)
        parameters = [Param(names.of(name, name), value[:_LONGEST_VALUE]) for name, value in named.items()]
        for start in range(0, len(parameters), _PARAMETERS):
            self._client.log_batch(self._run, params=parameters[start : start + _PARAMETERS])

    def _add(self, row: Any) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._metrics += [Metric(name, value, now, step) for name, value, step in self._steps.metrics(row)]
        if len(self._metrics) >= _METRICS:
            self._flush()

    def _flush(self) -> None:
        while self._run and self._metrics:
            self._client.log_batch(self._run, metrics=self._metrics[:_METRICS])
            del self._metrics[:_METRICS]

    def _end(self, status: str, tags: dict[str, str]) -> None:
        if self._run:
            self._flush()
            for name, value in tags.items():
                self._client.set_tag(self._run, f"erasure.{name}", value[:_LONGEST_TAG])
            self._client.set_terminated(self._run, status)
            self._run = ""
