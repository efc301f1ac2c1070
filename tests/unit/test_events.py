"""Events as records."""

import dataclasses
import json
import pickle
import typing
from pathlib import Path

import pytest

from erasure import events
from erasure.events import Event, Message, RowReady, RunFinished, RunStarted, StageFailed, event_record, fan_out

SAMPLES = {str: "x", int: 3, float: 0.5, bool: True}


def sample(cls):
    hints = typing.get_type_hints(cls)
    return cls(**{f.name: SAMPLES.get(hints[f.name], {"a": [1, None]}) for f in dataclasses.fields(cls)})


@pytest.mark.parametrize("cls", typing.get_args(Event), ids=lambda cls: cls.__name__)
def test_every_event_is_a_json_record_and_can_be_sent_to_another_process(cls):
    event = sample(cls)
    record = json.loads(json.dumps(event_record(event), allow_nan=False))
    assert record.pop("event") == cls.__name__
    assert record == {f.name: getattr(event, f.name) for f in dataclasses.fields(cls)}
    assert pickle.loads(pickle.dumps(event)) == event


def test_every_event_is_public():
    assert {cls.__name__ for cls in typing.get_args(Event)} <= set(events.__all__)


def test_the_documentation_has_every_event_with_its_fields():
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(rows) == {"event", *(cls.__name__ for cls in typing.get_args(Event))}
    for cls in typing.get_args(Event):
        for field in dataclasses.fields(cls):
            assert f"`{field.name}`" in rows[cls.__name__], f"{cls.__name__}.{field.name}"


def test_what_json_cannot_hold_becomes_text():
    event = RowReady({"value": float("nan"), 1: ("a", float("inf")), "path": "\udcff"})
    assert event_record(event)["row"] == {"value": "nan", "1": ["a", "inf"], "path": "\\udcff"}
    json.dumps(event_record(RunStarted(experiment="x", configuration={"a": {1, 2}}, options={}))).encode()


def test_a_fan_out_tells_everybody_in_order():
    heard = []
    tell = fan_out(lambda event: heard.append(("first", event)), lambda event: heard.append(("second", event)))
    said, failed = Message("hello"), StageFailed("a", "b", "c", reason="d")
    tell(said)
    tell(failed)
    assert heard == [("first", said), ("second", said), ("first", failed), ("second", failed)]
    assert event_record(RunFinished(experiment="x", is_sound=True, elapsed_s=1.0))["failures"] == {}
