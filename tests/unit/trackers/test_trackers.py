"""Trackers with the real libraries, in temporary directories and without a network."""

import builtins
import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time

import pytest

from erasure.errors import ConfigError, MissingDependency
from erasure.events import Message, RowReady, RunFinished, RunStarted, StageFinished
from erasure.trackers import Guarded, open_tracker
from erasure.trackers.records import Steps, metric_name, settings

A = "a" * 64


def row(**changes):
    return {
        "experiment": "adult/tiny",
        "label": "SCRUB (2)",
        "model": "unlearned",
        "measure": "UMIA",
        "partition": "forget",
        "value": 0.75,
        "gap": 0.25,
        "status": "ok",
    } | changes


EVENTS = [
    Message("before the run"),
    RunStarted(
        experiment="adult/tiny",
        configuration={"predictor": {"epochs": 5}, "unlearners": ["SCRUB", {"class": "SSD"}]},
        options={"seeds": [0, 1]},
        total=3,
        cached=1,
        output="runs/tiny",
    ),
    StageFinished("train original", "model", A, cached=False, elapsed_s=2.5, total=3),
    StageFinished("load data", "data", A, cached=True, elapsed_s=0.0, total=3),
    RowReady(row()),
    RowReady(row(value=0.5, gap=None)),
    RowReady(row(label="NegGrad", value=None, gap=None, status="failed")),
    RunFinished(experiment="adult/tiny", is_sound=False, elapsed_s=3.0, rows=3, failures={"unlearn NegGrad": "not finite"}),
]


def track(choice, events=EVENTS, error=None):
    """Tell a tracker everything; none may fail."""
    said = []
    try:
        with Guarded(open_tracker(choice), choice, said.append) as guarded:
            for event in events:
                guarded.listen(event)
            if error is not None:
                raise error
    except KeyboardInterrupt:
        assert isinstance(error, KeyboardInterrupt)
    assert said == []


def test_steps_count_the_repetitions_of_each_metric():
    steps = Steps()
    assert list(steps.metrics(row())) == [("SCRUB _2_/UMIA forget", 0.75, 0), ("SCRUB _2_/UMIA forget gap", 0.25, 0)]
    assert list(steps.metrics(row(gap=None))) == [("SCRUB _2_/UMIA forget", 0.75, 1)]
    assert list(steps.metrics(row(value=None, gap=None))) == []
    assert list(steps.metrics(row(value=True, gap=None))) == []


def test_a_metric_is_named_by_its_model_where_it_has_no_label():
    assert metric_name({"model_role": "gold", "measure": "RunTime"}) == "gold/RunTime"
    assert metric_name({"label": "a/b\x1b", "measure": "é"}) == "a_b_/é"


def test_models_whose_names_read_alike_keep_metrics_of_their_own():
    steps = Steps(longest=22)
    labels = ("SCRUB (2)", "SCRUB [2]", "scrub (2)", "SCRUB /2/")
    found = [name for label in labels for name, *_ in steps.metrics(row(label=label, gap=None))]
    assert found == ["SCRUB _2_/UMIA forget", "SCRUB _2_/UMIA forge-2", "scrub _2_/UMIA forge-3", "SCRUB _2_/UMIA forge-4"]
    assert [each[0::2] for each in steps.metrics(row(label="SCRUB [2]", gap=None))] == [(found[1], 1)]


def test_settings_are_flat():
    assert dict(settings({"a": {"b": [1, None]}, "c": "x"})) == {"a.b.0": "1", "a.b.1": "None", "c": "x"}
    assert dict(settings(None)) == {}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A database that did not exist, nor its folder, before a run was tracked; MLflow takes seconds to make one."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    pytest.importorskip("sqlalchemy", reason="MLflow's SQLite store needs SQLAlchemy")
    path = tmp_path_factory.mktemp("mlflow") / "deep" / "mlruns.db"
    track(f"mlflow:{path}")
    return path


def test_mlflow_keeps_parameters_metrics_and_the_end(tracked):
    import mlflow

    path = tracked
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "adult/tiny"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.params == {
        "predictor.epochs": "5",
        "unlearners.0": "SCRUB",
        "unlearners.1.class": "SSD",
        "options.seeds.0": "0",
        "options.seeds.1": "1",
    }
    assert run.data.metrics == {"SCRUB _2_/UMIA forget": 0.5, "SCRUB _2_/UMIA forget gap": 0.25}
    history = client.get_metric_history(run.info.run_id, "SCRUB _2_/UMIA forget")
    assert [(point.step, point.value) for point in history] == [(0, 0.75), (1, 0.5)]
    assert "not finite" in run.data.tags["erasure.failures"]
    assert sorted(found.name for found in path.parents[1].iterdir()) == ["deep"]
    # A second run joins the experiment; one that is interrupted is called killed.
    track(f"mlflow:{path}", EVENTS[:5], KeyboardInterrupt())
    assert [found.info.status for found in client.search_runs([experiment.experiment_id])] == ["KILLED", "FAILED"]


def test_mlflow_says_at_once_that_it_cannot_use_a_file(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    (tmp_path / "occupied").write_text("this is no database " * 100)
    with pytest.raises(ConfigError, match=r'the tracker mlflow cannot use ".*occupied"'):
        open_tracker(f"mlflow:{tmp_path / 'occupied'}")


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_mlflow_says_at_once_that_a_folder_is_no_file(tmp_path, form):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"is a folder; give a file in it, such as mlflow:.*mlruns\.db"):
        open_tracker(f"mlflow:{form.format(tmp_path)}")
    assert time.monotonic() - started < 30  # MLflow tries for two minutes


@pytest.mark.enable_socket
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_mlflow_says_at_once_that_no_server_answers():
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    with pytest.raises(ConfigError, match="no server answers there"):
        open_tracker("mlflow:http://127.0.0.1:1")


def test_mlflow_takes_parameters_whose_names_it_would_refuse(tracked, tmp_path):
    import mlflow

    shutil.copy(tracked, tmp_path / "runs.db")
    columns = {"income ($)": ["high"], "income (€)": ["low"]}
    started = dataclasses.replace(EVENTS[1], configuration={"keep_values": columns}, options={})
    track(f"mlflow:{tmp_path / 'runs.db'}", [started])
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs.db'}")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    (run,) = [each for each in runs if "unlearners.0" not in each.data.params]
    assert run.data.params == {"keep_values.income ___.0": "high", "keep_values.income ___.0-2": "low"}


def test_tensorboard_shows_rows_and_seconds(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track(f"tensorboard:{tmp_path / 'logs'}")
    track(f"tensorboard:{tmp_path / 'logs'}", EVENTS[:2])
    first, _ = sorted((tmp_path / "logs").iterdir())
    assert first.name.startswith("adult_tiny-")
    shown = EventAccumulator(str(first))
    shown.Reload()
    scalars = {tag: [(point.step, point.value) for point in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}
    assert scalars == {
        "SCRUB _2_/UMIA forget": [(0, 0.75), (1, 0.5)],
        "SCRUB _2_/UMIA forget gap": [(0, 0.25)],
        "seconds/model": [(0, 2.5)],
    }
    (text,) = shown.Tensors("start/text_summary")
    assert b'"epochs": 5' in text.tensor_proto.string_val[0]


def test_wandb_keeps_a_run_offline(tmp_path):
    """In a process of its own: the library starts a service and talks to it through a local socket."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    script = f"""
        import sys
        sys.path.insert(0, {__file__.rpartition("/")[0]!r})
        from test_trackers import track
        track("wandb:{tmp_path / "wb"}")
    """
    # A proxy that does not exist: whoever tries to reach the outside fails.
    closed = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **closed},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "wb").rglob("*.wandb")
    data = file.read_bytes()
    assert b"SCRUB _2_/UMIA forget gap" in data
    assert b"unlearners.1.class" in data
    assert b"not finite" in data


def test_an_unknown_tracker_is_refused_by_name():
    with pytest.raises(ConfigError, match='no tracker "mlfow"; there are mlflow, tensorboard, wandb; did you mean "mlflow"'):
        open_tracker("mlfow:x")


@pytest.mark.parametrize("choice", ["mlflow", "tensorboard", "wandb"])
def test_a_missing_library_names_the_extra(choice, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == choice or name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=rf'The tracker {choice} needs .*pip install "erasure-unlearning\[track\]"'):
        open_tracker(f"{choice}:{tmp_path}")


def test_mlflow_names_the_database_library_it_lacks(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingDependency, match=r'needs the package "sqlalchemy": pip install "erasure-unlearning\[track\]"'):
        open_tracker(f"mlflow:{tmp_path / 'runs.db'}")


class Broken:
    """Fails when it hears something, or only at the end."""

    def __init__(self, at="listen"):
        self.at, self.heard, self.closed = at, 0, 0

    def listen(self, event):
        self.heard += 1
        if self.at == "listen":
            raise sqlite3.OperationalError("disk I/O error")

    def close(self, *, interrupted):
        self.closed += 1
        raise OSError("no space left")


def test_a_tracker_that_fails_is_said_once_and_left_out():
    said, broken = [], Broken()
    with Guarded(broken, "the tracker x", said.append) as guarded:
        guarded.listen(Message("a"))
        guarded.listen(Message("b"))
    assert said == ["the tracker x stopped listening, the run goes on: OperationalError: disk I/O error"]
    assert (broken.heard, broken.closed) == (1, 1)


def test_a_tracker_that_fails_at_the_end_does_not_hide_the_runs_own_error():
    said = []
    with pytest.raises(ZeroDivisionError), Guarded(Broken("close"), "the tracker x", said.append) as guarded:
        guarded.listen(Message("a"))
        raise ZeroDivisionError
    assert said == ["the tracker x stopped listening, the run goes on: OSError: no space left"]
