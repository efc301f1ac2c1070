"""``erasure schema``."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]


@click.command("schema")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file instead of stdout.")
def command(output: Path | None) -> int:
    """Write the JSON Schema of configurations, from which editors complete and check names and parameters.

    \b
    erasure schema --output erasure.schema.json
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.experiment.schema import configuration_schema

    text = json.dumps(configuration_schema(), indent=1, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        from erasure.durable import write_atomically

        write_atomically(output, f"{text}\n".encode())
        click.echo(f"schema written to {output}")
    return 0
