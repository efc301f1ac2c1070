"""``erasure list``."""

from __future__ import annotations

import json

import click

from erasure.catalogue import ALSO_KNOWN_AS, BUILTINS, plugins, plural
from erasure.cli.prose import without_markup
from erasure.errors import ConfigError, Diagnostic, nearest
from erasure.records.collection import importing
from erasure.registry.facts import Facts, facts_of

__all__ = ["command"]


@click.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(kind: str | None, as_json: bool) -> int:
    """List the components there are, or those of one KIND (sources, steps, splitters, models, augmentations, unlearners, measures …).

    For each unlearner: its paper, and which partitions it reads.

    \b
    erasure list
    erasure list unlearners
    """  # noqa: D301 - click's mark for lines that stay as they are
    kinds = [_kind(kind)] if kind else list(BUILTINS)
    with importing():  # sources that are read instead of modules stay to the end as these do
        catalogue = {k: {name: (target, facts_of(target)) for name, target in _names(k).items()} for k in kinds}
    if as_json:
        click.echo(json.dumps({k: [_record(k, name, *entry) for name, entry in found.items()] for k, found in catalogue.items()}))
        return 0
    for number, (k, found) in enumerate(catalogue.items()):
        click.echo(f"{chr(10) if number else ''}{plural(k)}")
        width = max(map(len, found), default=0)
        for name, (target, facts) in found.items():
            click.echo(f"  {name:{width}}  {without_markup(facts.summary) or f'from {target}'}")
            details = [detail for detail in (_access(facts), facts.paper) if detail]
            if details and (k == "unlearner" or kind):
                click.echo(f"  {'':{width}}  {'; '.join(details)}")
    if not kind:
        click.echo("\nerasure describe NAME says more about each.")
    return 0


def _access(facts: Facts) -> str:
    if facts.wraps:
        return "reads what the methods inside it read"
    return "" if facts.reads is None else f"reads {', '.join(facts.reads) or 'nothing'}"


def _kind(given: str) -> str:
    known = {**{k: k for k in BUILTINS}, **{plural(k): k for k in BUILTINS}}
    if given.casefold() not in known:
        raise ConfigError(
            [Diagnostic(f'there is no kind "{given}"; there are {", ".join(map(plural, BUILTINS))}', hint=nearest(given, known))]
        )
    return known[given.casefold()]


def _names(kind: str) -> dict[str, str]:
    return BUILTINS[kind] | {name: point.value for name, point in plugins(kind).items()}


def _record(kind: str, name: str, target: str, facts: Facts) -> dict[str, object]:
    reads = None if facts.reads is None or facts.wraps else list(facts.reads)
    also = sorted(other for other, key in ALSO_KNOWN_AS.get(kind, {}).items() if key == name)
    summary = without_markup(facts.summary)
    return {"name": name, "also_called": also, "class": target, "summary": summary, "paper": facts.paper, "reads": reads}
