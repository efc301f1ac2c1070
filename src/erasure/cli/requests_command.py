"""``erasure requests``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from erasure.cli.prose import printable

__all__ = ["command"]

_LEDGER = click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    default=Path("requests"),
    show_default=True,
    help="The ledger, or the folder of requests that has it.",
)


@click.group("requests")
def command() -> None:
    """Read and check the ledger of deletion requests: what was asked, done and shown, one line per request.

    \b
    erasure requests list
    erasure requests show 3
    erasure requests verify
    """  # noqa: D301 - click's mark for lines that stay as they are


@command.command("list")
@_LEDGER
@click.option("--json", "as_json", is_flag=True, help="Print the entries as JSON.")
def list_requests(ledger: Path, as_json: bool) -> int:
    """List all requests."""
    entries = _entries(ledger)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return 0
    if not entries:
        click.echo("no requests yet")
    for entry in entries:
        proof = "certificate" if entry.certificate else "no certificate"
        line = f"{entry.number:>4}  {entry.finished}  {entry.n_forgotten:,} forgotten by {entry.method}: {entry.verdict}, {proof}"
        click.echo(printable(f"{line}, {entry.cost_s:.0f} s"))
    from erasure.analysis.request_stream import stream_advice

    for sentence in stream_advice(entries):
        click.echo(printable(sentence))
    return 0


@command.command("show")
@click.argument("number", type=click.IntRange(min=1))
@_LEDGER
def show_request(number: int, ledger: Path) -> int:
    """Show one request and the requests that its model descends from."""
    from erasure.errors import ConfigError, Diagnostic
    from erasure.records.requests import Ledger

    entries = _entries(ledger)
    if number > len(entries):
        raise ConfigError([Diagnostic(f"there is no request {number}: {ledger} has {len(entries)}", kind="data")])
    entry = entries[number - 1]
    for name, value in dataclasses.asdict(entry).items():
        if value not in ("", None):
            click.echo(printable(f"{name:<14} {value}"))
    line = [str(each.number) for each in Ledger(ledger).lineage(entry.unlearned)]
    click.echo(f"{'lineage':<14} original model, then {'request' if len(line) == 1 else 'requests'} {', '.join(line)}")
    return 0


@command.command("verify")
@_LEDGER
@click.option("--head", help="Digest of the last line as noted elsewhere; reveals whether the end was cut off.")
def verify_requests(ledger: Path, head: str | None) -> int:
    """Check that no line was changed, removed or inserted, and that certificates in the folders beside it say the same."""
    from erasure.certificates.verifying import verify_ledger

    entries = _entries(ledger)
    if head is not None and head not in {entry.digest for entry in entries}:
        click.echo(f"FAIL  {ledger} does not hold the line with digest {head}: its end was cut off, or it is another ledger")
        return 1
    checks = verify_ledger(ledger)
    for check in checks:
        click.echo(printable(f"{'ok   ' if check.passed else 'FAIL '} {check.name}: {check.sentence}"))
    return 0 if all(check.passed for check in checks) else 1


def _entries(ledger: Path) -> Any:
    from erasure.errors import ConfigError, Diagnostic
    from erasure.records.requests import Ledger

    found = Ledger(ledger)
    if not found.path.exists():
        raise ConfigError([Diagnostic(f"there is no ledger at {found.path}", hint="name it with --ledger", kind="data")])
    return found.entries()
