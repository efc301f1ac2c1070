"""The public surface, the registry and the pages made from it belong together."""

import ast
import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import jsonschema
import pytest
from small import command

import erasure
from erasure.catalogue import ALSO_KNOWN_AS, BUILTINS
from erasure.config import load
from erasure.config.docs import parameters_of
from erasure.config.slots import SLOTS
from erasure.experiment.configuration import load_experiment
from erasure.experiment.schema import configuration_schema
from erasure.registry.facts import facts_of
from erasure.registry.lookup import Registry
from erasure.registry.upstream import UPSTREAM

ROOT = Path(__file__).parents[2]
REGISTERED = [(kind, name) for kind, names in BUILTINS.items() for name in names]
CONFIGS = sorted((ROOT / "configs").rglob("*.jsonc"))


def test_the_package_offers_what_it_says():
    assert set(erasure.__all__) == {"Results", "__version__", "audit", "forget", "load_results", "run", "sharded", "unlearn"}
    assert all(getattr(erasure, name) is not None for name in erasure.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        erasure.nothing  # noqa: B018


def test_every_name_in_all_exists_and_every_module_says_what_is_public():
    for module in pkgutil.walk_packages(erasure.__path__, "erasure."):
        if module.name == "erasure.__main__":
            continue
        found = importlib.import_module(module.name)
        assert found.__doc__, module.name
        for name in getattr(found, "__all__", ()):
            assert hasattr(found, name), f"{module.name}.{name}"


def test_no_two_public_classes_share_a_name():
    homes = {}
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


@pytest.mark.parametrize(("kind", "name"), REGISTERED, ids=lambda value: value)
def test_a_registered_component_is_of_its_kind_and_explains_itself(kind, name):
    cls = Registry().resolve(name, SLOTS[kind]()).cls
    assert issubclass(cls, SLOTS[kind]())
    assert not inspect.isabstract(cls)
    undocumented = [p["name"] for p in parameters_of(cls) if not p["description"]]
    assert undocumented == []


@pytest.mark.parametrize(("kind", "name"), REGISTERED, ids=lambda value: value)
def test_facts_read_from_the_source_are_those_of_the_class(kind, name):
    target = BUILTINS[kind][name]
    cls = Registry().resolve(name, SLOTS[kind]()).cls
    facts = facts_of(target)
    assert facts.summary == inspect.getdoc(cls).partition("\n")[0]
    if kind == "unlearner":
        assert facts.paper == cls.source.paper
        assert facts.wraps or facts.reads == tuple(sorted(cls.reads))


def test_other_names_lead_to_registered_ones():
    for kind, names in ALSO_KNOWN_AS.items():
        for other, target in names.items():
            assert target in BUILTINS[kind], f"{other} -> {target}"
            assert other not in BUILTINS[kind]


def test_upstream_paths_lead_to_registered_components_whose_parameters_exist():
    for path, alias in UPSTREAM.items():
        if not alias.target:
            continue
        assert alias.target in BUILTINS[alias.kind], path
        cls = Registry().resolve(alias.target, SLOTS[alias.kind]()).cls
        known = {p["name"] for p in parameters_of(cls)}
        assert set(alias.rename.values()) | set(alias.defaults) <= known, path


@pytest.fixture(scope="module")
def editor():
    """What an editor does with the schema, which tests/unit/experiment/test_schema.py finds to be one."""
    schema = configuration_schema()
    return jsonschema.validators.validator_for(schema)(schema)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_are_valid_and_fit_the_editor_schema(path, editor):
    experiment = load_experiment(path)
    assert experiment.unlearners
    editor.validate(load(path).root.plain())


@pytest.mark.parametrize(
    "change",
    [
        {"unlearners": [{"class": "SCRUB", "parameters": {"temperatur": 2}}]},
        {"unlearners": ["Scrubb"]},
        {"predictor": {"parameters": {"model": "MLP", "epochs": -1}}},
        {"evaluator": {"parameters": {"floor_repeats": "many"}}},
    ],
    ids=json.dumps,
)
def test_the_editor_schema_marks_mistakes(change, editor):
    plain = load(ROOT / "configs" / "proof_of_concept.jsonc").root.plain()
    with pytest.raises(jsonschema.ValidationError):
        editor.validate(plain | change)


def test_the_page_of_unlearners_is_up_to_date():
    done = command("--check", cwd=ROOT / "docs", module="generate")
    assert done.returncode == 0, done.stdout + done.stderr
