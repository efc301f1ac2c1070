"""Forgotten samples in the report: words of texts and rows of tables as their files have them, and only where they are asked for."""

import html
import json
import re
import zlib

import pytest
from small import command, small_experiment

pytest.importorskip("vl_convert", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")

COLOURS = ("red", "<script>alert(1)</script>", "=1+1", "blue & green")


def reported(folder, source, model, *options):
    """The page with samples of a run with one method."""
    unlearners = ["GoldModel", {"class": "Finetuning", "parameters": {"epochs": 1}}]
    configuration = small_experiment(unlearners=unlearners)
    configuration["data"]["data_source"] = source
    configuration["predictor"] = {"model": model, "epochs": 1}
    configuration["evaluator"]["measures"] = configuration["evaluator"]["measures"][:3]
    (folder / "small.jsonc").write_text(json.dumps(configuration), encoding="utf-8")
    options = ("--store", "store", "--output", "out", "--executor", "serial", "--quiet", *options)
    done = command("run", "small.jsonc", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    done = command("report", "out", "--with-samples", "--store", "store", "--output", "shown.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "shown.html").read_text("utf-8")


def contents(text):
    """Sample number and content of every line of the tables of samples."""
    found = re.findall(r'<tr><td>(\d+)</td>(?:<td class="number">[^<]*</td>){3}<td>(label [^<]*)</td></tr>', text)
    return {int(number): html.unescape(content) for number, content in found}


def test_a_row_of_a_table_is_shown_as_its_file_has_it(tmp_path):
    rows = []
    for i in range(120):
        draw = zlib.crc32(f"row {i}".encode())
        colour = COLOURS[draw % 4]
        rows.append(
            (10_000 + draw % 300_000, (draw % 97) / 100, colour, ("north", "south")[draw % 2], ("no", "yes")[draw % 3 == 0])
        )
    lines = "\n".join(",".join(map(str, row)) for row in rows)
    (tmp_path / "table.csv").write_text(f"weight,share,colour,place,answer\n{lines}\n", encoding="utf-8")
    source = {
        "class": "TableFile",
        "parameters": {"path": "table.csv", "label": "answer", "categorical": ["colour"], "z": ["place"]},
    }
    shown = reported(tmp_path, source, {"class": "MLP", "parameters": {"hidden_sizes": [4]}}, "--no-report")
    found = contents(shown)
    assert len(found) >= 5
    for number, content in found.items():
        weight, share, colour, place, answer = rows[number]
        assert content == f"label {answer}, group {place}: weight {weight}, share {share:g}, colour={colour}"
    assert "<script>alert" not in shown


def test_a_text_is_shown_in_words(tmp_path):
    subjects, verbs = ("the cat", "a <b>dog</b>", "my aunt"), ("sleeps", "won't eat", "sings")
    texts = []
    for i in range(120):
        draw = zlib.crc32(f"text {i}".encode())
        texts.append((f"{subjects[draw % 3]} {verbs[draw // 3 % 3]} {i}!", ("no", "yes")[draw % 2]))
    lines = "\n".join(f"{text},{answer}" for text, answer in texts)
    (tmp_path / "texts.csv").write_text(f"text,answer\n{lines}\n", encoding="utf-8")
    source = {
        "class": "HuggingFace",
        "parameters": {
            "files": ["texts.csv"],
            "columns": "text",
            "label": "answer",
            "max_length": 16,
            "vocabulary_size": 500_000,
        },
    }
    model = {"class": "SmallTransformer", "parameters": {"n_tokens": 500_000, "width": 4, "n_heads": 1, "n_layers": 1}}
    shown = reported(tmp_path, source, model)
    without = (tmp_path / "out" / "report.html").read_text("utf-8")
    found = contents(shown)
    assert len(found) >= 5
    for number, content in found.items():
        text, answer = texts[number]
        spaced = re.sub(r"([<>/])", r" \1 ", text).split()  # marks are tokens of their own
        assert content.split() == [*f"label {answer}:".split(), *spaced]
    assert contents(without) == {}
    assert "<b>dog" not in shown
