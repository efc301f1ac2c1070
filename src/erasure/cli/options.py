"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["begin_workers", "configuration_options", "experiment_from", "looks_option", "parse_seeds", "run_options"]

_MAX_SEEDS = 10_000
_F = TypeVar("_F", bound=Callable[..., Any])


def configuration_options(command: _F) -> _F:
    """CONFIG, ``--set`` and ``--trust``."""
    for option in (
        click.option(
            "--trust", multiple=True, metavar="MODULE", help="Let the configuration name classes of this module. Repeatable."
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="PATH=VALUE",
            help="Override a value, e.g. predictor.epochs=3. Repeatable.",
        ),
        click.argument("config", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def run_options(command: _F) -> _F:
    """Seeds, store, device, precision, threads and executor."""
    for option in (
        click.option("--no-report", "report", flag_value=False, default=True, help="Skip report.html."),
        click.option(
            "--private-stores",
            "shared_store",
            flag_value=False,
            default=True,
            help="Ray nodes do not share the store's file system.",
        ),
        click.option("--address", metavar="ADDRESS", help="A running Ray cluster. [default: one on this machine]"),
        click.option("--workers", type=click.IntRange(min=1), help="Stages to run at once. [default: one per core]"),
        click.option(
            "--executor",
            type=click.Choice(["serial", "processes", "ray"]),
            default="serial",
            show_default=True,
            help="How to run the stages; results are byte-identical.",
        ),
        click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads per operation."),
        click.option(
            "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Arithmetic of training."
        ),
        click.option(
            "--strategy",
            type=click.Choice(["ddp", "fsdp"]),
            default="ddp",
            show_default=True,
            help="Keep all weights on every device (ddp) or a shard on each (fsdp).",
        ),
        click.option(
            "--devices",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Devices of this machine that train one model together (processes with --device cpu).",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
        click.option(
            "--store", type=click.Path(path_type=Path), help="Where intermediate results are kept. [default: .erasure/store]"
        ),
        *(
            click.option(
                f"--{axis}-seeds",
                metavar="LIST",
                callback=parse_seeds,
                help=f"Seeds of the axis {axis}, overriding the root seed.",
            )
            for axis in ("evaluate", "unlearn", "train", "split")
        ),
        click.option("--seeds", metavar="LIST", callback=parse_seeds, help="Root seeds, one repetition each: 0,1,2 or 0-4."),
        click.option("--seed", type=click.IntRange(min=0), help="Root seed; overrides globals.seed."),
    ):
        command = option(command)
    return command


looks_option: Callable[[_F], _F] = click.option(
    "--looks",
    type=click.IntRange(min=1),
    help="How often you plan to judge this folder while adding seeds; the looks share the 5 % error rate. [default: 1]",
)


def parse_seeds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """``0,1,2`` or ``0-4`` or a mixture as whole numbers, each once."""
    if value is None:
        return None
    seeds: list[int] = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_whole(first) or (dash and not _is_whole(last)) or (dash and int(last) < int(first)):
            raise click.BadParameter(f'"{part}" is no seed and no range of seeds; write 0,1,2 or 0-4', ctx, parameter)
        more = range(int(first), int(last) + 1) if dash else range(int(first), int(first) + 1)
        if len(seeds) + len(more) > _MAX_SEEDS:
            raise click.BadParameter(f"more than {_MAX_SEEDS} seeds", ctx, parameter)
        seeds += more
    return tuple(dict.fromkeys(seeds))


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def begin_workers(options: Mapping[str, Any]) -> None:
    """Let worker processes import what they need meanwhile, if there will be some."""
    if options["executor"] == "processes":
        from erasure.stages.worker_processes import begin

        begin(options["device"])


def experiment_from(config: Path, overrides: tuple[str, ...], trust: tuple[str, ...]) -> Any:
    """The validated experiment; modules beside the working directory can be trusted too."""
    import sys

    from erasure.experiment.configuration import load_experiment

    if trust and "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return load_experiment(config, overrides=overrides, trust=trust)


def options_from(seed: int | None, seeds: tuple[int, ...] | None, **options: Any) -> Any:
    """Run options from the command line's.

    Raises:
        click.UsageError: If both ``--seed`` and ``--seeds`` are given.
    """
    from erasure.workflows.options import RunOptions

    if seed is not None and seeds is not None:
        raise click.UsageError("give --seed or --seeds, not both")
    axes = {axis: options.pop(f"{axis}_seeds", None) for axis in ("split", "train", "unlearn", "evaluate")}
    given = {axis: chosen for axis, chosen in axes.items() if chosen}
    return RunOptions(seeds=seeds if seed is None else (seed,), axes=given, **options)
