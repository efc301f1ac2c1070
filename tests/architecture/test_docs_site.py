"""The documentation: it builds strictly, loads nothing from elsewhere, and what it shows exists and works."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from erasure.analysis.verdicts import RULE
from erasure.catalogue import BUILTINS
from erasure.cli import COMMANDS, _erasure
from erasure.config import load_text
from erasure.experiment.configuration import load_experiment
from erasure.experiment.sweep_section import load_sweep
from erasure.training.randomness import isolated

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(name, *found) for name, text in PAGES.items() for found in BLOCK.findall(text)]
GENERATED = {
    "sources.md": "source",
    "splitters.md": "splitter",
    "models.md": "model",
    "unlearners.md": "unlearner",
    "steps.md": "step",
}


def shell_lines():
    for page, language, text in BLOCKS:
        if language == "shell":
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith("erasure "):
                    yield pytest.param(line.partition("  #")[0].strip(), id=f"{page}: {line[:60]}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("material") is None:
        pytest.skip('needs the extra docs: pip install "erasure-unlearning[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_strictly_with_every_page(site):
    assert {page.name for page in site.glob("*.html")} >= {name.replace(".md", ".html") for name in PAGES}
    assert not (site / "generate.py").exists()


def test_pages_load_nothing_from_elsewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        loaded += [link for link in re.findall(r"<link\b[^>]*>", text) if "canonical" not in link]
        assert loaded
        assert [item for item in loaded if re.search(r"(?:https?:)?//", item)] == [], page.name


def test_every_component_command_and_verdict_is_on_its_page():
    for page, kind in GENERATED.items():
        mark = "| **{}** |" if kind == "unlearner" else "## {}\n"
        assert [name for name in BUILTINS[kind] if mark.format(name) not in PAGES[page]] == []
    for name, target in BUILTINS["measure"].items():
        page = "attacks.md" if ".measures.attacks." in target else "measures.md"
        assert f"## {name}\n" in PAGES[page]
    assert [name for name in COMMANDS if f"## erasure {name}\n" not in PAGES["commands.md"]] == []
    assert all(sentence in PAGES["verdicts.md"] for _, sentence in RULE)


@pytest.mark.parametrize("line", list(shell_lines()))
def test_a_command_on_a_page_exists_with_its_options(line):
    words = shlex.split(line)[1:]
    context = click.Context(_erasure)
    command = _erasure.get_command(context, words.pop(0))
    assert command is not None
    if isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    options = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in options] == []


def test_whole_configurations_on_the_guide_pages_are_valid():
    whole = [t for page, language, t in BLOCKS if language == "jsonc" and '"unlearners"' in t and page != "write-your-own.md"]
    assert whole
    for text in whole:
        assert load_experiment(load_text(text).root.plain()).unlearners


def test_the_sweep_on_the_page_is_one_of_the_configuration_on_the_page():
    configuration = next(text for page, language, text in BLOCKS if page == "configuration.md" and language == "jsonc")
    section = next(text for page, language, text in BLOCKS if page == "sweeps.md" and language == "json")
    sweep = load_sweep(load_text(configuration).root.plain() | json.loads(f"{{{section}}}"))
    assert len(sweep.points) == 9
    assert sweep.axes == {"train": (0, 1, 2)}


def test_the_recipe_for_a_deletion_request_works():
    (code,) = [text for page, language, text in BLOCKS if page == "recipes.md" and language == "python"]
    names = {}
    with isolated(0):
        exec(compile(code, "recipes.md", "exec"), names)
    model, forgotten = names["model"], names["forgotten"]
    assert any((a != b).any() for a, b in zip(model.parameters(), forgotten.parameters(), strict=True))


def test_attacks_named_in_the_guide_exist():
    table = re.findall(r"`([A-Z][\w+-]*)`", PAGES["audits.md"])
    assert set(table) <= set(BUILTINS["measure"])
    assert len(set(table)) > 8


def test_no_text_holds_a_merge_marker():
    texts = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *DOCS.glob("*.md"), *(ROOT / "configs").rglob("*.jsonc")]
    assert len(texts) > 30
    marker = re.compile(r"^(?:<{7} |={7}$|>{7} )", re.MULTILINE)
    assert [text.name for text in texts if marker.search(text.read_text(encoding="utf-8"))] == []


def test_the_rooms_and_files_of_the_architecture_page_exist():
    package = ROOT / "src" / "erasure"
    rooms = re.findall(r"^\| (`.+?`) \|", PAGES["architecture.md"], re.MULTILINE)
    named = {name for room in rooms for name in re.findall(r"`([^`]+)`", room)}
    named |= set(re.findall(r"`((?:\w+/)+\w+\.py)`", PAGES["architecture.md"]))
    folders = {path.name for path in package.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert folders - named == set()  # no room without a line
    stages = {
        "checkpoint",
        "data",
        "scores",
        "shared",
        "split",
        "model",
        "models",
        "unlearned",
        "outputs",
        "values",
        "verdict",
        "precomputed",
    }
    assert [name for name in sorted(named - stages) if not (package / name).exists()] == []
