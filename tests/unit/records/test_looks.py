"""A folder that is judged again with more seeds says so."""

import json

import pytest
from small import small_experiment

from erasure.events import Message
from erasure.experiment.configuration import load_experiment
from erasure.records.looks import LOOKS_FILE, count_look
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment


def test_the_same_design_is_one_look_and_more_seeds_are_another(tmp_path):
    three, six = {"originals": 3, "golds": 12}, {"originals": 6, "golds": 24}
    assert count_look(tmp_path, "a", three).number == 1
    assert count_look(tmp_path, "a", three).number == 1
    assert count_look(tmp_path, "a", six).number == 2
    assert count_look(tmp_path, "a", three).number == 1  # taking seeds away shows nothing new
    assert count_look(tmp_path, "b", six).number == 1


def test_planned_looks_share_the_level_and_others_come_on_top(tmp_path):
    designs = [{"originals": n, "golds": 4 * n} for n in (3, 6, 10)]
    planned = [count_look(tmp_path / "planned", "a", each, None if i else 3) for i, each in enumerate(designs)]
    assert [look.level(0.05) for look in planned] == [0.05 / 3] * 3
    assert planned[-1].spent(0.05) == pytest.approx(0.05)
    others = [count_look(tmp_path / "others", "a", each) for each in designs]
    assert [look.level(0.05) for look in others] == [0.05, 0.05 / 3, 0.05 / 3]
    assert others[-1].spent(0.05) > 0.08
    later = count_look(tmp_path / "others", "a", {"originals": 15, "golds": 60}, 3)
    assert later.planned == 1  # who has looked at the whole level cannot share it out afterwards


def test_a_file_that_cannot_be_read_is_no_look(tmp_path):
    (tmp_path / LOOKS_FILE).write_text("[", encoding="utf-8")
    assert count_look(tmp_path, "a", {"originals": 3, "golds": 12}).number == 1


def test_a_second_look_is_said(tmp_path):
    evaluator = {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}], "floor_repeats": 1}
    configuration = small_experiment(unlearners=["Identity"], evaluator=evaluator)
    configuration["predictor"]["epochs"] = 1
    heard = []

    def run(*seeds):
        heard.clear()
        options = RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False, axes={"train": seeds})
        run_experiment(load_experiment(configuration), options, heard.append)
        return [event.text for event in heard if isinstance(event, Message) and "look" in event.text]

    assert run(0) == []
    assert run(0) == []
    assert level(tmp_path / "out") == 0.05
    (said,) = run(0, 1)
    assert "look 2" in said
    assert "1.7 %" in said
    assert "6.7 %" in said
    assert level(tmp_path / "out") == pytest.approx(0.05 / 3)


def level(folder):
    return json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))["level"]
