"""What a release promises: one version everywhere, and guides that name what exists."""

import re
import tomllib
from pathlib import Path

import pytest

import erasure

ROOT = Path(__file__).parents[2]
GUIDES = ["CONTRIBUTING.md", "SECURITY.md", "RELEASING.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md"]


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1].strip('"') == project == erasure.__version__


def test_the_wheel_has_every_file_of_the_package():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"][
        "erasure"
    ]
    package = ROOT / "src" / "erasure"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py"} == shipped


@pytest.mark.parametrize("name", GUIDES)
def test_guides_for_contributors_name_what_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in re.findall(r"`?make ([a-z -]+)`?", text):
        for target in command.split():
            assert target in targets or not re.match(r"(check|test|docs|bench|pages|package)", target), target
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / link).exists(), link
