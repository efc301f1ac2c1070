"""A store whose disk is full, read-only, forbidden or damaged: named errors or recomputation, never a wrong row, never a traceback.

File systems of their own are mounted in a private user namespace, for which no privilege is needed where the system allows it.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from small import small_experiment, without_timings

import erasure
import erasure.errors
from erasure.records.rows import read_rows
from erasure.store import Store, address

MOUNT = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def _can_mount():
    if shutil.which("unshare") is None:
        return False
    script = 'd=$(mktemp -d); mount -t tmpfs -o size=64k tmpfs "$d" && umount "$d"; code=$?; rmdir "$d"; exit $code'
    return subprocess.run([*MOUNT, script], capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not _can_mount(), reason="no tmpfs can be mounted in a user namespace here")


def quick(**changes):
    """The small experiment with fewer methods and epochs."""
    configuration = small_experiment(unlearners=["GoldModel", {"class": "SSD", "parameters": {"selection_weighting": 2.0}}])
    configuration["predictor"]["epochs"] = 3
    configuration["evaluator"] |= {"measures": configuration["evaluator"]["measures"][::3], "floor_repeats": 0}
    return configuration | changes


# Each command is a process of its own, forked after the imports.
STEPS = """
import os, subprocess, sys
import erasure.workflows.run, pandas, scipy.stats, sklearn.datasets
from erasure.cli import _run

def mount(*options):
    if subprocess.run(["mount", *options]).returncode:
        sys.exit(99)

def step(name, *arguments, **environment):
    pid = os.fork()
    if pid == 0:
        os.environ.update(environment)
        code = _run([*arguments])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(f"{name}: {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}", flush=True)
"""


def in_mount(program, *arguments, cwd):
    """Run a Python program of steps in a mount namespace of its own."""
    return subprocess.run(
        [*MOUNT, 'exec "$0" -c "$@"', sys.executable, STEPS + program, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Rows of a run that nothing happens to."""
    return without_timings(erasure.run(quick(), store=tmp_path_factory.mktemp("calm") / "store"))


@needs_mount
@pytest.mark.parametrize("size", ["96k", *(pytest.param(size, marks=pytest.mark.nightly) for size in ("16k", "48k", "160k"))])
def test_a_full_disk_is_named_and_after_room_was_made_the_run_goes_on(tmp_path, write_config, undisturbed, size):
    config, disk = write_config(quick()), tmp_path / "disk"
    disk.mkdir()
    program = """
disk, config, size = sys.argv[1:]
store = ("--store", disk + "/store")
mount("-t", "tmpfs", "-o", "size=" + size, "tmpfs", disk)
step("first", "run", config, *store, "--output", "out", "--quiet", "--no-report")
step("verify", "store", "verify", *store)
print(len(os.listdir(disk + "/store/tmp")) if os.path.isdir(disk + "/store/tmp") else 0, flush=True)
mount("-o", "remount,size=64m", disk)
step("second", "run", config, *store, "--output", "out", "--quiet", "--no-report")
step("verify", "store", "verify", *store)
"""
    done = in_mount(program, disk, config, size, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "first: 1" in lines, done.stdout + done.stderr
    assert "no space left on device; free some space or choose another disk with --store" in done.stderr
    assert lines.count("verify: 0") == 2
    assert lines[lines.index("verify: 0") + 1] == "0"  # nothing half-written stays behind
    assert "second: 0" in lines, done.stderr
    assert without_timings(read_rows(tmp_path / "out")) == undisturbed


@needs_mount
def test_a_read_only_store_serves_a_finished_run_and_refuses_a_new_one(tmp_path, write_config, undisturbed):
    erasure.run(quick(), store=tmp_path / "store")
    configs = write_config(quick(), "old.jsonc"), write_config(quick(globals={"seed": 1}), "new.jsonc")
    program = """
place, old, new = sys.argv[1:]
mount("--bind", place, place)
mount("-o", "remount,bind,ro", place)
step("old", "run", old, "--store", place, "--output", "old", "--quiet", "--no-report")
step("new", "run", new, "--store", place, "--output", "new", "--quiet", "--no-report")
step("listed", "store", "list", "--store", place)
step("layered", "store", "list", "--store", place + "-top", ERASURE_STORE_BASE=place)
"""
    done = in_mount(program, tmp_path / "store", *configs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "old: 0" in done.stdout, done.stderr
    assert "new: 1" in done.stdout
    assert "read-only file system; choose a writable directory with --store" in done.stderr
    assert without_timings(read_rows(tmp_path / "old")) == undisturbed
    lines = done.stdout.splitlines()
    listed, layered = (lines[lines.index(f"{name}: 0") - 1] for name in ("listed", "layered"))
    assert listed == layered


def _bound_by_permissions():
    """What to put before a command so that permission bits hold for it, or None: root has to give up its privilege."""
    if sys.platform == "win32":
        return None
    if os.geteuid() != 0:
        return []
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*drop, "true"], capture_output=True, check=False).returncode != 0:
        return None
    return drop


def test_a_store_without_permission_is_named(tmp_path, write_config):
    drop = _bound_by_permissions()
    if drop is None:
        pytest.skip("permission bits do not bind this user")
    config, store = write_config(quick()), tmp_path / "store"
    where = address("x", {})
    with Store(store).publish(where, "x", {}) as writer:
        writer.save_json("x", 1)
    directories = [store, *(path for path in store.rglob("*") if path.is_dir())]
    run = [*drop, sys.executable, "-m", "erasure", "run", str(config), "--store", str(store), "--output", "out", "--quiet"]
    run.append("--no-report")
    denied = "permission denied; ask for the permission or choose another directory with --store"
    for mode, code, said in ((0o555, 1, denied), (0o000, 2, "is not readable")):
        for directory in reversed(directories):
            directory.chmod(mode)
        try:
            done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        finally:
            for directory in directories:
                directory.chmod(0o755)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert str(store) in done.stderr
        assert said in done.stderr
    assert list(Store(store).addresses()) == [where]


DAMAGE = {
    "flipped": lambda path, chance: path.write_bytes(_flipped(path.read_bytes(), chance)),
    "truncated": lambda path, chance: path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)]),
    "deleted": lambda path, chance: path.unlink(),
    "a directory": lambda path, chance: (path.unlink(), path.mkdir()),
}


def _flipped(data, chance):
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in (1, 2, 3))])
def test_damage_anywhere_is_repaired_or_named_and_never_gives_a_wrong_row(tmp_path, undisturbed, seed):
    """Several files of the store at once, whichever they are: objects, the index, the format, locks."""
    chance = random.Random(seed)
    store = tmp_path / "store"
    erasure.run(quick(), store=store)
    for _ in range(4):
        files = sorted(path for path in store.rglob("*") if path.is_file() and path.stat().st_size)
        for path in chance.sample(files, 5):
            DAMAGE[chance.choice(sorted(DAMAGE))](path, chance)
        for _ in range(2):
            try:
                rows = erasure.run(quick(), store=store)
            except erasure.errors.StoreError as error:
                assert str(store) in str(error)
                format_file = store / "FORMAT"  # the one file that a person has to repair, as the error says
                assert "FORMAT" in str(error) or "store of format" in str(error)
                if format_file.is_dir():
                    format_file.rmdir()
                format_file.write_text('{"format": 1}\n')
            else:
                assert without_timings(rows) == undisturbed
        assert len(Store(store).entries()) >= len(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("most", [len(DAMAGE), pytest.param(1000, marks=pytest.mark.nightly)])
def test_every_single_file_may_be_damaged(tmp_path, undisturbed, most):
    """Flip, truncate or delete each file of the store in turn: the rows are the same, or the error says what to do.

    By day so many of each name, each damaged in another way; by night all.
    """
    chance = random.Random(5)
    store = tmp_path / "store"
    erasure.run(quick(), store=store)
    files = sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 30
    seen = Counter()
    for name in files:
        seen[name.name] += 1
        if seen[name.name] > most:
            continue
        kind = sorted(DAMAGE)[(len(name.name) + seen[name.name]) % len(DAMAGE)]
        before = (store / name).read_bytes()
        DAMAGE[kind](store / name, chance)
        if name == Path("FORMAT"):
            with pytest.raises(erasure.errors.StoreError, match=r"FORMAT|store of format"):
                erasure.run(quick(), store=store)
            if (store / name).is_dir():
                (store / name).rmdir()
            (store / name).write_bytes(before)
        assert without_timings(erasure.run(quick(), store=store)) == undisturbed, f"{kind}: {name}"
    quarantined = list((store / "quarantine").glob("*.json"))
    assert len(quarantined) > 5
    assert all(json.loads(path.read_text())["reason"] for path in quarantined)
