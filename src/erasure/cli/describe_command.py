"""``erasure describe``."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from erasure.catalogue import ALSO_KNOWN_AS, BUILTINS
from erasure.cli.prose import without_markup
from erasure.errors import UnknownComponent, with_article

__all__ = ["command"]


@click.command("describe")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(BUILTINS)), help="Kind, if several components have the name.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(name: str, kind: str | None, as_json: bool) -> int:
    """Explain the component NAME: what it does, parameters, paper, cost, deviations, and how to write it in a configuration.

    \b
    erasure describe SCRUB
    erasure describe Percentage --kind splitter
    """  # noqa: D301 - click's mark for lines that stay as they are
    found = _found(name, kind)
    description = _description(*found)
    if as_json:
        click.echo(json.dumps(description))
        return 0
    _print(description)
    return 0


def _found(name: str, kind: str | None) -> tuple[str, str, type[Any]]:
    """Kind, registered name and class."""
    from erasure.config.slots import SLOTS
    from erasure.errors import Diagnostic, nearest
    from erasure.registry.lookup import Registry

    registry = Registry()
    for k in [kind] if kind else list(BUILTINS):
        try:
            resolved = registry.resolve(name, SLOTS[k]())
        except UnknownComponent:
            continue
        return k, resolved.key, resolved.cls
    candidates = [n for k in BUILTINS if kind in {None, k} for n in (*registry.names(k), *ALSO_KNOWN_AS.get(k, {}))]
    raise UnknownComponent([Diagnostic(f'there is no {kind or "component"} called "{name}"', hint=nearest(name, candidates))])


def _description(kind: str, key: str, cls: type[Any]) -> dict[str, Any]:
    from erasure.config.docs import parameters_of, prose_of
    from erasure.registry.upstream import UPSTREAM

    source = cls.source
    return {
        "name": key,
        "kind": kind,
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "description": prose_of(cls),
        "parameters": parameters_of(cls),
        "paper": source.paper if source else "",
        "reference_code": source.code if source else "",
        "tested": source.tested if source else "",
        "deviations": list(source.deviations) if source else [],
        "cost": getattr(cls, "cost", ""),
        "reads": _reads(kind, cls),
        "search_space": _search_space(kind, cls),
        "also_called": sorted(n for n, target in ALSO_KNOWN_AS.get(kind, {}).items() if target == key),
        "upstream": sorted(path for path, alias in UPSTREAM.items() if alias.kind == kind and alias.target == key),
    }


def _reads(kind: str, cls: type[Any]) -> list[str] | None:
    """Partitions that an unlearner looks at; None for other kinds, and where it depends on the methods inside."""
    from erasure.config.slots import SLOTS

    if kind != "unlearner" or (not cls.reads and cls.partitions is not SLOTS[kind]().partitions):
        return None
    return sorted(cls.reads)


def _search_space(kind: str, cls: type[Any]) -> dict[str, Any] | None:
    """What ``erasure tune`` tries, by parameter; None for other kinds and for methods that publish nothing."""
    import dataclasses

    published = getattr(cls, "search_space", None) if kind == "unlearner" else None
    return None if published is None else {name: dataclasses.asdict(each) for name, each in published.items()}


def _tried(values: dict[str, Any]) -> str:
    if "values" in values:
        return ", ".join(map(str, values["values"]))
    return f"{values['low']:g} to {values['high']:g}{' (log)' if values['log'] else ''}"


def _print(d: dict[str, Any]) -> None:
    others = f" (also: {', '.join(d['also_called'])})" if d["also_called"] else ""
    click.echo(f"{d['name']}, {with_article(d['kind'])}{others}\n")
    click.echo(without_markup(d["description"]))
    reads = "what the methods inside it read" if d["reads"] is None else ", ".join(d["reads"]) or "nothing"
    facts = {
        "Paper": d["paper"],
        "Reference code": d["reference_code"],
        "Tested against": d["tested"],
        "Reads": reads if d["kind"] == "unlearner" else "",
    }
    if "**Cost**" not in d["description"]:
        facts["Cost"] = d["cost"]
    facts = {title: fact for title, fact in facts.items() if fact}
    click.echo("".join(f"\n{title}: {fact}" for title, fact in facts.items()), nl=bool(facts))
    if d["deviations"]:
        click.echo("\nDeviations:")
        for sentence in d["deviations"]:
            click.echo(textwrap.fill(without_markup(sentence), 100, initial_indent="  - ", subsequent_indent="    "))
    click.echo("\nParameters:" if d["parameters"] else "\nIt has no parameters.")
    for parameter in d["parameters"]:
        default = "required" if parameter["required"] else f"default {json.dumps(parameter['default'])}"
        click.echo(f"  {parameter['name']}: {parameter['type']}, {default}")
        if parameter["description"]:
            text = without_markup(parameter["description"])
            click.echo(textwrap.fill(text, 100, initial_indent="      ", subsequent_indent="      "))
    if d["search_space"]:
        click.echo("\nTuned over:" + "".join(f"\n  {name}: {_tried(values)}" for name, values in d["search_space"].items()))
    if d["upstream"]:
        click.echo("\nIn upstream's configurations:" + "".join(f"\n  {path}" for path in d["upstream"]))
    required = {p["name"]: ["…"] if p["type"].startswith("list of") else "…" for p in d["parameters"] if p["required"]}
    node = {"class": d["name"], "parameters": required} if required else {"class": d["name"]}
    click.echo(f"\nIn a configuration: {json.dumps(node, ensure_ascii=False)}")
