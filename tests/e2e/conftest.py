"""Fixtures of the end-to-end tests."""

import json

import pytest


@pytest.fixture
def write_config(tmp_path):
    """Writes a configuration and gives its path."""

    def write(configuration, name="config.jsonc"):
        path = tmp_path / name
        path.write_text(json.dumps(configuration, indent=1), encoding="utf-8")
        return path

    return write
