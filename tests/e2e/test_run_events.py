"""A run says what it is, which rows it has and how it ended; and which objects it used."""

import json

import pytest
from small import small_experiment

import erasure
from erasure.events import RowReady, RunFinished, RunStarted, StageFinished
from erasure.records.stages_file import read_stages
from erasure.store import Store


def heard(configuration, **options):
    events = []
    results = erasure.run(configuration, listener=events.append, **options)
    return events, results


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run's store and output, what was heard of it, and its results."""
    folder = tmp_path_factory.mktemp("run")
    return folder, *heard(small_experiment(), store=folder / "store", output=folder / "out")


def test_a_run_starts_gives_its_rows_and_ends(run):
    folder, events, results = run
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    (finished,) = [event for event in events if isinstance(event, RunFinished)]
    assert events[-1] is finished
    early = [event for event in events[: events.index(started)] if isinstance(event, StageFinished)]
    assert {event.kind for event in early} == {"data", "split"}
    assert (started.experiment, started.cached, started.output) == ("small", len(early), str(folder / "out"))
    assert started.total == sum(isinstance(event, StageFinished) and event.total > 0 for event in events)
    json.dumps(started.configuration)
    assert [event.row for event in events if isinstance(event, RowReady)] == [row.record() for row in results]
    assert (finished.is_sound, finished.rows, dict(finished.failures)) == (True, len(results), {})
    assert finished.elapsed_s > 0
    again, _ = heard(small_experiment(), store=folder / "store")
    (second,) = [event for event in again if isinstance(event, RunStarted)]
    assert second.cached == second.total == started.total


def test_a_run_says_which_objects_it_used(run):
    used = read_stages(run[0] / "out")
    assert set(used) <= set(Store(run[0] / "store").addresses())
    assert "train original" in used.values()


def test_a_store_is_laid_over_the_base_of_the_environment(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ERASURE_STORE_BASE", str(run[0] / "store"))
    events, results = heard(small_experiment(), store=tmp_path / "top")
    assert all(event.cached for event in events if isinstance(event, StageFinished))
    assert results.is_sound
    assert list(Store(tmp_path / "top").addresses()) == []
