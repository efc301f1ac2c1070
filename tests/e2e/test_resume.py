"""Runs that are killed, repeated, shared and extended."""

import random
import shutil
import signal
import subprocess
import sys
import time

from small import command, new_command, small_experiment, without_timings

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


def test_a_second_identical_run_computes_nothing(tmp_path):
    first, before = computed(small_experiment(), store=tmp_path / "store")
    second, after = computed(small_experiment(), store=tmp_path / "store")
    assert len(first) > 40
    assert second == []
    assert [row.record() for row in before] == [row.record() for row in after]


def test_a_changed_unlearner_retrains_only_itself(tmp_path):
    configuration = small_experiment()
    computed(configuration, store=tmp_path / "store")
    configuration["unlearners"][1]["parameters"]["epochs"] = 3
    names, _ = computed(configuration, store=tmp_path / "store")
    made = {name for name in names if name.startswith(("train", "unlearn"))}
    assert made == {"unlearn Finetuning"}


def test_an_added_measure_computes_only_itself_and_changes_no_other_row(tmp_path):
    configuration = small_experiment()
    _, before = computed(configuration, store=tmp_path / "store")
    configuration["evaluator"]["measures"].insert(0, "ToW")
    names, after = computed(configuration, store=tmp_path / "store")
    assert names
    assert all(name.startswith("measure ToW") for name in names)
    assert [r.record() for r in after if r.measure != "ToW"] == [r.record() for r in before]


def test_taking_a_measure_away_changes_no_random_draw_of_another(tmp_path):
    configuration = small_experiment()
    _, with_accuracy = computed(configuration, store=tmp_path / "a")
    configuration["evaluator"]["measures"] = ["UMIA"]
    _, alone = computed(configuration, store=tmp_path / "b")
    assert alone.value("UMIA", "forget", "SCRUB") == with_accuracy.value("UMIA", "forget", "SCRUB")


def test_the_order_of_unlearners_does_not_matter(tmp_path):
    configuration = small_experiment()
    _, forward = computed(configuration, store=tmp_path / "a")
    configuration["unlearners"].reverse()
    _, backward = computed(configuration, store=tmp_path / "b")
    key = lambda record: (record["label"], record["model_role"], record["measure"], record["partition"])  # noqa: E731
    assert sorted(without_timings(forward), key=key) == sorted(without_timings(backward), key=key)


def test_another_process_gives_the_same_bytes(tmp_path, write_config):
    path = write_config(brief())
    for name, run in (("a", command), ("b", new_command)):
        done = run("run", path, "--store", tmp_path / f"store-{name}", "--output", tmp_path / name, "--no-report")
        assert done.returncode == 0, done.stderr
    assert without_timings(read_rows(tmp_path / "a")) == without_timings(read_rows(tmp_path / "b"))


def test_two_runs_at_once_share_a_store_and_end_alike(tmp_path, write_config):
    path = write_config(small_experiment())
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
    assert [r.record() for r in read_rows(tmp_path / "a")] == [r.record() for r in read_rows(tmp_path / "b")]


def test_a_damaged_object_is_computed_again(tmp_path):
    configuration = small_experiment()
    _, before = computed(configuration, store=tmp_path / "store")
    models = sorted((tmp_path / "store" / "objects").glob("??/*/model.safetensors"))
    data = bytearray(models[0].read_bytes())
    data[-1] ^= 1
    models[0].write_bytes(bytes(data))
    said = []
    after = erasure.run(configuration, store=tmp_path / "store", listener=said.append)
    assert without_timings(after) == without_timings(before)
    assert any("corrupt" in str(getattr(event, "text", "")).lower() for event in said)


def test_twenty_kills_at_random_moments_end_with_the_same_rows(tmp_path, write_config):
    path, store, chance = write_config(brief()), tmp_path / "killed", random.Random(0)
    begun = time.monotonic()
    done = command("run", path, "--store", tmp_path / "calm", "--output", tmp_path / "undisturbed", "--no-report")
    assert done.returncode == 0, done.stderr
    whole_s, expected = time.monotonic() - begun, without_timings(read_rows(tmp_path / "undisturbed"))
    kills = completed = 0
    while kills < 20 or not completed:
        moment = chance.uniform(0.05, whole_s / 3) if kills < 20 else None
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
