"""From the name in a configuration to the class it stands for."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from erasure.catalogue import ALSO_KNOWN_AS, BUILTINS, plugins
from erasure.component import Call, Component
from erasure.errors import Diagnostic, ErasureError, UnknownComponent, foreign, nearest, with_article
from erasure.registry.meant import meant
from erasure.registry.upstream import SECTIONS, UPSTREAM, Alias

__all__ = ["ALLOWED_MODULES", "Registry", "Resolved"]

ALLOWED_MODULES = (
    "erasure",
    "torch.nn",
    "torch.optim",
    "torchvision.datasets",
    "torchvision.models",
    "torchvision.transforms",
    "torch_geometric.datasets",
    "torch_geometric.nn",
    "transformers",
    "timm",
    "sklearn.metrics",
)
"""Modules from which a configuration may name a class or function; others need ``--trust``."""

FACTORIES = ("torchvision.models", "timm")
"""Allowed modules whose functions make networks; elsewhere only a class can be a model, for a configuration must not call anything."""

_ENDINGS = {"loss": "Loss"}
"""What the names of a kind end in, in modules that hold other classes too."""

_OF_ONES_OWN = "one of your own or of another package is given by its dotted path, and allowed by --trust PACKAGE"

_FOREIGN_MODEL = "erasure.models.module:Module"
_FOREIGN_TRANSFORM = "erasure.training.augmentation:TorchVisionTransform"
_TORCHVISION = "erasure.training.torchvision_operators:torchvision"
_TRANSFORMS = "torchvision.transforms.v2"


@dataclass(frozen=True)
class Resolved:
    """What a name stands for.

    Args:
        cls: The component class.
        key: The name that results use.
        alias: How upstream's parameters become ours, if the name is upstream's.
        fixed: Parameters set by the name itself (the path of a foreign class).
    """

    cls: type[Component]
    key: str
    alias: Alias | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)


class Registry:
    """Looks names up.

    Args:
        trust: Modules outside the allow-list whose classes a configuration may name.
    """

    def __init__(self, trust: Iterable[str] = ()) -> None:
        self.trust: tuple[str, ...] = tuple(trust)

    def names(self, kind: str) -> dict[str, str]:
        """Registered names of a kind, built in and from other packages, with their ``module:Class``."""
        return BUILTINS.get(kind, {}) | {name: point.value for name, point in plugins(kind).items()}

    def resolve(self, name: str, slot: type[Component]) -> Resolved:
        """The class called ``name`` for a slot that takes ``slot``.

        Raises:
            UnknownComponent: If there is none, with the nearest name.
        """
        kind = slot.kind
        registered = self.names(kind)
        known = {**{key: key for key in registered}, **ALSO_KNOWN_AS.get(kind, {})}
        folded = {key.casefold(): target for key, target in known.items()}
        key = known.get(name) or folded.get(name.casefold())
        if key in registered:
            return Resolved(self._component(registered[key], name, slot), key)
        if name in UPSTREAM:
            return self._upstream(name, UPSTREAM[name], slot)
        section = SECTIONS.get(name.rpartition(".")[2])
        if section is not None and section.kind == kind:
            return Resolved(slot, slot.__name__, section)
        if issubclass(slot, Call):
            return self._call(name, slot)
        if kind == "augmentation" and name.rpartition(".")[0] in {"", "torchvision.transforms", _TRANSFORMS}:
            return self._transform(name.rpartition(".")[2])
        if "." in name and meant(kind, name):
            raise _unknown(f'"{name}" is no {kind}', meant(kind, name))
        if "." in name:
            return self._dotted(name, slot)
        elsewhere = [other for other in BUILTINS if name in self.names(other)]
        if elsewhere:
            raise _unknown(f'"{name}" is {with_article(elsewhere[0])}; this place takes {with_article(kind)}')
        paths = _SHORT_UPSTREAM.get(kind, {}).get(name, ())
        published = f"published files write {' or '.join(paths)}" if paths else ""
        raise _unknown(f'there is no {kind} called "{name}"', published or meant(kind, name) or nearest(name, known))

    def _upstream(self, name: str, alias: Alias, slot: type[Component]) -> Resolved:
        if alias.kind != slot.kind:
            raise _unknown(f'"{name}" is {with_article(alias.kind)}; this place takes {with_article(slot.kind)}')
        if not alias.target:
            return Resolved(slot, name.rpartition(".")[2], alias)
        return Resolved(self._component(self.names(alias.kind)[alias.target], name, slot), alias.target, alias)

    def _component(self, target: str, name: str, slot: type[Component]) -> type[Component]:
        module, _, attribute = target.partition(":")
        try:
            cls = getattr(importlib.import_module(module), attribute)
        except ErasureError:
            raise
        except (ImportError, AttributeError) as error:
            raise _unknown(f'"{name}" stands for {target}, which cannot be imported ({error})') from error
        except Exception as error:
            raise _unknown(f'"{name}" stands for {target}, which cannot be imported: {foreign(error)}') from error
        return _checked(cls, name, slot)

    def _call(self, name: str, slot: type[Call]) -> Resolved:
        if "." not in name:
            for namespace in slot.namespaces:
                module = importlib.import_module(namespace)
                if hasattr(module, name):
                    return self._foreign(f"{namespace}.{name}", slot)
            names = [n for namespace in slot.namespaces for n in _public(namespace, slot.expects)]
            where = " or ".join(slot.namespaces) or "any module; give its dotted path"
            ending = _ENDINGS.get(slot.kind, "")
            near = nearest(name, (each for each in names if each.endswith(ending)), ending)
            raise _unknown(f'there is no {slot.kind} called "{name}" in {where}', near or _OF_ONES_OWN)
        return self._foreign(name, slot)

    def _foreign(self, path: str, slot: type[Call]) -> Resolved:
        target = self._import(path, lambda: [n for namespace in slot.namespaces for n in _public(namespace, slot.expects)])
        if slot.expects:
            wanted = _load(slot.expects)
            if not (inspect.isclass(target) and issubclass(target, wanted)):
                raise _unknown(
                    f'"{path}" is not a subclass of {slot.expects.replace(":", ".")}, which {with_article(slot.kind)} must be'
                )
        elif not self._is_function_of(path, target, slot.namespaces):
            where = " or ".join(slot.namespaces) or "a module that is trusted"
            raise _unknown(f'"{path}" is not a function of {where}, which {with_article(slot.kind)} must be')
        return Resolved(slot, path.rpartition(".")[2], fixed={"path": path})

    def _dotted(self, path: str, slot: type[Component]) -> Resolved:
        target = self._import(path, lambda: [*self.names(slot.kind), *UPSTREAM])
        if slot.kind == "model" and not (inspect.isclass(target) and issubclass(target, Component)):
            module_class = _load("torch.nn:Module")
            is_module = inspect.isclass(target) and issubclass(target, module_class)
            if not is_module and not self._is_function_of(path, target, FACTORIES):
                raise _unknown(f'"{path}" is not an nn.Module, which a model must be')
            return Resolved(_load(_FOREIGN_MODEL), path.rpartition(".")[2], fixed={"path": path})
        return Resolved(_checked(target, path, slot), path.rpartition(".")[2])

    def _transform(self, name: str) -> Resolved:
        library = _load(_TORCHVISION)("transforms.v2", f'the augmentation "{name}"')
        names = [n for n, value in vars(library).items() if inspect.isclass(value) and issubclass(value, library.Transform)]
        if name not in names:
            raise _unknown(f'there is no augmentation called "{name}"', nearest(name, [*self.names("augmentation"), *names]))
        return Resolved(_load(_FOREIGN_TRANSFORM), name, fixed={"path": f"{_TRANSFORMS}.{name}"})

    def _is_function_of(self, path: str, target: Any, modules: Iterable[str]) -> bool:
        """Whether the target is a function of one of the modules (or of a trusted one), and not merely imported there."""
        home = f"{getattr(target, '__module__', '')}.{path.rpartition('.')[2]}"
        within = all(any(name.startswith(f"{module}.") for module in (*modules, *self.trust)) for name in (path, home))
        return callable(target) and not inspect.isclass(target) and within

    def _import(self, path: str, candidates: Callable[[], Sequence[str]]) -> Any:
        allowed = (*ALLOWED_MODULES, *self.trust)
        if not any(path == module or path.startswith(f"{module}.") for module in allowed):
            module = path.partition(".")[0]
            if _names_nothing(path, candidates()):
                raise _unknown(f'"{path}" is unknown', nearest(path, candidates()))
            raise _unknown(
                f'"{path}" is outside the modules that a configuration may name',
                f'if you trust it, add "--trust {module}"',
                kind="trust",
            )
        module, _, name = path.rpartition(".")
        if module.startswith("torchvision."):
            # Beside a build of torch that its operators were not made for, it must be imported with care the first time.
            _load(_TORCHVISION)("transforms", f'"{path}"')
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            missing = error.name or module
            if module == missing or module.startswith(f"{missing}."):
                raise _unknown(f'there is no module "{missing}" for "{path}"', nearest(path, candidates())) from error
            raise _unknown(f'"{path}" cannot be imported: it needs "{missing}", which is not installed') from error
        except AttributeError as error:
            if module not in sys.modules:
                raise _unknown(f'"{path}" cannot be imported: {foreign(error)}') from error
            public = [n for n in dir(sys.modules[module]) if not n.startswith("_")]
            raise _unknown(f'there is no "{name}" in {module}', nearest(name, public)) from error
        except ErasureError:
            raise
        except Exception as error:
            raise _unknown(f'"{path}" cannot be imported: {foreign(error)}') from error


def _unknown(message: str, hint: str = "", kind: str = "unknown-component") -> UnknownComponent:
    return UnknownComponent([Diagnostic(message, hint=hint, kind=kind)])


def _names_nothing(path: str, candidates: Iterable[str]) -> bool:
    # A misspelt upstream path ("erasre.unlearners…") deserves its nearest name, not advice to trust it.
    return nearest(path, [c for c in candidates if "." in c]) != ""


def _checked(cls: Any, name: str, slot: type[Component]) -> type[Component]:
    if not (inspect.isclass(cls) and issubclass(cls, slot)):
        found = f"{with_article(cls.kind)}" if inspect.isclass(cls) and issubclass(cls, Component) else "something else"
        if found == with_article(slot.kind):
            wanted = (inspect.getdoc(slot) or "").partition("\n")[0]
            raise _unknown(f'"{name}" is {found}, but not of the kind that this place takes, {slot.__name__}: {wanted}')
        raise _unknown(f'"{name}" is {found}; this place takes {with_article(slot.kind)}')
    return cls


@functools.cache
def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _public(namespace: str, expects: str) -> list[str]:
    module = importlib.import_module(namespace)
    wanted = _load(expects) if expects else None
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (inspect.isclass(value) and issubclass(value, wanted) if wanted else callable(value))
    ]


def _short_upstream() -> dict[str, dict[str, list[str]]]:
    short: dict[str, dict[str, list[str]]] = {}
    for path, alias in UPSTREAM.items():
        short.setdefault(alias.kind, {}).setdefault(path.rpartition(".")[2], []).append(path)
    return short


_SHORT_UPSTREAM = _short_upstream()
