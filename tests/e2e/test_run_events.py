"""A run says what it is, which rows it has and how it ended; and which objects it used."""

import json

from small import small_experiment

import erasure
from erasure.events import RowReady, RunFinished, RunStarted, StageFinished
from erasure.records.stages_file import read_stages
from erasure.store import Store


def heard(configuration, **options):
    events = []
    results = erasure.run(configuration, listener=events.append, **options)
    return events, results


def test_a_run_starts_gives_its_rows_and_ends(tmp_path):
    events, results = heard(small_experiment(), store=tmp_path / "store", output=tmp_path / "out")
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    (finished,) = [event for event in events if isinstance(event, RunFinished)]
    assert events[-1] is finished
    early = [event for event in events[: events.index(started)] if isinstance(event, StageFinished)]
    assert {event.kind for event in early} == {"data", "split"}
    assert (started.experiment, started.cached, started.output) == ("small", len(early), str(tmp_path / "out"))
    assert started.total == sum(isinstance(event, StageFinished) and event.total > 0 for event in events)
    json.dumps(started.configuration)
    assert [event.row for event in events if isinstance(event, RowReady)] == [row.record() for row in results]
    assert (finished.is_sound, finished.rows, dict(finished.failures)) == (True, len(results), {})
    assert finished.elapsed_s > 0
    again, _ = heard(small_experiment(), store=tmp_path / "store")
    (second,) = [event for event in again if isinstance(event, RunStarted)]
    assert second.cached == second.total == started.total


def test_a_run_says_which_objects_it_used(tmp_path):
    heard(small_experiment(), store=tmp_path / "store", output=tmp_path / "out")
    used = read_stages(tmp_path / "out")
    assert set(used) <= set(Store(tmp_path / "store").addresses())
    assert "train original" in used.values()


def test_a_store_is_laid_over_the_base_of_the_environment(tmp_path, monkeypatch):
    heard(small_experiment(), store=tmp_path / "base")
    monkeypatch.setenv("ERASURE_STORE_BASE", str(tmp_path / "base"))
    events, results = heard(small_experiment(), store=tmp_path / "top")
    assert all(event.cached for event in events if isinstance(event, StageFinished))
    assert results.is_sound
    assert list(Store(tmp_path / "top").addresses()) == []
