"""A request that is killed at random moments leaves no certificate without its model and entry, and no request twice in the ledger."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks one process again and again")


def killed(tmp_path, n_kills, seed):
    script = Path(__file__).with_name("killed_requests.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, tmp_path / "own", str(n_kills), str(seed)],
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# By day one kill, at the moment when an answer becomes visible.
@pytest.mark.parametrize(("n_kills", "seed"), [(1, 2), pytest.param(50, 50, marks=pytest.mark.nightly)])
def test_kills_leave_no_certificate_without_model_and_entry(tmp_path, n_kills, seed):
    found = killed(tmp_path, n_kills, seed)
    assert found["problems"] == []
    assert (found["kills"], found["entries"], found["certificates"]) == (n_kills, 1, 1)
