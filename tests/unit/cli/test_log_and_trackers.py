"""``erasure run --log-json`` and ``--tracker``."""

import json

import pytest


def events(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_log_has_every_stage_and_a_rerun_follows(cli, write_config, tmp_path):
    log = tmp_path / "logs" / "run.jsonl"
    assert cli("run", "--no-report", write_config(), "--log-json", log)[0] == 0
    first = events(log)
    started = [event["address"] for event in first if event["event"] == "StageStarted"]
    computed = [event["address"] for event in first if event["event"] == "StageFinished" and not event["cached"]]
    assert started == computed
    assert len(started) > 5
    assert any(event["event"] == "EpochFinished" for event in first)
    assert [event["time"] for event in first] == sorted(event["time"] for event in first)
    assert cli("run", "--no-report", "config.jsonc", "--log-json", log)[0] == 0
    again = events(log)[len(first) :]
    assert events(log)[: len(first)] == first
    assert not any(event["event"] == "StageStarted" for event in again)
    assert all(event["cached"] for event in again if event["event"] == "StageFinished")


def test_a_failing_stage_is_in_the_log_with_its_reason(cli, write_config, tiny, tmp_path):
    bad = {"class": "NegGrad", "parameters": {"epochs": 30, "optimizer": {"class": "SGD", "parameters": {"lr": 1e30}}}}
    code, _, _ = cli("run", "--no-report", write_config(tiny(unlearners=[bad])), "--log-json", tmp_path / "log.jsonl")
    assert code == 1
    failed = [event for event in events(tmp_path / "log.jsonl") if event["event"] == "StageFailed"]
    assert failed[0]["name"] == "unlearn NegGrad"
    assert "run away" in failed[0]["reason"]


def test_a_log_that_cannot_be_written_is_refused_before_the_run(cli, write_config, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = cli("run", write_config(), "--log-json", tmp_path / "file" / "log.jsonl")
    assert code == 1
    assert "--log-json" in err
    assert not (tmp_path / ".erasure").exists()


def test_a_full_disk_under_the_log_does_not_stop_the_run(cli, write_config):
    code, out, err = cli("run", "--no-report", write_config(), "--log-json", "/dev/full")
    assert code == 0
    assert err.count("the log /dev/full stopped listening, the run goes on") == 1
    assert "results in" in out


@pytest.mark.parametrize(
    ("choice", "named"), [("mlfow", 'did you mean "mlflow"'), ("csv:x", "there are mlflow, tensorboard, wandb")]
)
def test_an_unknown_tracker_is_bad_input(cli, write_config, choice, named):
    code, _, err = cli("run", write_config(), "--tracker", choice)
    assert code == 2
    assert named in err


def test_a_tracker_hears_the_run(cli, write_config, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    assert cli("run", "--no-report", write_config(), "--tracker", f"tensorboard:{tmp_path / 'tb'}")[0] == 0
    assert (tmp_path / "tb").is_dir()
