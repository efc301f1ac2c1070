"""The log of events."""

import datetime
import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from erasure.errors import StoreError
from erasure.events import EpochFinished, Event, Message, RowReady, event_record
from erasure.trackers import Guarded, JsonLines


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_event_is_a_line_with_its_time(tmp_path):
    path = tmp_path / "deep" / "log.jsonl"
    log = JsonLines(path)
    events = [Message("größer\nals"), EpochFinished("train", 1, 5), RowReady({"value": float("nan"), "label": "\x1b"})]
    before = datetime.datetime.now(datetime.UTC)
    for number, event in enumerate(events, start=1):
        log.listen(event)
        assert len(lines(path)) == number  # on the disk before the next one happens
    log.close(interrupted=False)
    found = lines(path)
    assert [{k: v for k, v in line.items() if k != "time"} for line in found] == [event_record(event) for event in events]
    for line in found:
        assert list(line)[:2] == ["time", "event"]
        assert abs(datetime.datetime.fromisoformat(line["time"]) - before) < datetime.timedelta(minutes=5)
    assert {line["event"] for line in found} < {cls.__name__ for cls in typing.get_args(Event)}


def test_a_second_run_goes_on_in_the_same_file(tmp_path):
    for text in ("first", "second"):
        log = JsonLines(tmp_path / "log.jsonl")
        log.listen(Message(text))
        log.close(interrupted=True)
    assert [line["text"] for line in lines(tmp_path / "log.jsonl")] == ["first", "second"]


def test_a_log_that_cannot_be_opened_is_refused_before_the_run(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Cannot write .*log\.jsonl: .*; .*--log-json"):
        JsonLines(tmp_path / "file" / "log.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_log_and_not_the_run():
    said = []
    with Guarded(JsonLines(Path("/dev/full")), "the log", said.append) as guarded:
        guarded.listen(Message("a"))
        guarded.listen(Message("b"))
    assert len(said) == 1
    assert "no space left on device" in said[0]


def test_a_killed_process_has_written_all_that_happened(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from erasure.events import Message; from erasure.trackers import JsonLines\n"
        "log = JsonLines(Path(sys.argv[1]))\n"
        "for i in range(100): log.listen(Message(str(i)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "log.jsonl"], check=False)
    assert [line["text"] for line in lines(tmp_path / "log.jsonl")] == [str(i) for i in range(100)]
