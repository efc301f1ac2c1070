"""``erasure list`` and ``erasure describe``."""

import importlib.metadata
import json

import pytest

from erasure import catalogue
from erasure.catalogue import ALSO_KNOWN_AS, BUILTINS, plugins, plural


def test_a_list_names_every_component_of_every_kind(cli):
    code, out, err = cli("list")
    assert (code, err) == (0, "")
    words = set(out.split())
    for kind, names in BUILTINS.items():
        assert plural(kind) in words
        assert set(names) <= words
    assert "``" not in out
    assert ":class:" not in out


def test_unlearners_are_listed_with_paper_and_access(cli):
    out = cli("list", "unlearners")[1]
    scrub = out[out.index("\n  SCRUB ") :]
    assert "reads forget, retain; Kurmanji" in scrub
    assert "arXiv:2302.09880" in scrub
    assert "reads nothing" in out[out.index("\n  Identity ") :][:300]
    assert "reads what the methods inside it read" in out[out.index("\n  Cascade ") :][:300]
    assert "measures" not in out


@pytest.mark.parametrize("kind", ["measure", "measures", "Measures"])
def test_a_kind_may_be_written_in_singular_or_plural(cli, kind):
    out = cli("list", kind)[1]
    assert "UMIA" in out
    assert "SCRUB" not in out


def test_a_list_as_json_has_a_record_for_each_component(cli):
    listed = json.loads(cli("list", "--json")[1])
    assert {kind: [record["name"] for record in records] for kind, records in listed.items()} == {
        kind: list(names) for kind, names in BUILTINS.items()
    }
    by_name = {record["name"]: record for record in listed["unlearner"]}
    assert by_name["SCRUB"]["reads"] == ["forget", "retain"]
    assert by_name["Identity"]["reads"] == []
    assert by_name["Cascade"]["reads"] is None
    assert "GA" in by_name["NegGrad"]["also_called"]
    assert all(record["summary"] for records in listed.values() for record in records)


def test_an_unknown_kind_gets_a_suggestion(cli):
    code, _, err = cli("list", "unlerners")
    assert code == 2
    assert 'did you mean "unlearners"?' in err


@pytest.fixture
def fresh_plugins():
    """Lets packages be looked for again, and once more after the test."""
    plugins.cache_clear()
    yield
    plugins.cache_clear()


def test_a_plugin_is_listed_by_name_and_package_without_importing_it(cli, monkeypatch, tmp_path, fresh_plugins):
    (tmp_path / "their_package.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[erasure.unlearners]\nTheirs = their_package:Theirs\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = cli("list", "unlearners")
    assert code == 0
    assert "Theirs" in out
    assert "from their_package:Theirs" in out


def test_a_list_of_all_kinds_looks_through_the_packages_once(cli, monkeypatch, tmp_path, fresh_plugins):
    looked = []
    monkeypatch.setattr(catalogue, "entry_points", lambda: looked.append(1) or importlib.metadata.EntryPoints())
    monkeypatch.syspath_prepend(tmp_path)  # a path of its own: what other tests found is not taken
    assert cli("list")[0] == 0
    assert len(looked) == 1


def test_describe_explains_everything(cli):
    code, out, _ = cli("describe", "SCRUB")
    assert code == 0
    for part in (
        "SCRUB, an unlearner",
        "temperature: number > 0, default 2.0",
        "order: one of",
        "Paper: Kurmanji",
        "Reference code:",
        "Deviations:",
        "Cost",
        "Reads: forget, retain",
        "erasure.unlearners.Scrub.Scrub",
        '{"class": "SCRUB"}',
    ):
        assert part in out, part
    assert "``" not in out


@pytest.mark.parametrize(("name", "key"), [("scrub", "SCRUB"), ("GA", "NegGrad"), ("erasure.unlearners.Scrub.Scrub", "SCRUB")])
def test_describe_knows_other_spellings(cli, name, key):
    described = json.loads(cli("describe", name, "--json")[1])
    assert described["name"] == key
    assert described["kind"] == "unlearner"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in BUILTINS.items() for name in names])
def test_everything_that_is_listed_can_be_described(cli, kind, name):
    code, out, _ = cli("describe", name, "--kind", kind)
    assert code == 0
    assert out.startswith(f"{name}, ")
    described = json.loads(cli("describe", name, "--kind", kind, "--json")[1])
    assert described["description"]
    assert all(parameter["description"] and parameter["type"] for parameter in described["parameters"])


def test_a_required_parameter_is_shown_in_the_example(cli):
    assert '"parts_names": ["…"]' in cli("describe", "Percentage")[1]


@pytest.mark.parametrize(
    ("name", "hint"), [("SCRUBB", "SCRUB"), ("Percentge", "Percentage"), ("GradientAscnt", "GradientAscent")]
)
def test_an_unknown_name_gets_the_nearest(cli, name, hint):
    code, _, err = cli("describe", name)
    assert code == 2
    assert f'did you mean "{hint}"?' in err


def test_a_name_of_another_kind_is_unknown_there(cli):
    code, _, err = cli("describe", "SCRUB", "--kind", "measure")
    assert code == 2
    assert 'there is no measure called "SCRUB"' in err


def test_a_name_means_one_component_whatever_its_case():
    for kind, names in ALSO_KNOWN_AS.items():
        meanings = {}
        for name, target in {**{name: name for name in BUILTINS[kind]}, **names}.items():
            assert meanings.setdefault(name.casefold(), target) == target, f"{kind} {name}"
