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

from erasure.analysis.labellings import Design
from erasure.analysis.power import basis_of, expected_shift
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


DESIGNS = ((1, 3), (1, 9), (1, 19), (3, 9), (5, 4), (10, 2))
"""Originals, and further golds of each."""

VERDICTS = """\
## The test

Retrain a model with other seeds, and it differs a little. A run therefore trains further golds (`evaluator.floor_repeats` for each
original), its *jury*, and measures them as it measures the methods. If a method were retraining, its model and the jury would be
exchangeable: nobody could tell which of them is the method's. The test tries all ways to exchange their labels within each original
(10,000 random ones where there are more) and asks how often the largest difference of any value is as large as the one observed. That
share is the p-value; it holds for all values at once (Westfall and Young's step-down maximum), and Holm's correction makes it hold for
all methods of the report. Retraining itself, methods that failed and methods that changed nothing are not counted.

- **Which values.** Every value that is compared with gold, on forgotten, retained and held-out samples, attacks and traces included.
  Costs, composites of other values (`AverageGap`, `ToW`, `AUS`, `NoMUS`, `GUM`) and values that some model lacks are left out; the
  report names the last.
- **Measures of many models.** [`KLoM`](attacks.md#klom) and [`ForgettingQuality`](attacks.md#forgettingquality) judge a population and no
  single model. They are tested by exchanging the labels of their own models, and each such test is one more in Holm's correction. Over
  several repetitions, which may share models, twice the mean of their p-values counts. What they find has no side.
- **What is repeated** is the original, that is the seed of its training and split. Seeds of unlearning and measuring are averaged.
- **Looking again.** To add seeds after a verdict is another look, and another chance to accuse a retrained model. Plan it before the first
  one: with `erasure run --looks 3` each of three looks, with three, six and ten seeds say, takes a third of the 5 %. A look that was not
  planned is taken at a third of the level as well, and the run says what all looks together may cost (6.7 % with the second). The
  folder keeps them in `looks.json`; the same design again is the same look.
- **Negligible differences accuse nobody**: one sample or half a percentage point of a share, 1 % of any other value, and half a
  standard deviation of a retrained model.
- **Nearer to gold accuses nobody.** A distance to the gold of the same seeds (`Churn`, `TotalVariation`, `CKA`) counts where it is larger
  than that of other golds. What shares its randomness is nearer, above all a model that forgets exactly, whose distance is 0.
- **The side of an attack** is the one that it takes on the original, where it tells the original from golds. On a network that has
  learned wrong labels by heart an attack can do worse than guessing, and that is a trace as well. Elsewhere an attack has a side only as
  far as it does better than guessing.
- **Scattered models.** From three originals on, the test also asks whether a method's models scatter more than golds. Such a
  difference has no side.

A report draws it under *How sure is this?*: for each method, the largest difference among those of all exchanged labels; and what
is left of the original's memory, with its interval, for all methods on one axis; and how often a run like this one finds a difference,
by its size.

## How many models it takes

The smallest p-value is one over the number of labellings: 4 with one original and three further golds, 3,125 with five originals and
four each. Where even that is too large for the number of methods, a t-test takes over, from five further golds of one original on; it
assumes that the values of retrained models are normally distributed, and the report says so. With fewer nobody can be accused, and
every method is *undecided*. The table shows which shift of one of ten values is found in 80 % of cases, in standard deviations of a
retrained model.

| design | trainings | 1 method | 15 methods |
|---|---|---|---|
{designs}

## Indistinguishable, and not told apart

That nothing was found is no proof that there is nothing. *Indistinguishable* is therefore a claim of its own, over three originals or
more, and needs all of this: the method is not accused; the original, tested in the same way, is found to know more (otherwise the
values could not have shown anything); *memory left* is within 20 % of the original's, by two one-sided tests; and accuracy on retained
and held-out samples is not two points worse. Memory left is measured by [`ResidualMemory`](measures.md#residualmemory): 0 for retrained
models, 1 for the original. It bounds what can be told of the forgotten samples, not how many of them were seen: samples that a retrained
model knows as well leave no memory, and a model that keeps only such [is indistinguishable](calibration.md#the-study). Without that
measure, the value that best tells originals from golds serves, if it does so by four standard deviations. Otherwise the verdict is *not
told apart*, and its sentence states what may still be different and which design would settle it.

## What a sentence of a verdict says

> Accuracy on forgotten samples is 97.8 %; retrained models have 94.4 % (3.4 points more, p = 0.004). Of a retrained and an unlearned
> model, this value picks out the unlearned one in 94 of 100 cases.

The second sentence is the *telling rate*: how often a reader who is shown one model of each kind and only this value is right. It is 50
for models that are alike.

## The recommendation

Methods are ranked by their distance from retraining and never by their verdicts: with few models a test acquits everybody, and the
cheapest method that is acquitted is the one that does nothing. The distance is the root of the mean square, over the four claims, of
the deviations in standard deviations of a gold. The report names the nearest method; its ties; the chance that the named one is the
nearest; and its distance where other seeds choose than those that measure, which is fairer to the others. Of ties that are
indistinguishable the cheapest is named. One or two originals name nobody.

*Ties* are the methods of which it is not shown that another one is nearer, by Hsu's comparison with the best: of each method the largest of
its t statistics against all others, paired over originals, of the logarithm of the distance. It is compared with what it is among equally
near methods. The method that truly is nearest is therefore missing among the ties in at most about 5 % of reports, however many methods
there are and although the best one was chosen by these very values. Three originals tell few methods apart.

What takes as long as retraining is not recommended. Where the original, which has forgotten nothing, is among the ties, nobody is
recommended: no method is shown to be nearer than it. Where the original itself is not told from golds, the terminal, the report, the list
of runs, tables, comparisons and `erasure tune` say that these values show nothing that could be forgotten.

`python benchmarks/recommendation.py --simulate` draws log distances of 14 methods whose order is known. Two sets of three, five or ten
originals name each other's nearest among their ties in at least 91 % of pairs (by plain t-tests against the best one in 63 to 96 %). Of 14
equal methods the nearest is missing among the ties in 3 to 5 % of sets (13 to 21 %), of methods that differ seldom.

On seeds 0 to 9 of the proof of concept (`python benchmarks/recommendation.py`) two disjoint sets of five seeds name each other's nearest
among their ties in 98 % of pairs (63 % by plain t-tests), on seeds 10 to 24 in 99 % (86 %); sets of three in 97 and 98 %. The price is
that few seeds tell few of these methods apart: of 14 models 13.3 and 12.2 are ties with five seeds, the original among them in 90 and 57
% of sets, and then nobody is recommended. It is in one of 40 sets of ten of the seeds 10 to 24; with all 25 seeds six methods are ties
and SalUn is named. The nearest lies, on the seeds that did not choose it, at 1.7 and 1.2 standard deviations of a retrained model with
five seeds and at 1.8 and 1.2 with three; the best of all lies at 1.5 and 1.1. The rule was chosen by simulation alone.

## What is not promised

The test is about how a model was made. A method that trains longer than gold, or with one optimizer step more, differs, and is found.
A verdict holds for the forget sets that were drawn, this training recipe and these values. Results of versions that kept no rows of
further golds are *undecided*: run them again, and what the store has is not recomputed.

[Real golds that play the methods](calibration.md#the-study) are accused in at most 6 % of reports on digits, Adult and MUTAG, whatever the
design. On an MLP the original is found to be under-forgotten in every one, and models that keep a quarter of the forgotten samples in 92 %
of reports of five originals, as often as their quarter holds anything that a retrained model does not know; on an MLP and a CNN that know
wrong labels by heart, in every one. A network whose golds differ more, such as the demo's CNN, takes more originals or longer training.

Every run writes the numbers behind its verdicts to `verdicts.json`.
"""


def designs() -> str:
    """What designs find, each a row of a table."""
    lines = []
    for n_originals, n_golds in DESIGNS:
        design = Design(((1, n_golds),) * n_originals)
        cells = [found(design, n_methods) for n_methods in (1, 15)]
        of_each = "1 original" if n_originals == 1 else f"{n_originals} originals"
        each = " each" if n_originals > 1 else ""
        lines.append(f"| {of_each}, {n_golds} further golds{each} | {n_originals * (2 + n_golds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def found(design: Design, n_methods: int) -> str:
    shift = expected_shift(design, 10, n_methods)
    if shift is None:
        return "undecided"
    return f"{shift:.1f}{' (t-test)' if basis_of(design, n_methods) == 't' else ''}"


def verdicts() -> str:
    """The rule of the verdicts."""
    lines = [
        "# What each verdict means",
        "",
        MADE.format(origin="the rule that reports use") + " [Concepts](concepts.md) explains gold and the noise floor.",
        "",
        "A report gives every method one verdict. **Of all reports in which every method is in truth retraining, at most 5 % accuse any",
        "method of anything**, however many values and methods there are and however they are distributed. The first line of this table",
        "that applies decides.",
        "",
        "| verdict | when |",
        "|---|---|",
        *(f"| **{name}** | {cell(sentence)} |" for name, sentence in RULE),
        "",
        *VERDICTS.replace("{designs}", designs()).splitlines(),
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
