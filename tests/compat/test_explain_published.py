"""``erasure validate --explain`` says how a published file is understood."""

import json

import pytest
import upstream_vocabulary as vocabulary

from erasure.cli import _run
from erasure.registry.upstream import SECTIONS, UPSTREAM

SCRUB = f"{vocabulary.UNLEARN}Scrub.Scrub"


@pytest.fixture
def said(tmp_path, capsys):
    """Explains an experiment with further methods and measures; the lines below each title."""

    def explain(*unlearners, measures=(), options=()):
        written = vocabulary.experiment()
        written["unlearners"] += unlearners
        written["evaluator"]["parameters"]["measures"] += measures
        file = tmp_path / "published.jsonc"
        file.write_text(json.dumps(written, indent=1))
        assert _run(["validate", str(file), "--explain", *options]) == 0
        out = capsys.readouterr().out
        if options:
            return json.loads(out)
        blocks = out.split("\n\n")
        return {block.partition(":\n")[0]: block.partition(":\n")[2].splitlines() for block in blocks[1:]}

    return explain


def line(lines, word):
    (found,) = [index for index, each in enumerate(lines) if word in each]
    return found


def test_names_are_said_once_with_what_was_renamed_and_assumed(said):
    nodes = [{"class": SCRUB, "parameters": {"T": 2.0, "epochs": n}} for n in (1, 2, 3, 4, 5)]
    lines = said(*nodes)["What each published name stands for"]
    at = line(lines, SCRUB)
    assert "unlearners[1], unlearners[2], unlearners[3] and 2 more" in lines[at]
    assert "erasure.unlearners.scrub:Scrub" in lines[at]
    assert lines[at + 1].strip() == "renamed: T is temperature"
    assert lines[at + 2].strip() == "where nothing is written: optimizer = Adam(lr=0.001), alpha = 1.0, gamma = 1.0"


def test_a_parameter_without_effect_is_said_with_its_reason_and_every_place(said):
    ssd = f"{vocabulary.UNLEARN}SelectiveSynapticDampening.SelectiveSynapticDampening"
    nodes = [{"class": ssd, "parameters": {"lr": rate, "selection_weighting": weighting}} for rate, weighting in ((1, 2), (3, 4))]
    (found,) = [each for each in said(*nodes)["Without effect"] if '"lr"' in each]
    assert "unlearners[1].parameters.lr, unlearners[2].parameters.lr" in found
    assert "the method takes no gradient steps" in found


def test_what_is_left_out_and_what_differs_have_sections_of_their_own(said):
    saver = {"class": f"{vocabulary.EVAL}measures.SaveValues", "parameters": {"path": "out.json"}}
    sections = said({"class": SCRUB}, measures=[saver])
    assert any("SaveValues" in each for each in sections["Left out"])
    assert any("the teacher is a real copy" in each for each in sections["Unlike the reference implementation"])


def test_faults_that_are_not_repeated_are_said_for_what_the_file_uses(said):
    lines = said()["Faults of the reference implementation that are not repeated"]
    assert any("keeps the last short batch" in each and "DatasetManager" in each for each in lines)
    assert any("follow no seed" in each and "DataSplitterPercentage" in each for each in lines)
    assert not any("masks" in each for each in lines)
    finetuning = {"class": f"{vocabulary.UNLEARN}Finetuning.Finetuning", "parameters": {"last_trainable_layers": 1}}
    lines = said(finetuning)["Faults of the reference implementation that are not repeated"]
    assert any("masks" in each and each.endswith(": Finetuning") for each in lines)


def test_our_own_names_are_not_called_published(said, tmp_path, capsys):
    sections = said("Identity")
    assert any('"Identity"' in each for each in sections["What each name stands for"])
    assert not any('"Identity"' in each for each in sections["What each published name stands for"])


def test_the_same_as_json(said):
    found = said({"class": SCRUB, "parameters": {"T": 2.0}}, options=("--json",))
    (scrub,) = [each for each in found["names"] if each["name"] == SCRUB]
    assert scrub["renamed"] == {"T": "temperature"}
    assert scrub["assumed"]["alpha"] == 1.0
    assert {each["kind"] for each in found["notices"]} == {"unlike"}


def test_sentences_of_the_table_end_without_a_stop_and_name_no_one_else():
    for alias in [*UPSTREAM.values(), *SECTIONS.values()]:
        for sentence in (alias.note, alias.fault, alias.dropped, *alias.ignored.values()):
            assert not sentence.endswith(".")
            assert sentence == sentence.strip()


def test_what_of_a_parameter_has_no_effect_is_said_beside_what_has(said):
    attack = {"class": f"{vocabulary.EVAL}MIA.lira.Attack", "parameters": vocabulary.SHADOWS}
    (found,) = [each for each in said(measures=[attack])["Without effect"] if '"shadows"' in each]
    assert "n_shadows is used; all else in it has no effect" in found
