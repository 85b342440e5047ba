# SPDX-License-Identifier: MIT
"""The registry of experiments: it finds the parts that modules in the groups' packages define."""

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache

import experiments
from experiments.part import Group, Part


@cache
def groups() -> tuple[Group, ...]:
    """Return the `GROUP` of each package of experiments that has one."""
    packages = (
        importlib.import_module(f"{experiments.__name__}.{module.name}")
        for module in pkgutil.iter_modules(experiments.__path__)
        if module.ispkg
    )
    return tuple(package.GROUP for package in packages if hasattr(package, "GROUP"))


@cache
def parts_of(group: Group) -> dict[str, Part]:
    """Return a group's parts by name."""
    found: list[Part] = []
    package = importlib.import_module(group.package)
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{group.package}.{info.name}")
        found += getattr(module, "PARTS", None) or [module.PART]
    return {part.name: part for part in sorted(found, key=lambda part: part.name)}


def all_parts() -> dict[str, Part]:
    """Return every part by name."""
    found = {name: part for group in groups() for name, part in parts_of(group).items()}
    return dict(sorted(found.items()))


def find(name: str) -> Part | None:
    """Return the part of that name, or None. Other groups' parts aren't imported, to save time."""
    candidates = (parts_of(group).get(name) for group in groups() if group.has(name))
    return next(filter(None, candidates), None)


def chosen(names: Sequence[str]) -> list[Part]:
    """Return the parts that are named, and all parts of groups that are named, each once.

    Raises ValueError for a name that is neither a part's nor a group's.
    """
    known = {name: [part] for name, part in all_parts().items()}
    known |= {group.name: list(parts_of(group).values()) for group in groups()}
    for name in names:
        if name not in known:
            choices = ", ".join(sorted(known))
            raise ValueError(f"no experiment is called {name!r}: choose from {choices}")
    return list(dict.fromkeys(part for name in names for part in known[name]))
