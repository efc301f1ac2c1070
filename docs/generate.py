"""Writes the pages that are made from the code; ``python docs/generate.py --check`` says whether they are up to date."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from python_reference import python_reference

from erasure.analysis.verdicts import RULE
from erasure.catalogue import ALSO_KNOWN_AS, BUILTINS
from erasure.cli import COMMANDS, _erasure
from erasure.component import Call, Component
from erasure.config.docs import parameters_of, prose_of
from erasure.config.slots import SLOTS
from erasure.registry.lookup import Registry
from erasure.unlearners.contract import Unlearner

FOLDER = Path(__file__).parent
SHARED = frozenset({"forget", "retain", "train", "validation", "batch_size", "schedule", "batch_norm", "max_grad_norm"})
ATTACKS = "erasure.measures.attacks."
MADE = "This page is made from {origin} by `python docs/generate.py`."
ROLE = re.compile(r":[a-z:]+:`~?(?:[\w.]*\.)?([^`]*)`")
INLINE_MATH = re.compile(r":math:`([^`]*)`")
MATH = re.compile(r"^\.\. math:: ?(.*(?:\n[ ]+.*)*)", re.MULTILINE)


def shown(value: Any) -> str:
    """A default as people would write it."""
    if isinstance(value, Call):
        return f"{value.name}({', '.join(f'{name}={shown(v)}' for name, v in value.parameters.items())})"
    if isinstance(value, Component):
        return type(value).__name__
    return repr(value).replace("'", '"') if isinstance(value, str | tuple) else str(value)


def defaults(cls: type[Component]) -> str:
    """The parameters of a method's own, with their defaults."""
    parts = []
    for field in dataclasses.fields(cls):
        if field.name in SHARED:
            continue
        if field.default is not dataclasses.MISSING:
            parts.append(f"`{field.name}={shown(field.default)}`")
        elif field.default_factory is not dataclasses.MISSING:
            parts.append(f"`{field.name}={shown(field.default_factory())}`")
        else:
            parts.append(f"`{field.name}` (required)")
    return ", ".join(parts) or "none"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def markdown(text: str) -> str:
    """A docstring's text as Markdown."""
    text = INLINE_MATH.sub(r"$\1$", text)
    text = ROLE.sub(r"`\1`", text).replace("``", "`")
    parts = re.split(r"(`[^`\n]*`)", text)
    text = "".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))
    return MATH.sub(lambda found: f"```math\n{' '.join(found[1].replace('&lt;', '<').split())}\n```", text)


def unlearners() -> str:
    """The catalogue of unlearners."""
    lines = [
        "# Unlearners",
        "",
        "This page is made from the registry by `python docs/generate.py`. `erasure describe NAME` says more about each.",
        "",
        "Every method also takes `forget`, `retain` and `train` (names of partitions) and `batch_size`; methods that take gradient steps",
        "also `schedule`, `batch_norm` and `max_grad_norm`.",
        "",
        "| name | paper | reads | cost | parameters and defaults |",
        "|---|---|---|---|---|",
    ]
    deviations = ["", "## Deviations", "", "Where a method departs from its paper or from the reference code.", ""]
    tested = [
        "",
        "## What results are held to",
        "",
        "The reference code was read; what each method's results are compared with, and the tests that do it.",
        "",
        "| name | reference code | tested against |",
        "|---|---|---|",
    ]
    for name in BUILTINS["unlearner"]:
        cls = Registry().resolve(name, Unlearner).cls
        assert issubclass(cls, Unlearner)
        source = cls.source
        assert source is not None, f"{name} has no source"
        reads = ", ".join(sorted(cls.reads)) or "nothing"
        lines.append(f"| **{name}** | {cell(source.paper)} | {reads} | {cell(cls.cost)} | {cell(defaults(cls))} |")
        if source.deviations:
            code = f" (reference code: {source.code})" if source.code else ""
            deviations += [f"- **{name}**{code}:", *(f"    - {cell(sentence)}" for sentence in source.deviations)]
        if source.tested:
            tested.append(f"| **{name}** | {cell(source.code)} | {cell(source.tested)} |")
    return "\n".join([*lines, *deviations, *tested]) + "\n"


def components(title: str, intro: str, kinds: Iterable[str], keep: Callable[[str], bool] = lambda _: True) -> str:
    """A page with everything there is to say about the components of some kinds."""
    lines = [f"# {title}", "", intro, "", MADE.format(origin="the registry"), ""]
    for kind in kinds:
        for name, target in BUILTINS[kind].items():
            if keep(target):
                lines += component(kind, name)
    return "\n".join(lines).rstrip() + "\n"


def component(kind: str, name: str) -> list[str]:
    cls = Registry().resolve(name, SLOTS[kind]()).cls
    lines = [f"## {name}", "", markdown(prose_of(cls)), ""]
    others = sorted(other for other, key in ALSO_KNOWN_AS.get(kind, {}).items() if key == name)
    if others:
        lines += [f"Also called {', '.join(f'`{other}`' for other in others)}.", ""]
    if cls.source is not None and cls.source.paper:
        code = f"; reference code: {cls.source.code}" if cls.source.code else ""
        lines += [f"**Paper**: {cls.source.paper}{code}", ""]
        if cls.source.tested:
            lines += [f"**Tested against**: {cls.source.tested}", ""]
    parameters = parameters_of(cls)
    if parameters:
        lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
        for p in parameters:
            default = "required" if p["required"] else f"`{json.dumps(p['default'], ensure_ascii=False)}`"
            lines.append(
                f"| `{p['name']}` | {cell(markdown(p['type']))} | {cell(default)} | {cell(markdown(p['description']))} |"
            )
    else:
        lines.append("It has no parameters.")
    if cls.source is not None and cls.source.deviations:
        lines += ["", "Deviations:", "", *(f"- {cell(markdown(sentence))}" for sentence in cls.source.deviations)]
    return [*lines, ""]


def commands() -> str:
    """The command line."""
    lines = [
        "# Commands",
        "",
        MADE.format(origin="the command line") + " `erasure COMMAND --help` says the same.",
        "",
        "Exit codes: 0 success; 1 a row or a stage failed, or the store cannot be used; 2 bad input; 130 interrupted; 70 a bug.",
        "",
    ]
    context = click.Context(_erasure, info_name="erasure", max_content_width=100)
    for name, summary in COMMANDS.items():
        command = _erasure.get_command(context, name)
        lines += [f"## erasure {name}", "", summary, "", *usage(command, context, name)]
        if isinstance(command, click.Group):
            inner = click.Context(command, parent=context, info_name=name, max_content_width=100)
            for part in command.list_commands(inner):
                lines += [f"### erasure {name} {part}", "", *usage(command.get_command(inner, part), inner, part)]
    return "\n".join(lines).rstrip() + "\n"


def usage(command: click.Command | None, parent: click.Context, name: str) -> list[str]:
    assert command is not None
    own = click.Context(command, parent=parent, info_name=name, terminal_width=100, max_content_width=100)
    return ["```text", command.get_help(own), "```", ""]


def verdicts() -> str:
    """The rule of the verdicts."""
    lines = [
        "# What each verdict means",
        "",
        MADE.format(origin="the rule that reports use") + " [Concepts](concepts.md) explains gold and the noise floor.",
        "",
        "A report gives every method one verdict. The first line of this table that applies decides; where a method has both",
        "forgotten too much by one measure and too little by another, the larger difference in noise floors decides.",
        "",
        "| verdict | when |",
        "|---|---|",
        *(f"| **{name}** | {cell(sentence)} |" for name, sentence in RULE),
        "",
        "With several training seeds a report also tests every difference ([how](numbers.md#intervals-and-tests)). Verdicts do not wait",
        "for these tests: few seeds cannot prove a difference, which is no proof of forgetting.",
        "",
        "![Gap to retraining on forgotten samples against the gap on all others, fourteen methods, the noise floor as a shaded "
        "square](pictures/tradeoff.png)",
        "",
        "The methods of the [proof of concept](first-ten-minutes.md): `SSD` and `UNSIR` are within the floor on what was forgotten and a",
        "little beyond it on the rest, so they are *close to retraining*; those to the right of the square are *under-forgotten*, those",
        "at the top *damaged*.",
    ]
    return "\n".join(lines) + "\n"


PYTHON = {
    "erasure": "What most programs need. Names are loaded when they are first used, so that `import erasure` is quick.",
    "erasure.events": "What a run reports while it works: pass a function as `listener` to receive it.",
    "erasure.testing": "Conformance suites for components that you write: inherit one in your tests.",
    "erasure.errors": "Everything that can go wrong on purpose; all are `ErasureError`.",
}
"""Modules of the Python API and what they are for."""

PAGES: dict[str, Callable[[], str]] = {
    "python.md": lambda: python_reference(PYTHON, markdown),
    "unlearners.md": unlearners,
    "commands.md": commands,
    "verdicts.md": verdicts,
    "sources.md": lambda: components(
        "Data sources", "Where samples come from: `data.data_source` of a configuration.", ["source"]
    ),
    "steps.md": lambda: components(
        "Preprocess steps",
        "What is done to the columns of a source: the list `preprocess`, and the tokenizers that `Tokenize` takes. "
        "[Preprocessing](preprocessing.md) puts them together.",
        ["step", "tokenizer"],
    ),
    "splitters.md": lambda: components(
        "Splitters",
        "What is trained on, tested on and forgotten: the list `data.partitions`. [Scenarios](scenarios.md) puts them together.",
        ["splitter"],
    ),
    "models.md": lambda: components("Models", "What is trained: `predictor.model`. Any other class can be named too.", ["model"]),
    "parts.md": lambda: components(
        "Augmentations, corruptions, triggers, masks",
        "Components that go into others: how pictures change while a model is trained (`predictor.augment`), what a `Poisoned` source does "
        "to samples, and which weights a `Masked` method may change.",
        ["augmentation", "corruption", "trigger", "mask"],
    ),
    "measures.md": lambda: components(
        "Measures",
        "What is measured: `evaluator.measures`. [Attacks](attacks.md) have their own page.",
        ["measure"],
        lambda target: not target.startswith(ATTACKS),
    ),
    "attacks.md": lambda: components(
        "Attacks",
        "Measures that try to find out who was in the training set. [Audits](audits.md) says when to use which.",
        ["measure"],
        lambda target: target.startswith(ATTACKS),
    ),
}
"""Name of each page and what makes it."""


def main() -> int:
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if (path.read_text(encoding="utf-8") if path.exists() else "") != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        print(f"{', '.join(stale)}: not up to date; run python docs/generate.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
