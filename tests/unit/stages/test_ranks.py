"""Two processes train the model that one does, and leave nothing behind however they end."""

import importlib.util
import os
import sys
from pathlib import Path

import many_ranks
import pytest
import torch
from torch import nn

from erasure.errors import Diverged, RequirementNotMet
from erasure.events import ignore_events
from erasure.stages.ranks import on_ranks
from erasure.stages.worker_processes import context
from erasure.training.calls import Loss, Optimizer
from erasure.training.distributed import share, unsupported_reason
from erasure.training.predictor import Predictor

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lightning_fabric") is None, reason="the extra fabric is not installed")


def _gone(pid):
    """Whether a process has ended; the parent has waited for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _pids(directory):
    return [int(path.read_text()) for path in Path(directory).glob("pid-*")]


ALL = tuple(many_ranks.cases())
KINDS = ("mlp-Adam-double", "cnn-SGD-double", "transformer-Adam-double", "transformer-SGD-single", "stopped-early")
"""Every network, optimiser and precision once."""


# By day the kinds of cases, fewer of them in shards; only by night each pair of them, and shards of answers.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        pytest.param("ddp", (*KINDS, *ALL[12:]), id="ddp"),
        pytest.param("fsdp", (*KINDS[1:4], "clipped"), id="fsdp"),
        pytest.param("ddp", ALL, marks=pytest.mark.nightly, id="ddp-all"),
        pytest.param("fsdp", ALL, marks=pytest.mark.nightly, id="fsdp-all"),
    ],
)
def test_two_processes_train_the_model_that_one_does(strategy, names, tmp_path):
    cases = {name: case for name, case in many_ranks.cases().items() if name in names}
    assert len(cases) == len(set(names))
    first, second = on_ranks(many_ranks.work, list(cases), 2, strategy, "cpu", tmp_path, ignore_events)
    for name, case in cases.items():
        expected = many_ranks.trained(case).state_dict()
        assert first[name].keys() == expected.keys()
        tolerance = 1e-9 if case.double else 1e-4
        for key, value in expected.items():
            found = torch.from_numpy(first[name][key])
            assert (found - value).abs().max() <= tolerance, f"{name}: {key}"
            if strategy == "ddp":
                assert (first[name][key] == second[name][key]).all(), f"{name}: {key} differs between the processes"


def test_an_error_of_one_process_is_the_error_and_ends_the_others(tmp_path):
    with pytest.raises(Diverged, match="not finite in epoch 1 of 4"):
        on_ranks(many_ranks.fail, None, 2, "ddp", "cpu", tmp_path, ignore_events)
    assert len(_pids(tmp_path)) == 2
    assert all(_gone(pid) for pid in _pids(tmp_path))


def test_a_process_that_is_killed_is_named_and_ends_the_others(tmp_path):
    with pytest.raises(RequirementNotMet, match=r"process 2 of 2 died \(signal 9\)"):
        on_ranks(many_ranks.die, None, 2, "ddp", "cpu", tmp_path, ignore_events)
    assert len(_pids(tmp_path)) == 2
    assert all(_gone(pid) for pid in _pids(tmp_path))


def test_an_error_of_a_library_says_where_it_happened(tmp_path):
    with pytest.raises(
        RequirementNotMet, match=r"process 1 of 2: ZeroDivisionError: no such thing \(line \d+ of many_ranks\.py\)"
    ):
        on_ranks(many_ranks.complain, None, 2, "ddp", "cpu", tmp_path, ignore_events)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process is a new interpreter")
def test_processes_are_forks_of_one_that_lasts_and_see_the_environment_of_now(tmp_path, monkeypatch):
    answers = []
    for word in ("first", None, "second"):
        monkeypatch.setenv("ERASURE_TEST_WORD", word) if word else monkeypatch.delenv("ERASURE_TEST_WORD")
        (tmp_path / str(word)).mkdir()
        answers += on_ranks(many_ranks.told, "ERASURE_TEST_WORD", 2, "ddp", "cpu", tmp_path / str(word), ignore_events)
    assert [word for word, _ in answers] == ["first", "first", None, None, "second", "second"]
    (server,) = {parent for _, parent in answers}
    assert server != os.getpid()
    assert context("cuda", ()).get_start_method() == "spawn"  # CUDA does not survive a fork


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_cuda_devices_train_the_model_that_one_cpu_does(strategy, tmp_path):
    names = ["mlp-SGD-double", "cnn-SGD-double", "transformer-SGD-double"]
    found = on_ranks(many_ranks.work, names, 2, strategy, "cuda", tmp_path, ignore_events)[0]
    for name in names:
        expected = many_ranks.trained(many_ranks.cases()[name]).state_dict()
        assert all((torch.from_numpy(found[name][key]) - value).abs().max() <= 1e-9 for key, value in expected.items())


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 16])
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5])
def test_shares_are_all_of_a_batch_and_differ_by_one_at_most(n, n_ranks):
    shares = [share(n, rank, n_ranks) for rank in range(n_ranks)]
    assert [i for start, size in shares for i in range(start, start + size)] == list(range(n))
    sizes = [size for _, size in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("strategy", "changes", "reason"),
    [
        ("ddp", {"loss_fn": Loss.of("KLDivLoss", reduction="batchmean")}, 'reduction="batchmean" is no mean'),
        ("ddp", {"loss_fn": Loss.of("CrossEntropyLoss", reduction="none")}, None),
        ("ddp", {"loss_fn": Loss.of("CrossEntropyLoss", ignore_index=1)}, "weight or ignore_index"),
        ("ddp", {"loss_fn": Loss.of("CrossEntropyLoss", label_smoothing=0.1)}, None),
        ("fsdp", {"optimizer": Optimizer.of("Adafactor", lr=0.1)}, "Adafactor needs all weights at once"),
        ("ddp", {"optimizer": Optimizer.of("Adafactor", lr=0.1)}, None),
        ("fsdp", {"optimizer": Optimizer.of("AdamW", lr=0.1)}, None),
    ],
)
def test_a_recipe_that_cannot_be_shared_is_refused(strategy, changes, reason):
    predictor = Predictor(model=many_ranks.MLP(), **changes)
    found = unsupported_reason(nn.Linear(2, 2), predictor, None, strategy)
    assert found is None if reason is None else reason in found


def test_a_layer_whose_statistics_cannot_be_shared_is_refused():
    class OwnNorm(nn.BatchNorm1d):
        """Does something more."""

    reason = unsupported_reason(nn.Sequential(OwnNorm(3)), Predictor(model=many_ranks.MLP()), None, "ddp")
    assert reason == "OwnNorm layers cannot take their statistics over several devices"
