"""Processes that die at any instant, and processes that share one store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from erasure.store import Store, address

# One interpreter forks a child for each moment of death, which saves an interpreter's start each time.
_DIE_AT_EVERY_EVENT = """
import os, signal, sys
from erasure.store import Store, address

where = address("model", {"seed": 0})
WATCHED = {"open", "os.rename", "os.mkdir", "os.chmod", "os.rmdir", "os.remove", "os.listdir", "os.scandir"}

def publish(root):
    with Store(root).publish(where, "model", {"seed": 0}) as writer:
        writer.save_json("history", {"loss": list(range(500))})
        writer.save_json("final", {"loss": 0.5})

def die_at(event):
    seen = 0
    def hook(name, args):
        nonlocal seen
        if name not in WATCHED:
            return
        seen += 1
        if seen == event:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

publish(os.path.join(sys.argv[1], "0"))  # imports what is imported late
for event in range(1, 200):
    root = os.path.join(sys.argv[1], str(event))
    pid = os.fork()
    if pid == 0:
        die_at(event)
        publish(root)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    store = Store(root)
    found = [store.open(address) for address in store.addresses()]
    for artifact in found:
        artifact.verify()
        assert artifact.files == ("final.json", "history.json"), artifact.files
    publish(root)
    store.open(where).verify()
    print(len(found), killed, flush=True)
    if not killed:
        break
"""

_DIE_AT_RANDOM = """
import os, random, signal, sys, time
import filelock  # here, or the children would be killed while they import it
from erasure.store import Store, address

root, rng = sys.argv[1], random.Random(7)

def publish(start, number):
    store = Store(root)
    for seed in range(start, start + number):
        content = {"seed": seed}
        def compute(writer):
            writer.save_json("history", {"loss": [seed] * 2000})
            writer.save_json("final", {"loss": seed})
        store.get_or_compute(address("model", content), "model", content, compute)

begun = time.perf_counter()
publish(-10, 10)
whole_s = time.perf_counter() - begun  # of ten objects on this machine, as busy as it is

for round in range(30):
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            publish(round, 100_000)
            os._exit(1)
        children.append(pid)
    time.sleep(rng.uniform(0.1, 1.6) * whole_s)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""

_COMPUTE = """
import json, sys, time
from pathlib import Path
from erasure.store import Store, address

root, log, go = map(Path, sys.argv[1:])
waits = []

def wait(address):
    waits.append(address)
    print("waiting", flush=True)

def compute(writer):
    with log.open("a") as file:
        file.write("computed\\n")
    print("computing", flush=True)
    while not go.exists():
        time.sleep(0.01)
    writer.save_json("history", [0.5])

artifact = Store(root).get_or_compute(address("model", {}), "model", {}, compute, on_wait=wait)
print(json.dumps({"waits": len(waits), "history": artifact.json("history")}), flush=True)
"""


def _start(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_process_killed_at_any_step_of_publishing_leaves_a_whole_object_or_none(tmp_path):
    lines = [line.split() for line in _finish(_start(_DIE_AT_EVERY_EVENT, tmp_path / "store"))]
    assert lines[-1] == ["1", "False"]
    assert lines.count(["0", "True"]) > 10
    assert ["1", "True"] in lines


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_processes_killed_at_random_moments_leave_a_sound_store(tmp_path):
    _finish(_start(_DIE_AT_RANDOM, tmp_path / "store"))
    store = Store(tmp_path / "store")
    found = [store.open(where) for where in store.addresses()]
    assert len(found) > 10  # ten of them before anything is killed
    for artifact in found:
        artifact.verify()
        assert artifact.json("final") == {"loss": artifact.content["seed"]}
        assert len(artifact.json("history")["loss"]) == 2000
    objects = set((store.root / "objects").glob("*/*"))
    assert objects == {artifact.directory for artifact in found}
    assert not (store.root / "quarantine").exists()


def test_two_processes_that_ask_for_one_object_compute_it_once(tmp_path):
    root, log = tmp_path / "store", tmp_path / "log"
    first = _start(_COMPUTE, root, log, tmp_path / "go")
    assert first.stdout.readline() == "computing\n"
    second = _start(_COMPUTE, root, log, tmp_path / "go")
    assert second.stdout.readline() == "waiting\n"
    (tmp_path / "go").touch()
    results = [json.loads(_finish(process)[-1]) for process in (first, second)]
    assert log.read_text() == "computed\n"
    assert results == [{"waits": 0, "history": [0.5]}, {"waits": 1, "history": [0.5]}]


def test_a_killed_process_does_not_keep_others_waiting(tmp_path):
    root, log = tmp_path / "store", tmp_path / "log"
    holder = _start(_COMPUTE, root, log, tmp_path / "never")
    assert holder.stdout.readline() == "computing\n"
    waiter = _start(_COMPUTE, root, log, tmp_path)
    assert waiter.stdout.readline() == "waiting\n"
    holder.send_signal(signal.SIGKILL)
    assert json.loads(_finish(waiter)[-1]) == {"waits": 1, "history": [0.5]}
    holder.communicate()
    Store(root).open(address("model", {})).verify()
