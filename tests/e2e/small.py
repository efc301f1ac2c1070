"""A small experiment that runs in seconds, and the command line in a process of its own."""

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

_TRAINING = textwrap.dedent(
    """
    import numpy as np
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    X = torch.randn(100, 8, generator=generator)
    Y = (X[:, 0] > 0).long()


    def data():
        return X[:60], Y[:60]


    def test():
        return X[60:], Y[60:]


    def ids():
        return IDS


    def columns():
        return {"city": ["Bern" if k < N_IN_BERN else "Oslo" for k in range(60)]}


    def model():
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


    def fit(indices, seed):
        torch.manual_seed(seed)
        network, rows = model(), torch.as_tensor(np.asarray(indices))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[rows]), Y[rows]).backward()
            optimizer.step()
        return network
    """
)


def training_file(ids, *, n_in_bern):
    """Somebody's own training, for ``erasure request``: 60 samples of whom ``ids`` are an expression, the first of them of Bern."""
    return _TRAINING.replace("IDS", ids).replace("N_IN_BERN", str(n_in_bern))


def small_experiment(**changes):
    """Breast cancer with a small network: real data, 569 samples, about two seconds."""
    configuration = {
        "name": "small",
        "data": {
            "data_source": {"class": "Sklearn", "parameters": {"name": "breast_cancer"}},
            "partitions": [
                {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
                {
                    "class": "Percentage",
                    "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1},
                },
            ],
        },
        "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [32]}}, "epochs": 20},
        "unlearners": [
            "GoldModel",
            {"class": "Finetuning", "parameters": {"epochs": 2}},
            {"class": "SCRUB", "parameters": {"epochs": 2}},
            {"class": "SSD", "parameters": {"selection_weighting": 2.0}},
            "Identity",
        ],
        "evaluator": {
            "measures": [
                {"class": "Accuracy", "parameters": {"partition": "forget"}},
                {"class": "Accuracy", "parameters": {"partition": "retain"}},
                {"class": "Accuracy", "parameters": {"partition": "test"}},
                "UMIA",
                "AverageGap",
                "RunTime",
            ],
            "floor_repeats": 1,
        },
        "globals": {"seed": 0},
    }
    return configuration | changes


def new_command(*arguments, cwd=None, kill_after_s=None, module="erasure", path=()):
    """Run the command line in a new interpreter."""
    given = [sys.executable, "-m", module, *map(str, arguments)]
    paths = os.pathsep.join([*map(str, path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    options = {"capture_output": True, "text": True, "check": False, "timeout": kill_after_s or _PATIENCE_S}
    try:
        return subprocess.run(given, cwd=cwd, env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": paths}, **options)
    except subprocess.TimeoutExpired:
        if kill_after_s is None:
            raise
        return subprocess.CompletedProcess(given, -signal.SIGKILL, "", "")


_PATIENCE_S = 600
_servers = []


def _server():
    """The process that forks; it ends with this one."""
    if not _servers:
        here = str(Path(__file__).with_name("fork_server.py"))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(
            [sys.executable, here],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        _servers.append(server)
    return _servers[0]


@atexit.register
def _end():
    for server in _servers:
        server.stdin.close()
        server.stdout.close()
        server.wait()


class Running:
    """A command that a fork carries out: its process, how it ended, and what it has written."""

    def __init__(self, server, pid, out, err):
        self.pid, self.returncode = pid, None
        self._server, self._out, self._err = server, out, err

    def wait(self, seconds=_PATIENCE_S):
        """How it ended, or None if it goes on for so long."""
        if self.returncode is None and select.select([self._server.stdout], [], [], seconds)[0]:
            self.returncode = int(self._server.stdout.readline())
        return self.returncode

    def kill(self):
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    @property
    def stdout(self):
        return self._out.read_text("utf-8")

    @property
    def stderr(self):
        return self._err.read_text("utf-8")


@contextlib.contextmanager
def running(*arguments, cwd=None, module="erasure", path=()):
    """The command line in a process of its own, forked from one that has imported the libraries; no other runs meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        out.touch()
        err.touch()
        request = {
            "module": module,
            "path": [*map(str, path)],
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd or Path.cwd()),
            "environment": {**os.environ, "NO_COLOR": "1"},
            "out": str(out),
            "err": str(err),
        }
        server = _server()
        server.stdin.write(json.dumps(request).encode() + b"\n")
        server.stdin.flush()
        run = Running(server, int(server.stdout.readline()), out, err)
        try:
            yield run
        finally:
            run.kill()
            run.wait()


def command(*arguments, cwd=None, kill_after_s=None, module="erasure", path=()):
    """Run the command line in a fork to its end; it may be killed.

    ``path`` is what ``PYTHONPATH`` adds for it.
    """
    if sys.platform != "linux":
        return new_command(*arguments, cwd=cwd, kill_after_s=kill_after_s, module=module, path=path)
    given = [*map(str, arguments)]
    with running(*given, cwd=cwd, module=module, path=path) as run:
        if run.wait(kill_after_s or _PATIENCE_S) is None:
            run.kill()
            if kill_after_s is None:
                raise subprocess.TimeoutExpired(given, _PATIENCE_S)
        return subprocess.CompletedProcess(given, run.wait(), run.stdout, run.stderr)


def _children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def _command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_worker(pid):
    """Whether this is a process that :mod:`multiprocessing` has started, and not the bookkeeper of its shared memory."""
    return any(mark in _command_line(pid) for mark in (b"spawn_main", b"multiprocessing.forkserver"))


def workers_of(pid):
    """Worker processes of a run: forks of its server, or interpreters of their own."""
    found = [child for child in _children(pid) if is_worker(child)]
    return [worker for child in found for worker in (_children(child) if b"forkserver" in _command_line(child) else [child])]


TIMINGS = {"elapsed_s"}


def without_timings(rows):
    """Records of the rows that must be the same bytes in every run."""
    kept = []
    for row in rows:
        record = row.record()
        if record["unit"] in {"s", "MiB", "x"}:
            record |= {"value": None, "gold": None, "gap": None, "floor": None, "low": None, "high": None, "status": ""}
        kept.append({name: value for name, value in record.items() if name not in TIMINGS})
    return kept
