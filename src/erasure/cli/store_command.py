"""``erasure store``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from erasure.cli.amounts import AGE, SIZE, address_of, age_of, shown_age, shown_size
from erasure.cli.prose import printable
from erasure.errors import ConfigError, Diagnostic, StoreError

if TYPE_CHECKING:
    from erasure.store import Entry, Store

__all__ = ["command"]

_F = TypeVar("_F", bound=Callable[..., Any])
_store_option = click.option("--store", type=click.Path(path_type=Path), help="The store. [default: .erasure/store]")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _filters(command: _F) -> _F:
    """Which objects are meant: kind, size, age."""
    for option in (
        click.option("--newer", type=AGE, metavar="AGE", help="Only objects newer than AGE: 90m, 12h, 30d."),
        click.option("--older", type=AGE, metavar="AGE", help="Only objects older than AGE: 90m, 12h, 30d."),
        click.option("--smaller", type=SIZE, metavar="SIZE", help="Only objects smaller than SIZE: 500kB, 20MB."),
        click.option("--larger", type=SIZE, metavar="SIZE", help="Only objects of at least SIZE: 500kB, 20MB."),
        click.option("--kind", "kinds", multiple=True, help="Only this kind, such as model. Repeatable."),
    ):
        command = option(command)
    return command


@click.group("store", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def command() -> None:
    """List, check and clear the store of intermediate results.

    ADDRESS is an object's address or its first digits, six at least. Deleting an object costs only the time to recompute it.
    List, show, verify and prune print JSON with --json.

    \b
    erasure store list --kind model --older 30d
    erasure store show 3fa29c
    erasure store verify
    erasure store prune --unreferenced-by runs --dry-run
    """  # noqa: D301 - click's mark for lines that stay as they are


@command.command("list")
@_store_option
@_filters
@_json_option
def _list(store: Path | None, as_json: bool, **filters: Any) -> int:
    """List the objects: address, kind, size, age, seconds to compute."""
    import dataclasses

    entries = _chosen(_opened(store).entries(), **filters)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(entry) for entry in entries]))
        return 0
    for entry in entries:
        age = shown_age(age_of(entry.created_at))
        columns = (
            entry.address[:12],
            f"{entry.kind:11}",
            f"{shown_size(entry.size):>8}",
            f"{age:>4}",
            f"{entry.elapsed_s:>8.2f} s",
        )
        click.echo(printable(f"{'  '.join(columns)}  {entry.signature.partition(' #')[0]}".rstrip()))
    click.echo(_total(entries))
    return 0


@command.command("show")
@click.argument("address")
@_store_option
@_json_option
def _show(address: str, store: Path | None, as_json: bool) -> int:
    """Show one object: its files, its facts, and what it was computed from."""
    import dataclasses

    from erasure.store.explain import inputs

    opened = _opened(store)
    artifact = opened.open(address_of(opened, address))
    manifest = artifact.manifest
    made_of = inputs(opened, manifest.content)
    if as_json:
        record = dataclasses.asdict(manifest) | {"directory": str(artifact.directory)}
        click.echo(json.dumps(record | {"inputs": [dataclasses.asdict(item) for item in made_of]}))
        return 0
    lines = [
        f"{manifest.kind} {manifest.address}",
        f"in {artifact.directory}",
        f"published {manifest.created_at}, computed in {manifest.elapsed_s:.2f} s",
        "with " + ", ".join(f"{name} {version}" for name, version in manifest.libraries.items()),
        "files",
        *(f"  {name}  {shown_size(facts.size)}  sha256 {facts.sha256[:16]}…" for name, facts in manifest.files.items()),
        "facts",
        *(f"  {name}: {_short(value)}" for name, value in manifest.facts.items()),
        "made of",
        *(f"  {item.kind or 'not in the store'}  {item.address[:12]}  as {item.path}" for item in made_of),
    ]
    click.echo("\n".join(map(printable, lines)))
    click.echo(f"erasure explain {manifest.address[:12]} shows everything it is made of")
    return 0


@command.command("verify")
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@_store_option
@click.option("--quarantine", "move", is_flag=True, help="Move damaged objects out of the way so that they are recomputed.")
@_json_option
def _verify(addresses: tuple[str, ...], store: Path | None, move: bool, as_json: bool) -> int:
    """Read every byte of every object, or of those named, and compare with their checksums.

    The exit code is 1 if one is damaged. A damaged object harms no run: it is found, reported and computed again when it is needed.
    """
    opened = _opened(store)
    chosen = [address_of(opened, text) for text in addresses] or list(opened.addresses())
    damaged: dict[str, str] = {}
    moved = 0
    for address in chosen:
        try:
            opened.open(address).verify()
        except StoreError as error:
            damaged[address] = str(error)
            if move:
                moved += opened.quarantine(address, str(error)) is not None
    if as_json:
        click.echo(json.dumps({"checked": len(chosen), "damaged": damaged}))
        return 1 if damaged else 0
    for reason in damaged.values():
        click.echo(printable(reason), err=True)
    where = f"; {moved} moved to {opened.root / 'quarantine'}" if moved else ""
    click.echo(f"{_count(len(chosen))} checked, {len(damaged)} damaged{where}")
    return 1 if damaged else 0


@command.command("prune")
@_store_option
@_filters
@click.option(
    "--unreferenced-by",
    "runs",
    multiple=True,
    metavar="RUNS",
    help='No stage of these runs: a directory or "runs/**". Repeatable.',
)
@click.option("--all", "everything", is_flag=True, help="Every object, if no other condition is given.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted without deleting.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json_option
def _prune(
    store: Path | None, runs: tuple[str, ...], everything: bool, dry_run: bool, yes: bool, as_json: bool, **filters: Any
) -> int:
    """Delete the objects that meet all conditions; asks first, and deletes nothing without a terminal to ask on.

    \b
    erasure store prune --kind outputs --older 30d
    erasure store prune --unreferenced-by "runs/**" --yes
    """  # noqa: D301 - click's mark for lines that stay as they are
    if not (runs or everything or any(value not in (None, ()) for value in filters.values())):
        raise click.UsageError("say which objects: --kind, --older, --larger, --unreferenced-by, or --all")
    opened = _opened(store, with_base=False)
    used = _used_by(runs)
    doomed = [entry for entry in _chosen(opened.entries(), **filters) if entry.address not in used]
    deletes = bool(doomed) and not dry_run and (yes or (not as_json and _confirmed(doomed)))
    deleted = [entry for entry in doomed if opened.remove(entry.address)] if deletes else []
    if as_json:
        sizes = {"bytes": sum(entry.size for entry in doomed)}
        click.echo(json.dumps({"chosen": [entry.address for entry in doomed], "deleted": len(deleted)} | sizes))
    elif deletes:
        click.echo(f"deleted {_total(deleted)}")
    else:
        click.echo(f"would delete {_total(doomed)}; nothing was deleted{'' if dry_run or not doomed else ', add --yes to do it'}")
    return 0


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@_store_option
@_filters
@click.option(
    "--of-run", "runs", multiple=True, metavar="RUNS", help='The stages of these runs: a directory or "runs/**". Repeatable.'
)
def _export(file: Path, addresses: tuple[str, ...], store: Path | None, runs: tuple[str, ...], **filters: Any) -> int:
    """Write objects into the tar FILE, with their checksums: those named, those of runs, else all that fulfil the conditions."""
    from erasure.store.transfer import export_objects

    opened = _opened(store)
    named = {address_of(opened, text) for text in addresses} | (opened.contains_many(_used_by(runs)) if runs else set())
    chosen = [e.address for e in _chosen(opened.entries(), **filters) if e.address in named or not (addresses or runs)]
    if not chosen:
        raise ConfigError([Diagnostic(f"there is nothing to export from {opened.root}", hint="erasure store list", kind="data")])
    number = export_objects(opened, chosen, file)
    click.echo(f"{_count(number)} in {file}, {shown_size(file.stat().st_size)}")
    return 0


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_store_option
def _import(file: Path, store: Path | None) -> int:
    """Import the objects of a tar FILE that export wrote; every byte is checked first, and damaged objects are refused.

    Checksums detect damage, not forgery: import only from people whose results you trust.
    """
    from erasure.store.transfer import import_objects

    found = import_objects(_opened(store), file)
    for reason in found.refused.values():
        click.echo(printable(f"refused: {reason}"), err=True)
    click.echo(f"{_count(len(found.new))} taken in, {len(found.known)} were there, {len(found.refused)} refused")
    return 1 if found.refused else 0


def _opened(path: Path | None, *, with_base: bool = True) -> Store:
    from erasure.store import Store, default_base_path, default_store_path

    return Store(path or default_store_path(), base=default_base_path() if with_base else None)


def _chosen(
    entries: Iterable[Entry],
    *,
    kinds: Sequence[str],
    larger: float | None,
    smaller: float | None,
    older: float | None,
    newer: float | None,
) -> list[Entry]:
    return [
        entry
        for entry in entries
        if (not kinds or entry.kind in kinds)
        and (larger is None or entry.size >= larger)
        and (smaller is None or entry.size < smaller)
        and (older is None or age_of(entry.created_at) > older)
        and (newer is None or age_of(entry.created_at) <= newer)
    ]


def _used_by(patterns: Iterable[str]) -> set[str]:
    """Addresses of the stages of all runs that the patterns name."""
    from erasure.records.stages_file import read_stages
    from erasure.reports.query import run_directories

    return {address for pattern in patterns for directory in run_directories(pattern) for address in read_stages(directory)}


def _confirmed(doomed: Sequence[Entry]) -> bool:
    return sys.stdin.isatty() and click.confirm(f"delete {_total(doomed)}?", err=True)


def _total(entries: Sequence[Entry]) -> str:
    return f"{_count(len(entries))}, {shown_size(sum(entry.size for entry in entries))}"


def _count(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"
