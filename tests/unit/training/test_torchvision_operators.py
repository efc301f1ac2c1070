"""torchvision's question to torch's compiler, with a stand-in for the compiler, whose own import takes seconds."""

import importlib
import sys

import pytest

from erasure.training import torchvision_operators
from erasure.training.torchvision_operators import _compiler_left_out


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    package = tmp_path / "a_compiler"
    package.mkdir()
    (package / "__init__.py").write_text("def disable(function):\n    return function\n")
    (package / "utils.py").write_text('def is_compile_supported(device_type):\n    return device_type == "cpu"\n')
    monkeypatch.syspath_prepend(tmp_path)
    names = ("a_compiler", "a_compiler.utils")
    monkeypatch.setattr(torchvision_operators, "_COMPILER", names)
    yield names
    for name in names:
        sys.modules.pop(name, None)


def test_the_compiler_is_imported_when_it_is_asked(compiler):
    with _compiler_left_out():
        asked = importlib.import_module("a_compiler.utils").is_compile_supported
    assert not set(compiler) & set(sys.modules)
    assert asked("cpu") and not asked("meta")
    assert set(compiler) <= set(sys.modules)


def test_whoever_needs_more_of_the_compiler_at_once_gets_it(compiler):
    with _compiler_left_out():
        found = importlib.import_module("a_compiler")
        assert found.disable(len) is len
    assert sys.modules["a_compiler"].disable is found.disable
    assert sys.modules["a_compiler"].__file__


def test_a_compiler_that_is_there_is_left_alone(compiler):
    there = importlib.import_module("a_compiler.utils")
    with _compiler_left_out():
        assert importlib.import_module("a_compiler.utils") is there
    assert importlib.import_module("a_compiler.utils") is there
