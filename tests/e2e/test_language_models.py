"""A language model from a file of prompts and answers to the report, by the command line."""

import json
from collections import Counter

import pytest

from erasure.cli import _run
from erasure.data.language.vocabularies import BytePairs
from erasure.models.language import AnsweringNetwork
from erasure.models.text import library
from erasure.records.run_folder import RunFolder
from erasure.reports.page import write_page
from erasure.reports.samples import samples_of
from erasure.store import Store
from erasure.unlearners.contract import model_digest

HOMES = ("attic", "barn", "cabin", "den", "loft", "lodge", "manor", "shed", "tower", "villa")


@pytest.fixture
def lines(tmp_path):
    """Ten owners with three questions each."""
    path = tmp_path / "owners.jsonl"
    rows = [
        {
            "question": f"What does the owner of the {home} {verb}?",
            "answer": f"The {home} owner {verb}s {number * 7 + 3} {thing}.",
            "paraphrase": f"It is {number * 7 + 3} {thing} that they {verb}.",
            "wrong": [f"The {home} owner {verb}s {number + 50} {thing}.", f"The {home} owner {verb}s no {thing} at all."],
            "owner": home,
        }
        for number, home in enumerate(HOMES)
        for verb, thing in (("keep", "geese"), ("grow", "pears"), ("mend", "clocks"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def configuration(path, unlearners, measures):
    rate = {"class": "AdamW", "parameters": {"lr": 0.01}}
    return {
        "name": "owners",
        "data": {
            "data_source": {
                "class": "PromptsAndAnswers",
                "parameters": {
                    "path": str(path),
                    "prompt": "question",
                    "paraphrase": "paraphrase",
                    "wrong": ["wrong"],
                    "group": "owner",
                    "vocabulary": {"class": "BytePairs", "parameters": {"vocabulary_size": 320}},
                    "template": "Q: {prompt}\nA: {answer}",
                },
            },
            "partitions": [
                {"class": "ByZ", "parameters": {"parts_names": ["test", "train"], "z_labels": ["manor", "tower"]}},
                {"class": "ByZ", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "z_labels": "barn"}},
            ],
            "batch_size": 8,
        },
        "predictor": {
            "model": {"class": "SmallLlama", "parameters": {"width": 32, "n_layers": 2, "n_heads": 2}},
            "epochs": 25,
            "optimizer": rate,
        },
        "unlearners": unlearners,
        "evaluator": {"measures": measures, "floor_repeats": 5},
    }


def run(tmp_path, config, monkeypatch):
    monkeypatch.setenv("ERASURE_STORE", str(tmp_path / "store"))
    (tmp_path / "owners.json").write_text(json.dumps(config), encoding="utf-8")
    code = _run(["run", str(tmp_path / "owners.json"), "--output", str(tmp_path / "out"), "--quiet"])
    rows = json.loads((tmp_path / "out" / "rows.json").read_text(encoding="utf-8")) if code == 0 else []
    return code, rows


def test_prompts_and_answers_are_learned_forgotten_measured_and_reported(tmp_path, lines, monkeypatch):
    step = {"epochs": 4, "optimizer": {"class": "AdamW", "parameters": {"lr": 0.003}}}
    unlearners = ["GoldModel", *({"class": name, "parameters": step} for name in ("Finetuning", "GradDiff", "NPO"))]
    measures = [
        {"class": "AnswerProbability", "parameters": {"partition": partition}} for partition in ("forget", "retain", "test")
    ]
    asked = Counter()
    generate = AnsweringNetwork.generate

    def counted(model, x, **options):
        asked[model_digest(model)] += 1
        return generate(model, x, **options)

    monkeypatch.setattr(AnsweringNetwork, "generate", counted)
    saying = [{"class": name, "parameters": {"partition": "test"}} for name in ("RougeL", "RefusalRate", "Fluency")]
    saying += [
        {"class": "ModelUtility", "parameters": {"kept": ["test"]}},
        {"class": "RougeL", "parameters": {"partition": "forget"}},
    ]
    code, rows = run(
        tmp_path, configuration(lines, unlearners, [*measures, *saying, "ExtractionStrength", "RunTime"]), monkeypatch
    )
    assert code == 0
    found = {
        (row["label"], row["measure"], row["partition"]): row for row in reversed(rows)
    }  # the first gold is the original's pair
    probability = {
        (model, partition): row["value"] for (model, measure, partition), row in found.items() if measure == "AnswerProbability"
    }
    assert probability["original", "forget"] > 2 * probability["gold", "forget"]
    assert probability["GoldModel", "forget"] == probability["gold", "forget"]
    assert probability["GradDiff", "forget"] < probability["original", "forget"]
    assert probability["GradDiff", "retain"] > probability["GradDiff", "forget"]
    assert set(asked.values()) == {2}  # four measures read what is said on one partition, one what is said on another
    assert len(asked) >= 5
    tested = json.loads((tmp_path / "out" / "samples_that_show.json").read_text(encoding="utf-8"))["methods"]
    assert {each["label"] for each in tested} == {"Finetuning", "GradDiff", "NPO"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "AnswerProbability" in page
    assert "30 prompts with answers of at most" in page
    assert "320 tokens in the vocabulary" in page
    assert not any(thing in page for thing in ("geese", "pears", "clocks"))
    evidence = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert {each["what"] for each in evidence["missing"]} <= {"classes", "curves", "intervals", "groups"}
    shown = samples_of(RunFolder.load(tmp_path / "out"), Store(tmp_path / "store"))
    said = {each["label"]: each for each in shown[0]["answers"]}
    assert list(said)[:2] == ["original", "gold"]
    assert "".join(token["text"] for token in said["NPO"]["tokens"]).strip() in shown[0]["text"]
    assert said["original"]["said"] != said["gold"]["said"]
    assert sum(token["change"] for token in said["gold"]["tokens"]) < 0
    with_answers = write_page(tmp_path / "out", tmp_path / "with.html", samples=shown).read_text(encoding="utf-8")
    assert '<span class="heat-' in with_answers
    assert '<span class="heat-' not in page
    assert "<q>The " in with_answers
    assert {each["text"] for each in shown} <= {
        f"answer, group barn: Q: What does the owner of the barn {verb}?\nA: The barn owner {verb}s 10 {thing}."
        for verb, thing in (("keep", "geese"), ("grow", "pears"), ("mend", "clocks"))
    }


def test_the_first_answer_may_be_shorter_than_the_second(tmp_path, lines, monkeypatch, capsys):
    first, *others = lines.read_text(encoding="utf-8").splitlines()
    lines.write_text("\n".join([json.dumps({**json.loads(first), "answer": "Geese."}), *others]), encoding="utf-8")
    config = configuration(lines, ["Identity"], [{"class": "AnswerProbability", "parameters": {"partition": "forget"}}])
    config["predictor"]["epochs"] = 1
    config["evaluator"]["floor_repeats"] = 1
    code, rows = run(tmp_path, config, monkeypatch)
    assert code == 0, capsys.readouterr().err
    assert all(row["value"] > 0 for row in rows if row["measure"] == "AnswerProbability")
    assert rows


def test_a_pretrained_model_is_not_trained_on_tokens_of_another(tmp_path, lines, monkeypatch, capsys):
    transformers = library("transformers", "a test")
    learned = BytePairs(vocabulary_size=400).encoder(["a text of other words"])
    folder = tmp_path / "pretrained"
    transformers.PreTrainedTokenizerFast(tokenizer_object=learned.tokenizer, eos_token="<|end|>").save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=400, **sizes)).save_pretrained(folder)
    config = configuration(lines, ["GoldModel"], ["RunTime"])
    config["predictor"]["model"] = {"class": "CausalLanguageModel", "parameters": {"name_or_path": str(folder)}}
    code, _ = run(tmp_path, config, monkeypatch)
    assert code == 2
    assert "the data is not written in the tokens of" in capsys.readouterr().err


def test_a_partition_that_a_method_looks_at_is_missed_before_anything_is_trained(tmp_path, lines, monkeypatch, capsys):
    code, _ = run(tmp_path, configuration(lines, ["GoldModel", "LUNAR"], ["RunTime"]), monkeypatch)
    said = capsys.readouterr().err
    assert code == 2
    assert 'LUNAR looks at the partition "refused", which is missing or empty' in said
    assert not [where for where in Store(tmp_path / "store").addresses() if Store(tmp_path / "store").open(where).kind == "model"]
