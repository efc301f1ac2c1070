"""``erasure plan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from erasure.cli.amounts import DURATION
from erasure.cli.options import configuration_options, experiment_from, options_from, run_options
from erasure.cli.prose import printable

__all__ = ["command"]

_MIN_SHOWN_S = 0.05


@click.command("plan")
@configuration_options
@run_options
@click.option("--sweep", "is_sweep", is_flag=True, help="Show the stages of all settings of the sweep section together.")
@click.option("--for", "budget_s", type=DURATION, metavar="TIME", help="Propose the design that detects most within 30min or 2h.")
@click.option("--json", "as_json", is_flag=True, help="Print the stages as JSON.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    is_sweep: bool,
    budget_s: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Show the stages of CONFIG, which of them are cached, and what the others will cost.

    Nothing is loaded or trained. Seconds are the median, and memory is the most, of earlier stages of the same kind in the store: with
    the same parameters and data if there are any, else with others; "?" or "unknown" where there is none at all.

    The last lines say what the run could find: by how many labellings of its models methods are judged, and which shift of a value it finds
    in four of five cases. With --for the designs that fit the time are listed instead, the sharpest first.

    \b
    erasure plan configs/proof_of_concept.jsonc
    erasure plan configs/proof_of_concept.jsonc --seeds 0-4 --json
    erasure plan configs/proof_of_concept.jsonc --for 30min
    erasure plan my_sweep.jsonc --sweep
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.cli.designs import design_lines, design_record, proposal_lines
    from erasure.planning.estimate import costs, estimate
    from erasure.store import Store, default_base_path, default_store_path
    from erasure.workflows.design import designs_within, outlook_of
    from erasure.workflows.run import make_plan

    if is_sweep and budget_s is not None:
        raise click.UsageError("--for is about one configuration; a sweep shares its golds among all settings")
    run = options_from(**options)
    store = Store(run.store or default_store_path(), base=default_base_path())
    if budget_s is not None:
        found = designs_within(budget_s, experiment_from(config, overrides, trust), run, store)
        click.echo(
            json.dumps({"designs": [design_record(each) for each in found]}) if as_json else proposal_lines(found, budget_s)
        )
        return 0
    plan = None if is_sweep else make_plan(experiment_from(config, overrides, trust), run)
    stages = _sweep_stages(config, overrides, trust, run) if plan is None else plan.stages
    design = None if plan is None or not plan.experiment.unlearners else outlook_of(plan)
    past, there = costs(store), store.contains_many(stages)
    expected = {stage.signature: estimate(past, stage.signature) for stage in stages.values()}
    records: list[dict[str, Any]] = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "address": stage.address,
            "requires": list(stage.requires),
            "cached": stage.address in there,
            "estimated_s": cost.elapsed_s if cost is not None else None,
            "peak_memory_mib": cost.peak_memory_mib if cost is not None else None,
        }
        for stage in stages.values()
        for cost in [expected[stage.signature]]
    ]
    missing = [record for record in records if not record["cached"]]
    estimates = [record["estimated_s"] for record in missing if record["estimated_s"] is not None]
    unknown = len(missing) - len(estimates)
    known = sum(estimates) if estimates or not missing else None
    if as_json:
        total = {"stages": len(records), "cached": len(records) - len(missing), "estimated_s": known, "without_estimate": unknown}
        said = {} if design is None else {"design": design_record(design)}
        click.echo(json.dumps({"stages": records, "total": total} | said))
        return 0
    width = max(len(record["name"]) for record in records)
    for record in records:
        seconds = "cached" if record["cached"] else "?" if record["estimated_s"] is None else f"{record['estimated_s']:.2f} s"
        memory = "" if record["cached"] or record["peak_memory_mib"] is None else f"{record['peak_memory_mib']:.0f} MiB"
        click.echo(printable(f"{record['name']:{width}}  {seconds:>9}  {memory:>9}  {record['address'][:12]}"))
    if not missing:
        click.echo(f"{len(records)} stages, all cached: a run computes nothing")
    else:
        time = _time(known, is_all=not unknown)
        rest = f", {unknown} of them never run before" if unknown else ""
        click.echo(f"{len(records)} stages, {len(records) - len(missing)} cached; the other {len(missing)} take {time}{rest}")
    if design is not None:
        click.echo(design_lines(design))
    return 0


def _time(seconds: float | None, *, is_all: bool) -> str:
    """The sum of the estimates in words; ``is_all`` says whether every stage has one."""
    if is_all and seconds is not None:
        return f"{seconds:.1f} s" if seconds >= _MIN_SHOWN_S else "less than 0.1 s"
    return "an unknown time" if seconds is None or seconds < _MIN_SHOWN_S else f"at least {seconds:.1f} s"


def _sweep_stages(config: Path, overrides: tuple[str, ...], trust: tuple[str, ...], options: Any) -> dict[str, Any]:
    """The stages of all settings; those that are equal are one."""
    from dataclasses import replace

    from erasure.experiment.sweep_section import load_sweep
    from erasure.workflows.run import make_plan

    sweep = load_sweep(config, overrides=overrides, trust=trust)
    chosen = options if options.axes else replace(options, axes=sweep.axes)
    return {address: stage for point in sweep.points for address, stage in make_plan(point.experiment, chosen).stages.items()}
