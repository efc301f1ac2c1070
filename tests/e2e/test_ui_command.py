"""`erasure ui` on a real run: it serves what the run kept, changes nothing, and ends when it is told to."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from small import command, small_experiment

pytest.importorskip("vl_convert", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    path = folder / "small.jsonc"
    path.write_text(json.dumps(small_experiment()), encoding="utf-8")
    done = command(
        "run", path, "--store", folder / "store", "--output", folder / "runs" / "small", "--quiet", "--no-report", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


def started(*arguments, cwd):
    """The command in a process of its own, and the address it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "erasure", "ui", *map(str, arguments), "--no-browser", "--port", "0"],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def fetched(address):
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read()


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent in another way there")
def test_a_run_can_be_browsed_and_ctrl_c_ends_it(run):
    before = tree(run)
    process, address = started("runs", "--store", "store", cwd=run)
    try:
        assert address.startswith("http://127.0.0.1:")
        listed = json.loads(fetched(f"{address}data/runs.json"))["runs"]
        assert [(each["name"], each["state"], each["has_outputs"]) for each in listed] == [("small", "finished", True)]
        assert "SCRUB" in listed[0]["methods"]
        assert b"small" in fetched(address)
        assert b"Verdict on each method" in fetched(f"{address}run?run=small")
        assert b"Predictions, class by class" in fetched(f"{address}overlay?run=small&a=SCRUB&b=Finetuning")
        kept = json.loads((run / "runs" / "small" / "report.json").read_text())
        (group,) = kept["groups"]
        sizes = {p["name"]: p["n"] for p in group["partitions"]}
        assert len(group["outputs"]) == 7 * 3
        # The same confusions as the accuracy in the rows, and the same area as the report's curve.
        rows = json.loads((run / "runs" / "small" / "rows.json").read_text())
        for role in ("forget", "retain", "test"):
            found = json.loads(fetched(f"{address}data/predictions.json?run=small&a=SCRUB&b=gold&on={role}"))
            right = sum(found["first"][k][k] for k in range(len(found["classes"])))
            (accuracy,) = (r["value"] for r in rows if (r["label"], r["measure"], r["partition"]) == ("SCRUB", "accuracy", role))
            assert sum(map(sum, found["first"])) == sizes[role]
            assert right / sizes[role] == pytest.approx(accuracy, abs=1e-6)
        attack = json.loads(fetched(f"{address}data/attack.json?run=small&a=SCRUB&b=Finetuning&attack=loss"))
        aucs = {series["label"]: series["auc"] for series in group["rocs"]["series"]}
        assert {m["label"]: m["auc"] for m in attack["models"]} == pytest.approx(
            {k: aucs[k] for k in ("SCRUB", "Finetuning", "gold")}
        )
        points = json.loads(fetched(f"{address}data/embedding.json?run=small&a=SCRUB&b=original"))
        assert points["kind"] == "features"
        assert points["n"] == sum(sizes[role] for role in ("forget", "retain", "test"))
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetched(address.rsplit("/", 2)[0] + "/")
        assert refused.value.code == 403
        refused.value.close()
    finally:
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert out == ""
    assert "1 run in" in said
    assert "ended" in said
    assert "Traceback" not in said
    assert tree(run) == before


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent in another way there")
def test_an_empty_folder_is_served_with_a_word(tmp_path):
    (tmp_path / "runs").mkdir()
    process, address = started(cwd=tmp_path)
    try:
        assert b"There are no runs in this folder yet" in fetched(address)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "there are no runs in" in said
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_a_folder_that_is_not_there_is_bad_input(tmp_path):
    done = command("ui", "--no-browser", cwd=tmp_path)
    assert done.returncode == 2
    assert "runs is not a directory; name a folder of runs" in done.stderr
