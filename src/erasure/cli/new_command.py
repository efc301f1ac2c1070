"""``erasure new``."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from erasure.cli.prose import printable
from erasure.errors import ConfigError, nearest
from erasure.workflows.new_data import SHIPPED, DataChoice, chosen_data, refused

__all__ = ["RECOMMENDED", "command"]

RECOMMENDED = ("GoldModel", "Finetuning", "SCRUB", "SSD", "SalUn", "Identity")
"""Retraining, four methods of different kinds, and doing nothing."""

_T = TypeVar("_T")
_ASKED_FOR = {"table": "File (CSV, TSV or Parquet)", "pictures": "Folder, with one folder of pictures for each class"}
"""What is asked next about data that has a place of its own."""
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%|(0?\.\d+)")
_FEWEST_ATTACKED = 10
_WHOLE_NUMBER = re.compile(r"\d{1,9}")


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path), default="experiment.jsonc")
@click.option(
    "--data",
    metavar="DATA",
    help="digits, breast_cancer, a table (CSV, TSV, Parquet), tensors (npz, safetensors, pt) or a folder (pictures, graphs, data set).",
)
@click.option("--label", metavar="COLUMN", help="What to predict: a column of a table, or one of named tensors.")
@click.option("--forget", metavar="WHAT", help="10% at random, 25 samples at random, or class:NAME.")
@click.option("--methods", metavar="LIST", help="recommended, or names: SCRUB,SSD,Finetuning.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs of training.")
@click.option("--yes", is_flag=True, help="Ask nothing; take the defaults.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written, and where, as JSON.")
def command(
    file: Path,
    data: str | None,
    label: str | None,
    forget: str | None,
    methods: str | None,
    epochs: int | None,
    yes: bool,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Write a first configuration to FILE (experiment.jsonc): ask a few questions, explain every part, check the result.

    Options answer questions in advance. Without a terminal, --yes takes the default for everything but --label.

    \b
    erasure new
    erasure new patients.jsonc --data patients.csv --label diagnosis --forget 5%
    erasure new --data digits --forget class:3 --methods SCRUB,SSD --epochs 20
    """  # noqa: D301 - click's mark for lines that stay as they are
    questions = _Questions(asks=not yes)
    if file.exists() and not overwrite and not questions.may_replace(file):
        raise refused(f'"{file}" is already there and stays as it is', "give another name, or --overwrite")
    try:
        chosen = questions.data(data, label)
        forgetting = questions.understood(forget, lambda: questions.forget(chosen), lambda said: _forgetting(said, chosen))
        entries = questions.understood(methods, questions.methods, lambda said: _entries(said, chosen))
        text = _written(file, chosen, forgetting, entries, questions.epochs(epochs, chosen))
    except (KeyboardInterrupt, EOFError):
        click.echo("\nstopped; nothing was written", err=True)
        return 130
    _check(text)
    for notice in chosen.notices:
        click.echo(printable(f"notice: {notice}"), err=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    if as_json:
        click.echo(
            json.dumps({"file": str(file), "name": chosen.name, "samples": chosen.n_samples, "classes": list(chosen.classes)})
        )
        return 0
    click.echo(printable(f"wrote {file}"))
    click.echo(printable(f"  erasure plan {file}   what it will do, and what that costs"))
    click.echo(printable(f"  erasure run {file}    do it"))
    return 0


class _Questions:
    """Asks on the terminal what no option has said; with ``asks`` off, the default is the answer."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks

    def data(self, given: str | None, label: str | None) -> DataChoice:
        def ask() -> str:
            kind = self._ask(f"Data ({', '.join(SHIPPED)}, table, pictures, or a path)", "--data", "digits")
            if kind not in _ASKED_FOR:
                return kind
            return self._ask(_ASKED_FOR[kind], "--data", None)

        asked: list[Sequence[str]] = []

        def ask_label(columns: Sequence[str], likely: str = "") -> str:
            asked.append(columns)
            return label or likely or self._ask("Column to predict", "--label", None, columns)

        chosen = self.understood(given, ask, lambda said: chosen_data(said, ask_label))
        if label and not asked:
            raise refused(f'--label "{label}" has no effect: {chosen.comment}, whose classes are known', "leave it out")
        return chosen

    def understood(self, given: str | None, ask: Callable[[], str], understand: Callable[[str], _T]) -> _T:
        """What an answer means; a person whose answer cannot be used is told why, and asked again.

        Raises:
            ConfigError: If an option's value cannot be used, or there is no terminal to ask on.
        """
        while True:
            answer = ask() if given is None else given
            try:
                return understand(answer)
            except ConfigError as error:
                if given is not None or not self._asks or not sys.stdin.isatty():
                    raise
                for problem in error.problems:
                    click.echo(printable(f"{problem.message}; {problem.hint}" if problem.hint else problem.message), err=True)

    def forget(self, chosen: DataChoice) -> str:
        kind = self._ask("What to forget (share, class, samples)", "--forget", "share", standard_answer="10%")
        if kind == "share":
            return self._ask("Share of the training samples", "--forget", "10%")
        if kind == "class":
            return "class:" + self._ask(
                "Class", "--forget", str(next(iter(chosen.classes))), [str(each) for each in chosen.classes]
            )
        return self._ask("How many samples", "--forget", "10") if kind == "samples" else kind

    def methods(self) -> str:
        if self._ask("Methods", "--methods", "recommended", ["recommended", "chosen"]) == "recommended":
            return "recommended"
        return self._ask("Names, with commas between (erasure list unlearners shows them)", "--methods", "SCRUB,SSD")

    def epochs(self, given: int | None, chosen: DataChoice) -> int:
        if given is not None:
            return given
        while True:
            answer = self._ask("Epochs of training", "--epochs", str(chosen.epochs))
            if _WHOLE_NUMBER.fullmatch(answer) and int(answer):
                return int(answer)
            click.echo("a whole number, 1 or more", err=True)

    def may_replace(self, file: Path) -> bool:
        from rich.prompt import Confirm

        return self._asks and sys.stdin.isatty() and Confirm.ask(printable(f"Replace {file}?").replace("[", r"\["), default=False)

    def _ask(
        self, title: str, option: str, default: str | None, choices: Sequence[str] | None = None, *, standard_answer: str = ""
    ) -> str:
        if not self._asks and default is not None:
            return standard_answer or default
        if not self._asks or not sys.stdin.isatty():
            among = f" ({', '.join(choices[:20])})" if choices else ""
            remedy = f"Pass {option}{'' if default is None else ' or --yes'}"
            raise click.UsageError(f"no terminal to ask on: {title.casefold()}{among}? {remedy}")
        from rich.console import Console
        from rich.prompt import Prompt

        console = Console(stderr=True)
        if choices and len(choices) > 12:
            console.print(printable(", ".join(choices)), markup=False, highlight=False)
        few = list(choices) if choices and len(choices) <= 12 else None
        return Prompt.ask(title, console=console, choices=few, default=default) if default else _insisted(title, console, few)


def _insisted(title: str, console: Any, choices: list[str] | None) -> str:
    from rich.prompt import Prompt

    while not (answer := Prompt.ask(title, console=console, choices=choices)):
        console.print("an answer is needed")
    return answer


def _forgetting(given: str, chosen: DataChoice) -> tuple[dict[str, Any], str, int]:
    """The splitter, what it takes in words, and the smaller of the forget set and the unseen samples it is attacked with.

    Raises:
        ConfigError: If it is no share, number or class, or forgets nothing or everything.
    """
    parts = {"parts_names": ["forget", "retain"], "ref_data": "train"}
    n_train = int(chosen.n_samples * chosen.train)
    text = given.strip()
    if text.casefold().startswith("class:"):
        name = text.partition(":")[2].strip()
        named = {str(each): each for each in chosen.classes}
        if name not in named:
            shown = ", ".join(list(named)[:20])
            raise refused(f'there is no class "{name}"; there are {shown}', nearest(name, named))
        attacked = int(chosen.classes[named[name]] * min(chosen.train, 1 - chosen.train))
        return {"class": "Class", "parameters": {**parts, "labels": named[name]}}, "all training samples of one class", attacked
    if share := _SHARE.fullmatch(text):
        fraction = round(float(share[1]) / 100, 6) if share[1] else float(share[2])
        if not 0 < fraction < 1 or int(fraction * n_train) < 1:
            raise refused(f"{text} of {n_train} training samples is {int(fraction * n_train)}; forget one at least, and not all")
        words, parameters = "a share of the training samples, at random", {**parts, "percentage": fraction}
        return {"class": "Percentage", "parameters": parameters}, words, min(int(fraction * n_train), chosen.n_samples - n_train)
    if _WHOLE_NUMBER.fullmatch(text):
        if not 0 < int(text) < n_train:
            raise refused(f"{text} of {n_train} training samples cannot be forgotten; give a number between 1 and {n_train - 1}")
        parameters = {**parts, "n_samples": int(text), "shuffle": True}
        words = "a number of training samples, at random"
        return {"class": "NSamples", "parameters": parameters}, words, min(int(text), chosen.n_samples - n_train)
    raise refused(f'"{given}" does not say what to forget', "write 10% (a share), 25 (samples) or class:NAME")


def _entries(given: str, chosen: DataChoice) -> list[str | dict[str, Any]]:
    """The methods as a configuration names them; those of the recommended set with settings that suit small networks."""
    from erasure.config.docs import parameters_of
    from erasure.config.slots import SLOTS
    from erasure.registry.lookup import Registry

    names = list(RECOMMENDED)
    if given.strip().casefold() != "recommended":
        asked = dict.fromkeys(name.strip() for name in given.split(",") if name.strip())
        registry = Registry()
        found = {registry.resolve(name, SLOTS["unlearner"]()).key: name for name in asked}
        if not found:
            raise refused("no method was named", "erasure list unlearners")
        for key in found:
            required = [p["name"] for p in parameters_of(registry.resolve(key, SLOTS["unlearner"]()).cls) if p["required"]]
            if required:
                raise refused(f"{key} needs {', '.join(required)}", f"add it to the file by hand; erasure describe {key}")
        names = list(dict.fromkeys(["GoldModel", *found, "Identity"]))
    settings = _settings(chosen.kind)
    return [{"class": name, "parameters": settings[name]} if name in settings else name for name in names]


def _settings(kind: str) -> dict[str, dict[str, Any]]:
    def sgd(lr: float) -> dict[str, Any]:
        return {"class": "SGD", "parameters": {"lr": lr, "momentum": 0.9}}

    if kind == "text":  # a small transformer, which plain SGD hardly moves
        adam = {"class": "Adam", "parameters": {"lr": 0.0002}}
        return {
            "Finetuning": {"epochs": 1, "optimizer": {"class": "Adam", "parameters": {"lr": 0.0005}}},
            "SCRUB": {"epochs": 2, "max_epochs": 1, "forget_batch_size": 32, "optimizer": adam},
            "SSD": {"selection_weighting": 3.0},
            "SalUn": {"epochs": 1, "optimizer": adam},
        }
    finetuning = {"pictures": 0.05, "graphs": 0.005}.get(kind, 0.05)
    return {
        "Finetuning": {"epochs": 5, "optimizer": sgd(finetuning)},
        "SCRUB": {"epochs": 3, "max_epochs": 2, "optimizer": sgd(0.02 if kind == "pictures" else 0.003)},
        "SSD": {"selection_weighting": 3.0 if kind == "pictures" else 5.0},
        "SalUn": {"epochs": 3, "optimizer": sgd(0.02 if kind == "pictures" else 0.003)},
    }


def _written(
    file: Path, chosen: DataChoice, forgetting: tuple[dict[str, Any], str, int], entries: Sequence[Any], epochs: int
) -> str:
    """The configuration's text."""
    splitter, sentence, attacked = forgetting
    attack = '"UMIA",         // can an attacker tell forgotten samples from unseen ones?'
    if attacked < _FEWEST_ATTACKED:
        attack = "// There are too few samples to try the attack UMIA on."
    train = {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": chosen.train}}
    adam = {"class": "Adam", "parameters": {"lr": 0.005 if chosen.kind == "table" else 0.002}}
    accuracies = [{"class": "Accuracy", "parameters": {"partition": name}} for name in ("forget", "retain", "test")]
    optimiser = "How the original model and every gold model are trained; gold is the same training without the forget set."
    return f"""// Made by  erasure new.  Check it with  erasure validate,  run it with  erasure run {printable(file.name)}.
// Any part can be changed;  erasure list  shows what there is,  erasure describe NAME  explains one.
{{
  "name": {_json(re.sub(r"[^A-Za-z0-9_-]+", "_", chosen.name).strip("_") or "experiment")},

  "data": {{
    "parameters": {{
      // {printable(chosen.comment)}.
      "data_source": {_json(chosen.source)},
      "partitions": [
        // What is trained on, and what no model sees before it is judged.
        {_json(train)},
        // What to forget: {sentence}. The rest of the training set is retained.
        {_json(splitter)},
      ],
      "batch_size": 32,
    }}
  }},

  // {optimiser}
  "predictor": {{
    "parameters": {{
      "model": {_json(chosen.model)},
      "epochs": {epochs},
      "optimizer": {_json(adam)},
    }}
  }},

  // GoldModel is retraining, which every row is compared with; Identity does nothing and shows how much there is to forget.
  "unlearners": [
    {("," + chr(10) + "    ").join(map(_json, entries))},
  ],

  "evaluator": {{
    "parameters": {{
      // Further gold models of other seeds: how far apart are models that never saw the forget set?
      "floor_repeats": 5,
      "measures": [
        {("," + chr(10) + "        ").join(map(_json, accuracies))},
        {attack}
        "AverageGap",   // mean distance to gold over the three accuracies, in percentage points
        "RunTime", "SpeedUp",
      ]
    }}
  }},

  // The same seed gives the same numbers;  erasure run --seeds 0-4  repeats everything and gives intervals.
  "globals": {{"seed": 0}}
}}
"""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _check(text: str) -> None:
    """Load the text as any configuration.

    Raises:
        ConfigError: If it is not valid.
    """
    from erasure.experiment.configuration import load_experiment

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.jsonc"
        path.write_text(text, encoding="utf-8")
        try:
            load_experiment(path)
        except ConfigError as error:
            raise refused(
                f"these answers make no valid experiment: {error.problems[0].message}", error.problems[0].hint
            ) from error
