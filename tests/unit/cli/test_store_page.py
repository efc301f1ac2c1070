"""The commands on the page about the store exist, with their options."""

import re
import shlex
from pathlib import Path

import click
import pytest

from erasure.cli import COMMANDS, _erasure

PAGE = (Path(__file__).parents[3] / "docs" / "store.md").read_text(encoding="utf-8")
LINES = [line.partition(" #")[0].strip() for line in PAGE.splitlines() if re.match(r"erasure (store|query|explain|run) ", line)]


@pytest.mark.parametrize("line", LINES)
def test_a_command_on_the_page_exists_with_its_options(line):
    words = shlex.split(line)[1:]
    context = click.Context(_erasure)
    command = _erasure.get_command(context, words.pop(0))
    if isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    options = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in options] == []
    values = [word for word in words if not word.startswith("--")]
    assert len(values) >= sum(isinstance(p, click.Argument) and p.required for p in command.params)


def test_the_page_shows_every_way_to_look_at_the_store():
    context = click.Context(_erasure)
    shown = {words[2] for words in map(str.split, LINES) if words[1] == "store"}
    assert shown == set(_erasure.get_command(context, "store").list_commands(context))
    assert {"store", "query", "explain"} <= set(COMMANDS)
