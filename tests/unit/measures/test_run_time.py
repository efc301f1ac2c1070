import pytest
import torch
from measure_toys import evaluation_of

from erasure.errors import RequirementNotMet
from erasure.measures.run_time import RunTime, SpeedUp

_LABELS, _LOGITS = {"test": torch.tensor([0])}, {"test": torch.zeros(1, 2)}


def test_seconds_precomputation_and_memory_stand_side_by_side():
    evaluation = evaluation_of(_LABELS, _LOGITS, elapsed_s=0.5, precompute_s=2.0, peak_memory_mib=300.0)
    found = {
        (value.name or RunTime().title): (value.value, value.unit or RunTime.unit) for value in RunTime().measure(evaluation)
    }
    assert found == {"RunTime": (0.5, "s"), "precompute": (2.0, "s"), "peak memory": (300.0, "MiB")}


def test_unknown_memory_is_left_out():
    assert [value.name for value in RunTime().measure(evaluation_of(_LABELS, _LOGITS))] == [None, "precompute"]


def test_less_time_is_better_and_there_is_no_ideal():
    assert (RunTime.higher_is_better, RunTime.ideal) == (False, None)


def test_speed_up_is_golds_time_by_the_methods():
    evaluation = evaluation_of(_LABELS, _LOGITS, gold=_LOGITS, elapsed_s=0.5, gold_elapsed_s=4.0, precompute_s=100.0)
    [value] = SpeedUp().measure(evaluation)
    assert value.value == 8.0


def test_speed_up_needs_gold_and_a_time():
    with pytest.raises(RequirementNotMet, match="gold"):
        SpeedUp().measure(evaluation_of(_LABELS, _LOGITS))
    with pytest.raises(RequirementNotMet, match="zero"):
        SpeedUp().measure(evaluation_of(_LABELS, _LOGITS, gold=_LOGITS, elapsed_s=0.0))
