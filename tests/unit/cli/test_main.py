"""What all commands share: help, exit codes, errors without tracebacks."""

import functools
import operator
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from erasure import __version__
from erasure.cli import COMMANDS, errors
from erasure.errors import (
    ConfigError,
    CorruptArtifact,
    DataError,
    Diagnostic,
    MissingDependency,
    Position,
    RequirementNotMet,
    StoreError,
)

ROOT = Path(__file__).parents[3]


def test_help_names_every_command(cli):
    code, out, _ = cli("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


def test_the_version_is_that_of_the_package(cli):
    assert cli("--version") == (0, f"erasure, version {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples(cli, name):
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert out.count(f"erasure {name}") >= 2  # the usage line and at least one example
    summary = COMMANDS[name].split()[0]
    assert summary


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"schema", "ui", "keys", "requests"}))
def test_every_command_that_a_program_may_call_speaks_json(cli, name):
    assert "--json" in cli(name, "--help")[1]


def test_a_mistyped_command_gets_a_suggestion(cli):
    code, _, err = cli("validat", "x")
    assert code == 2
    assert 'there is no command "validat"; did you mean "validate"?' in err


@pytest.mark.parametrize("arguments", [["run"], ["run", "c", "--nonsense"], ["run", "c", "--precision", "fp8"]])
def test_a_wrong_call_exits_with_2_and_shows_the_usage(cli, arguments):
    code, _, err = cli(*arguments)
    assert code == 2
    assert "Usage: erasure run" in err


divide = functools.partial(operator.truediv, 1, 0)


class Broken(click.Command):
    def __init__(self, error):
        super().__init__("broken")
        self.error = error

    def invoke(self, ctx):
        raise self.error


@pytest.fixture
def raising(monkeypatch):
    """Makes every command raise."""

    def make(error):
        from erasure.cli import _Commands

        monkeypatch.setattr(_Commands, "get_command", lambda self, ctx, name: Broken(error))

    return make


def test_an_unexpected_exception_is_called_a_bug_in_one_line(cli, raising, monkeypatch):
    monkeypatch.delenv("ERASURE_TRACEBACK", raising=False)
    monkeypatch.setattr("erasure.cli._Commands.get_command", lambda self, ctx, name: click.Command("broken", callback=divide))
    code, _, err = cli("list")
    assert code == 70
    assert "this is a bug in ERASURE: ZeroDivisionError: division by zero" in err
    assert "ERASURE_TRACEBACK=1" in err


def test_an_exception_in_code_of_the_user_is_not_called_a_bug(cli, raising, monkeypatch):
    monkeypatch.delenv("ERASURE_TRACEBACK", raising=False)
    raising(ZeroDivisionError("division by zero"))
    code, _, err = cli("list")  # what raises it is this file, which is neither ours nor a library's
    assert code == 1
    assert "error: ZeroDivisionError: division by zero (line " in err
    assert "of test_main.py)" in err
    assert "bug" not in err


def test_the_traceback_of_a_bug_can_be_seen(cli, raising, monkeypatch):
    monkeypatch.setenv("ERASURE_TRACEBACK", "1")
    raising(ZeroDivisionError("division by zero"))
    with pytest.raises(ZeroDivisionError):
        cli("list")


def test_an_interrupt_says_how_to_go_on(cli, raising):
    raising(KeyboardInterrupt())
    code, _, err = cli("list")
    assert code == 130
    assert "interrupted; rerun the same command to resume" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2),
        (DataError("wrong"), 2),
        (MissingDependency("torchvision", "vision", "CIFAR-10"), 2),
        (RequirementNotMet("wrong"), 2),
        (StoreError("wrong"), 1),
        (CorruptArtifact("wrong"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_ours_has_its_exit_code_and_one_line(cli, raising, error, code):
    raising(error)
    found, out, err = cli("list")
    assert found == code
    assert out == ""
    assert str(error) in err


def test_all_problems_are_printed_with_source_line_and_count(capsys, tmp_path):
    file = tmp_path / "c.jsonc"
    file.write_text('{\n\t"epoch": 3,\n "x": "\x1b[2J"\n}\n', encoding="utf-8")
    problems = [
        Diagnostic("unknown", "predictor.epoch", Position(str(file), 2, 2), "did you mean “epochs”?"),
        Diagnostic("hostile", "x", Position(str(file), 3, 7)),
        Diagnostic("beyond the end", "y", Position(str(file), 99, 1)),
        Diagnostic("nowhere"),
    ]
    assert errors.report(ConfigError(problems)) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{file}:2:2: predictor.epoch: unknown; did you mean “epochs”?",
        '  2 |  "epoch": 3,',
        "       ^",
        f"{file}:3:7: x: hostile",  # a line that would steer the terminal is not shown
        f"{file}:99:1: y: beyond the end",
        "error: nowhere",
        "4 problems",
    ]


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, **options
    )


def test_main_py_takes_a_configuration_or_a_command(write_config, tmp_path):
    write_config()
    done = run(ROOT / "main.py", "validate", "config.jsonc", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is valid" in done.stdout
    done = run(ROOT / "main.py", "confg.jsonc", cwd=tmp_path)
    assert done.returncode == 2
    assert 'no file "confg.jsonc"; did you mean "config.jsonc"?' in done.stderr
    assert "validate" in run(ROOT / "main.py", "--help", cwd=tmp_path).stdout


def test_the_module_is_a_command_too(tmp_path):
    assert run("-m", "erasure", "--version", cwd=tmp_path).stdout.startswith("erasure, version")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX pipe")
def test_a_reader_that_has_enough_causes_no_noise():
    process = subprocess.Popen([sys.executable, "-m", "erasure", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) in {0, 1}
