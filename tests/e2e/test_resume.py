"""Runs that are killed, repeated, shared and extended."""

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small import command, small_experiment, without_timings

import erasure
from erasure.events import StageFinished
from erasure.records.rows import read_rows


def computed(configuration, **options):
    """Names of the stages that a run computes, and its results."""
    names = []

    def listen(event):
        if isinstance(event, StageFinished) and not event.cached:
            names.append(event.name)

    results = erasure.run(configuration, listener=listen, **options)
    return names, results


def brief():
    """The small experiment with fewer epochs, measures and models."""
    configuration = small_experiment()
    configuration["predictor"]["epochs"] = 5
    configuration["evaluator"] |= {"measures": configuration["evaluator"]["measures"][::2], "floor_repeats": 0}
    return configuration


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The store of a run, what it computed, and its results."""
    store = tmp_path_factory.mktemp("first") / "store"
    return store, *computed(small_experiment(), store=store)


@pytest.fixture
def store(first_run, tmp_path):
    """A copy of that store."""
    return shutil.copytree(first_run[0], tmp_path / "store")


def test_a_second_identical_run_computes_nothing(first_run, store):
    _, first, before = first_run
    second, after = computed(small_experiment(), store=store)
    assert len(first) > 40
    assert second == []
    assert [row.record() for row in before] == [row.record() for row in after]


def test_a_changed_unlearner_retrains_only_itself(store):
    configuration = small_experiment()
    configuration["unlearners"][1]["parameters"]["epochs"] = 3
    names, _ = computed(configuration, store=store)
    made = {name for name in names if name.startswith(("train", "unlearn"))}
    assert made == {"unlearn Finetuning"}


def test_an_added_measure_computes_only_itself_and_changes_no_other_row(first_run, store):
    configuration, before = small_experiment(), first_run[2]
    configuration["evaluator"]["measures"].insert(0, "ToW")
    names, after = computed(configuration, store=store)
    assert names
    assert all(name.startswith("measure ToW") for name in names)
    assert [r.record() for r in after if r.measure != "ToW"] == [r.record() for r in before]


def test_taking_a_measure_away_changes_no_random_draw_of_another(first_run, tmp_path):
    configuration = small_experiment()
    configuration["evaluator"]["measures"] = ["UMIA"]
    _, alone = computed(configuration, store=tmp_path / "store")
    assert alone.value("UMIA", "forget", "SCRUB") == first_run[2].value("UMIA", "forget", "SCRUB")


def test_the_order_of_unlearners_does_not_matter(first_run, tmp_path):
    configuration, forward = small_experiment(), first_run[2]
    configuration["unlearners"].reverse()
    _, backward = computed(configuration, store=tmp_path / "store")
    key = lambda record: (record["label"], record["model_role"], record["measure"], record["partition"])  # noqa: E731
    assert sorted(without_timings(forward), key=key) == sorted(without_timings(backward), key=key)


def test_two_runs_at_once_share_a_store_and_end_alike_with_the_bytes_of_this_process(tmp_path, write_config):
    path = write_config(brief())
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "erasure",
                "run",
                str(path),
                "--store",
                str(tmp_path / "store"),
                "--output",
                str(tmp_path / name),
                "--no-report",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in ("a", "b")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    rows = read_rows(tmp_path / "a")
    assert [row.record() for row in rows] == [row.record() for row in read_rows(tmp_path / "b")]
    assert without_timings(rows) == without_timings(erasure.run(brief(), store=tmp_path / "own"))


def test_a_damaged_object_is_computed_again(first_run, store):
    configuration, before = small_experiment(), first_run[2]
    models = sorted((store / "objects").glob("??/*/model.safetensors"))
    data = bytearray(models[0].read_bytes())
    data[-1] ^= 1
    models[0].write_bytes(bytes(data))
    said = []
    after = erasure.run(configuration, store=store, listener=said.append)
    assert without_timings(after) == without_timings(before)
    assert any("corrupt" in str(getattr(event, "text", "")).lower() for event in said)


@pytest.mark.parametrize("n_kills", [8, pytest.param(20, marks=pytest.mark.nightly)])
def test_kills_at_random_moments_end_with_the_same_rows(tmp_path, write_config, n_kills):
    path, store, chance = write_config(brief()), tmp_path / "killed", random.Random(0)
    begun = time.monotonic()
    done = command("run", path, "--store", tmp_path / "calm", "--output", tmp_path / "undisturbed", "--no-report")
    assert done.returncode == 0, done.stderr
    whole_s, expected = time.monotonic() - begun, without_timings(read_rows(tmp_path / "undisturbed"))
    kills = completed = 0
    while kills < n_kills or not completed:
        moment = chance.uniform(0.05, whole_s / 3) if kills < n_kills else None
        options = ("--store", store, "--output", tmp_path / "after", "--no-report")
        done = command("run", path, *options, kill_after_s=moment)
        if done.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert done.returncode == 0, done.stderr
        assert without_timings(read_rows(tmp_path / "after")) == expected
        shutil.rmtree(store)
        completed += 1


def test_a_failing_unlearner_leaves_failed_rows_and_the_rest_complete(tmp_path):
    configuration = small_experiment()
    configuration["unlearners"].append(
        {"class": "NegGrad", "parameters": {"epochs": 30, "optimizer": {"class": "SGD", "parameters": {"lr": 1e30}}}}
    )
    results = erasure.run(configuration, store=tmp_path / "store")
    failed = [row for row in results if row.label == "NegGrad"]
    assert not results.is_sound
    assert failed
    assert {row.status for row in failed} == {"failed"}
    assert all("run away" in row.reason for row in failed)
    assert all(row.status not in {"failed", "non-finite"} for row in results if row.label != "NegGrad")
