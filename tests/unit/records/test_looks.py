"""A folder that is judged again with more seeds says so."""

from small import small_experiment

from erasure.events import Said
from erasure.experiment.configuration import load_experiment
from erasure.records.looks import LOOKS_FILE, count_look
from erasure.workflows.run import RunOptions, run_experiment


def test_the_same_design_is_one_look_and_more_seeds_are_another(tmp_path):
    three, six = {"originals": 3, "golds": 12}, {"originals": 6, "golds": 24}
    assert count_look(tmp_path, "a", three) == 1
    assert count_look(tmp_path, "a", three) == 1
    assert count_look(tmp_path, "a", six) == 2
    assert count_look(tmp_path, "a", three) == 1  # taking seeds away shows nothing new
    assert count_look(tmp_path, "b", six) == 1


def test_a_file_that_cannot_be_read_is_no_look(tmp_path):
    (tmp_path / LOOKS_FILE).write_text("[", encoding="utf-8")
    assert count_look(tmp_path, "a", {"originals": 3, "golds": 12}) == 1


def test_a_second_look_is_said(tmp_path):
    evaluator = {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}], "floor_repeats": 1}
    configuration = small_experiment(unlearners=["Identity"], evaluator=evaluator)
    configuration["predictor"]["epochs"] = 1
    heard = []

    def run(*seeds):
        heard.clear()
        options = RunOptions(store=tmp_path / "store", output=tmp_path / "out", report=False, axes={"train": seeds})
        run_experiment(load_experiment(configuration), options, heard.append)
        return [event.text for event in heard if isinstance(event, Said) and "look" in event.text]

    assert run(0) == []
    assert run(0) == []
    (said,) = run(0, 1)
    assert "look 2" in said
    assert "10 %" in said
