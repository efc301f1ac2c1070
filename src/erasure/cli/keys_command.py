"""``erasure keys``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.group("keys")
def command() -> None:
    """Create the key pair that signs certificates.

    \b
    erasure keys new company
    """  # noqa: D301 - click's mark for lines that stay as they are


@command.command("new")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new(file: Path) -> int:
    """Create an Ed25519 key pair: the private key in FILE, the public key in FILE.pub.

    Keep the private key secret. Give the public key to everyone who is to check your certificates.
    """
    from erasure.certificates.signing import new_key

    public = new_key(file)
    click.echo(f"private key: {file} (keep it secret)\npublic key: {public} (give it to those who verify)")
    return 0
