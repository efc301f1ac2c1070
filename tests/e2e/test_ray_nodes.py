"""A sweep on a Ray cluster of two nodes gives the rows of the serial executor, whatever dies meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from small import ROOT, command, small_experiment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds the worker processes through /proc"),
]

_PATIENCE_S = 240


def _rows(directory):
    rows = [row for row in json.loads((directory / "rows.json").read_text()) if row["unit"] not in {"s", "MiB", "x"}]
    return [{key: value for key, value in row.items() if key != "elapsed_s"} for row in rows]


def _objects(store):
    """The bytes of every tensor in a store, by address and name."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.safetensors")}


def _events(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    where = tmp_path_factory.mktemp("serial")
    sweep = {"over": {"unlearners[1].parameters.epochs": [1, 2]}, "seeds": {"train": [0, 1]}}
    configuration = small_experiment(sweep=sweep, unlearners=["GoldModel", {"class": "Finetuning", "parameters": {"epochs": 2}}])
    configuration["evaluator"] |= {"measures": configuration["evaluator"]["measures"][::3], "floor_repeats": 0}
    configuration["data"]["data_source"]["parameters"]["name"] = "digits"
    (where / "sweep.jsonc").write_text(json.dumps(configuration))
    options = ("--store", where / "store", "--output", where / "out", "--quiet", "--no-report")
    done = command("sweep", where / "sweep.jsonc", *options)
    assert done.returncode == 0, done.stderr
    return where


class _TwoNodes:
    """The cluster, what its nodes keep, and its processes."""

    def __init__(self, process, place):
        self.process, self.place = process, place
        self._hear()

    def _hear(self):
        said = self.process.stdout.readline()
        assert said, f"the node did not start: {(self.place / 'errors').read_text()}"
        self.address, self.raylet = (json.loads(said)[name] for name in ("address", "raylet"))

    def lose_a_node(self):
        """The second node is killed, all at once."""
        os.kill(self.raylet, signal.SIGKILL)
        self.is_whole = False

    def mend(self):
        if not self.is_whole:
            for left in self.place.glob("erasure-*"):  # what the lost node could not take away
                shutil.rmtree(left)
            self.process.stdin.write("again\n")
            self.process.stdin.flush()
            self._hear()
            self.is_whole = True

    is_whole = True

    @property
    def own_stores(self):
        return list(self.place.glob("erasure-*/store"))

    def busy_workers(self):
        """Processes of the second node that are running a stage now."""
        found = subprocess.run(["pgrep", "-P", str(self.raylet)], capture_output=True, text=True, check=False).stdout.split()
        return [int(pid) for pid in found if _title(pid).startswith(b"ray::_run_stage")]

    def wait_for_a_busy_worker(self, run):
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and run.poll() is None:
            if busy := self.busy_workers():
                return busy[0]
            time.sleep(0.01)
        raise AssertionError("no stage ran on the second node")


def _title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _alive_under(place):
    """Command lines of processes that mention the cluster's directory."""
    mark, titles = str(place).encode(), [_title(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [title for title in titles if mark in title]


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    place = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short names
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(place)}
    with (place / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/e2e/two_nodes.py"), str(place / "ray")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            yield _TwoNodes(process, place)
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.stdout.close()
                process.wait()
    try:
        assert not _alive_under(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def two_nodes(cluster):
    """The cluster with both of its nodes; what an earlier test has lost is there again."""
    cluster.mend()
    return cluster


def _sweep(serial, two_nodes, where, *options):
    """The sweep on the cluster, in a process of its own."""
    arguments = [
        "sweep",
        serial / "sweep.jsonc",
        "--store",
        where / "store",
        "--output",
        where / "out",
        "--log-json",
        where / "log",
    ]
    arguments += ["--quiet", "--no-report", "--executor", "ray", "--address", two_nodes.address, *options]
    return subprocess.Popen(
        [sys.executable, "-m", "erasure", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
    )


def _finished(run):
    try:
        _, errors = run.communicate(timeout=_PATIENCE_S)
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()
    assert run.returncode == 0, errors


def _check(serial, where):
    assert _rows(where / "out") == _rows(serial / "out")
    assert _objects(where / "store") == _objects(serial / "store")


# By day a node is lost that has a store of its own, which takes all that a peaceful sweep takes, but that nothing is lost.
@pytest.mark.nightly
@pytest.mark.parametrize("options", [(), ("--private-stores",)], ids=["shared", "private"])
def test_a_sweep_on_two_nodes_gives_the_rows_and_the_store_of_a_serial_one(serial, two_nodes, tmp_path, options):
    stores = set()
    with _sweep(serial, two_nodes, tmp_path, *options) as run:
        two_nodes.wait_for_a_busy_worker(run)
        while options and len(stores) < 2 and run.poll() is None:
            stores |= set(two_nodes.own_stores)
            time.sleep(0.05)
        _finished(run)
    _check(serial, tmp_path)
    assert len(stores) == (2 if options else 0)
    assert not two_nodes.own_stores, "the nodes' own stores are still there"
    assert not _losses(tmp_path)


@pytest.mark.parametrize(
    "options", [pytest.param((), marks=pytest.mark.nightly, id="shared"), pytest.param(("--private-stores",), id="private")]
)
def test_stages_of_a_killed_worker_and_of_a_lost_node_are_tried_elsewhere(serial, two_nodes, tmp_path, options):
    with _sweep(serial, two_nodes, tmp_path, *options) as run:
        os.kill(two_nodes.wait_for_a_busy_worker(run), signal.SIGKILL)
        time.sleep(1)
        # Some of what the node has made is needed later, and more is under way.
        two_nodes.wait_for_a_busy_worker(run)
        two_nodes.lose_a_node()
        _finished(run)
    _check(serial, tmp_path)
    assert _losses(tmp_path)


def _losses(where):
    return [event for event in _events(where / "log") if event["event"] == "Message" and "was lost" in event["text"]]
