"""``erasure verify``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from erasure.cli.prose import printable

__all__ = ["command"]

_FILE = click.Path(exists=True, path_type=Path)


@click.command("verify")
@click.argument("certificate", type=_FILE)
@click.option("--key", type=_FILE, help="Public key of the expected signer (PEM).")
@click.option("--model", type=_FILE, help="The unlearned model as it was saved: a file or a folder.")
@click.option("--original", type=_FILE, help="The model before, as it was saved.")
@click.option(
    "--evidence", type=_FILE, help="The results that the verdict was computed from: a run's folder or its rows.parquet."
)
@click.option("--ledger", type=_FILE, help="The ledger of requests that lists the certificate, or its folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks and the statement as JSON.")
def command(
    certificate: Path,
    key: Path | None,
    model: Path | None,
    original: Path | None,
    evidence: Path | None,
    ledger: Path | None,
    as_json: bool,
) -> int:
    """Check a CERTIFICATE of unlearning and state what it does and does not prove.

    CERTIFICATE may be the folder of an answered request; --model, --original and --evidence take such folders, too.

    Needs neither torch nor the data. The exit code is 0 if every check that could be made holds, else 1.

    \b
    erasure verify certificate.json --model unlearned.safetensors --key company.pub
    erasure verify requests/0001 --model requests/0001 --ledger requests
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.certificates.verifying import verify

    found = verify(certificate, key=key, model=model, original=original, evidence=evidence, ledger=ledger)
    if as_json:
        record: dict[str, Any] = {"passed": found.passed, "checks": [dataclasses.asdict(check) for check in found.checks]}
        record |= {"statement": dataclasses.asdict(found.statement) if found.statement else None, "limits": list(found.limits)}
        click.echo(json.dumps(record, ensure_ascii=False, indent=2))
        return 0 if found.passed else 1
    for check in found.checks:
        click.echo(printable(f"{'ok   ' if check.passed else 'FAIL '} {check.name}: {check.sentence}"))
    if found.statement is not None and found.passed:
        click.echo("\nWhat it says")
        for line in _claims(found.statement):
            click.echo(printable(f"  {line}"))
        click.echo("\nWhat it does not prove")
        for line in found.limits:
            click.echo(printable(f"  {line}"))
    elif not found.passed:
        click.echo("\nDo not rely on this certificate.")
    return 0 if found.passed else 1


def _claims(statement: Any) -> list[str]:
    samples = "1 sample" if statement.n_forgotten == 1 else f"{statement.n_forgotten:,} samples"
    lines = [
        f"{statement.finished or 'At a time that is not stated'}: {samples} were removed by {statement.method}.",
        f"Verdict: {statement.verdict}. {statement.verdict_sentence}",
        f"It was judged beside {statement.n_golds} models that were retrained without these samples."
        if statement.n_golds
        else "It was not judged beside retrained models: the guarantee of the method is the evidence.",
    ]
    guarantee = statement.guarantee
    if guarantee.kind == "exact":
        lines.append("By proof: the model is one that training without these samples could have given.")
    elif guarantee.kind == "certified":
        lines.append(f"By proof: certified removal with epsilon {guarantee.eps:g} and delta {guarantee.delta:g}.")
    lines += [f"  which rests on this: {assumption}" for assumption in guarantee.assumptions]
    for each in statement.findings:
        gold = "" if each.gold is None else f", retrained models {each.gold:.3f}"
        spread = "" if each.gold_sd is None else f" ± {each.gold_sd:.3f}"
        p = "" if each.p is None else f" (p = {each.p:.3g})"
        lines.append(f"  {each.measure} on {each.partition}: {each.unlearned:.3f}{gold}{spread}{p}")
    return lines
