"""``erasure explain``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasure.cli.amounts import address_of
from erasure.cli.prose import printable

if TYPE_CHECKING:
    from erasure.store.explain import ContentDifference, Input, Made

__all__ = ["command"]


@click.command("explain")
@click.argument("address")
@click.argument("other", required=False)
@click.option("--store", type=click.Path(path_type=Path), help="The store. [default: .erasure/store]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(address: str, other: str | None, store: Path | None, as_json: bool) -> int:
    """Show what ADDRESS was computed from, or why ADDRESS and OTHER differ.

    An address is the SHA-256 of what a result depends on: equal contents share their result. Addresses may be cut to their first
    digits, six at least; "erasure plan" and "erasure store list" show them. The exit code is 0, also where the two differ.

    \b
    erasure explain 3fa29c
    erasure explain 3fa29c 81d0e7
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.store import Store, default_base_path, default_store_path
    from erasure.store.explain import differences, inputs, made_of

    opened = Store(store or default_store_path(), base=default_base_path())
    one = made_of(opened, address_of(opened, address))
    if other is None:
        needs = inputs(opened, one.content)
        if as_json:
            click.echo(json.dumps({**_record(one), "content": one.content, "inputs": [vars(item) for item in needs]}))
        else:
            click.echo("\n".join(map(printable, _explained(one, needs))))
        return 0
    second = made_of(opened, address_of(opened, other))
    found = differences(opened, one, second)
    if as_json:
        differ = [_difference(item) for item in found]
        click.echo(json.dumps({"one": _record(one), "other": _record(second), "differences": differ}))
    else:
        click.echo("\n".join(map(printable, _compared(one, second, found))))
    return 0


def _explained(made: Made, needs: list[Input]) -> Iterator[str]:
    yield f"{made.kind} {made.address} is made of"
    yield from (f"  {line}" for line in json.dumps(made.content, indent=2, ensure_ascii=False).splitlines())
    if needs:
        yield "in which"
    for item in needs:
        what = item.kind if item.is_stored else f"{item.kind} (no object)" if item.kind else "not in the store"
        yield f"  {item.path} is {item.address[:12]}: {what}"


def _compared(one: Made, other: Made, found: list[ContentDifference]) -> Iterator[str]:
    if one.address == other.address:
        yield f"{one.kind} {one.address[:12]}: both are the same"
        return
    if one.kind != other.kind:
        yield f"{one.address[:12]} is {one.kind}, {other.address[:12]} is {other.kind}; their contents differ in"
    else:
        yield f"{one.kind} {one.address[:12]} and {other.address[:12]} differ in"
    yield from _lines(found, "  ")


def _lines(found: tuple[ContentDifference, ...] | list[ContentDifference], indent: str) -> Iterator[str]:
    for item in found:
        if not item.kind:
            yield f"{indent}{item.path or 'everything'}: {_value(item.one)} | {_value(item.other)}"
            continue
        end = ", explained above" if item.explained_before else ", since"
        yield f"{indent}{item.path}: {item.kind} {item.one[:12]} | {item.other[:12]}{end}"
        yield from _lines(item.because, f"{indent}  ")


def _value(value: Any) -> str:
    from erasure.store.explain import ABSENT

    return "absent" if value is ABSENT else json.dumps(value, ensure_ascii=False)


def _record(made: Made) -> dict[str, Any]:
    return {"address": made.address, "kind": made.kind}


def _difference(item: ContentDifference) -> dict[str, Any]:
    from erasure.store.explain import ABSENT

    values = {name: value for name, value in (("one", item.one), ("other", item.other)) if value is not ABSENT}
    because = {"kind": item.kind, "because": [_difference(below) for below in item.because]} if item.kind else {}
    return {"path": item.path, **values, **because}
