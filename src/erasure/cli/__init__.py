"""The command line. Importing it, ``--help`` and ``list`` load neither torch nor numpy nor pydantic."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from erasure import __version__

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "new": "Write a first configuration by asking a few questions.",
    "run": "Run an experiment and print its table.",
    "sweep": "Run a configuration with many settings and seeds.",
    "tune": "Tune a method of a configuration.",
    "validate": "Check a configuration and show how it is understood.",
    "plan": "Show the stages of an experiment, which are cached, and what the others will cost.",
    "calibrate": "Estimate how often a configuration would accuse a retrained model, and what it would miss.",
    "list": "List the available components.",
    "describe": "Explain a component: parameters, paper, cost, deviations.",
    "show": "Print the table of an earlier run.",
    "report": "Write the HTML report of an earlier run, and export its figures and tables.",
    "ui": "Browse runs, and look at two models side by side, on a local page.",
    "compare": "Compare runs: ranks, wins, ties, losses, and what changed.",
    "query": "Query the rows of many runs in SQL.",
    "request": "Answer a deletion request: forget, show that it was done, record and certify it.",
    "verify": "Check a certificate of unlearning, and state what it does and does not prove.",
    "requests": "Read and check the ledger of deletion requests.",
    "keys": "Create the key pair that signs certificates.",
    "store": "List, show, verify, prune, export and import stored intermediate results.",
    "explain": "Show what a stored result was computed from, or why two differ.",
    "schema": "Write the JSON Schema of configurations, for editors.",
    "doctor": "Show what is installed, which devices there are, and whether the store is usable.",
}
"""Name of each command and its summary; a command is the function ``command`` of the module of its name."""

_FORMER = {"cache": "store"}
"""What commands were called in the version before; the old names work until the next one."""

_BUG = 70


class _Commands(click.Group):
    """Loads a command when it is called, so that asking for help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"erasure.cli.{cmd_name}_command").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        from erasure.errors import nearest

        if args and args[0] in _FORMER:
            name = _FORMER[args[0]]
            click.echo(f'"erasure {args[0]}" is now "erasure {name}"; the old name goes with the next version', err=True)
            args = [name, *args[1:]]
        if args and args[0] not in COMMANDS:
            hint = nearest(args[0], COMMANDS)
            raise click.UsageError(f'there is no command "{args[0]}"{f"; {hint}" if hint else ""}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="erasure")
def _erasure() -> None:
    """Machine unlearning, judged against retraining.

    \b
    erasure run configs/proof_of_concept.jsonc
    erasure list unlearners
    erasure describe SCRUB
    """  # noqa: D301 - click's mark for lines that stay as they are


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 success; 1 a row or a stage failed, the store cannot be used, or nobody reads the output any more (click
    sees to that, in silence); 2 bad input; 130 interrupted; 70 a bug.
    """
    atexit.register(gc.freeze)  # what is left goes with the process; the interpreter need not search it for cycles first
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    from erasure.errors import ErasureError

    try:
        result: Any = _erasure.main(args=arguments, prog_name="erasure", standalone_mode=False)
        return int(result or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; rerun the same command to resume", err=True)
        return 130
    except ErasureError as error:
        from erasure.cli.errors import report

        return report(error)
    except Exception as error:
        if os.environ.get("ERASURE_TRACEBACK"):
            raise
        from erasure.errors import foreign, is_from_outside

        if is_from_outside(error):
            click.echo(f"error: {foreign(error)}", err=True)
            click.echo("set ERASURE_TRACEBACK=1 to see how it came to this", err=True)
            return 1
        click.echo(f"this is a bug in ERASURE: {type(error).__name__}: {error}", err=True)
        click.echo("set ERASURE_TRACEBACK=1 to see where it happened, and please report it", err=True)
        return _BUG
