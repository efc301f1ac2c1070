import os
from pathlib import Path

import pytest

from erasure.reports.figures import fonts
from erasure.reports.figures.fonts import find_fonts, folders_without_carried


@pytest.fixture
def installed(tmp_path):
    """Folders with fonts, by names below them."""

    def install(*names):
        for name in names:
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return [str(tmp_path / "fonts"), str(tmp_path / "missing")]

    return install


def test_a_folder_of_fonts_that_are_carried_is_left_out_and_no_other(installed, tmp_path):
    roots = installed(
        "fonts/a/LiberationSans-Bold.ttf", "fonts/a/LiberationMono-Bold.ttf", "fonts/b/x.otf", "fonts/c/LiberationX.ttf"
    )
    assert folders_without_carried(roots) == [str(tmp_path / "fonts" / name) for name in "bc"]


@pytest.mark.parametrize(
    "names", [["fonts/LiberationSans-Bold.ttf", "fonts/x.TTF"], ["fonts/a/LiberationSans-Bold.ttf", "fonts/x.ttc"]]
)
def test_no_other_font_is_left_out_with_them(installed, names):
    assert folders_without_carried(installed(*names)) is None


def test_nothing_is_changed_where_they_are_not_installed(installed):
    assert folders_without_carried(installed("fonts/b/x.ttf")) is None
    assert folders_without_carried([]) is None


def test_the_environment_is_as_before(monkeypatch):
    class Converter:
        looked = 0

        def register_font_directory(self, folder):
            assert [file.name for file in Path(folder).iterdir()] == ["fonts.conf"] and os.environ["FONTCONFIG_FILE"].startswith(
                folder
            )
            self.looked += 1

    monkeypatch.delenv("FONTCONFIG_FILE", raising=False)
    monkeypatch.setattr("erasure.reports.figures.fonts.folders_without_carried", lambda _: [])
    converter = Converter()
    find_fonts(converter)
    assert converter.looked == 1 and "FONTCONFIG_FILE" not in os.environ
    monkeypatch.setenv("FONTCONFIG_FILE", "the user's own")
    find_fonts(other := Converter())
    assert other.looked == 0 and os.environ["FONTCONFIG_FILE"] == "the user's own"


def test_folders_of_a_user_without_a_home_are_no_error(monkeypatch, tmp_path):
    def expanduser(_):
        raise RuntimeError("Could not determine home directory.")

    configuration = tmp_path / "fonts.conf"
    configuration.write_text("<fontconfig><dir>~/.fonts</dir></fontconfig>")
    monkeypatch.delenv("FONTCONFIG_FILE", raising=False)
    monkeypatch.setattr(fonts, "_CONFIGURATIONS", (str(configuration),))
    monkeypatch.setattr(Path, "expanduser", expanduser)
    find_fonts(pytest)  # it is asked for nothing
