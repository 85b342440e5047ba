# SPDX-License-Identifier: MIT
"""Tests of the packages' shape: who may import whom, and how long a function may be."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("allocator_shim", "cleanup", "experiments")
MOST_LINES = 60


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
}
# Extension modules have no Python source in which imports could be found.
EXTENSIONS = {module_name(path) for package in PACKAGES for path in (ROOT / package).rglob("*.pyi")}


def test_imports_go_round_in_no_circle() -> None:
    graph = {name: set(imports_of(name)) for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
        raise AssertionError(f"these import each other: {circle}") from None


def test_nothing_imports_the_command_line() -> None:
    """Code that commands share with other modules must not be in `cleanup.commands`."""
    importers = {
        name: commands
        for name in MODULES
        if not name.startswith("cleanup.commands")
        if (commands := {one for one in imports_of(name) if one.startswith("cleanup.commands")})
    }
    assert not importers


def test_the_product_does_not_import_the_experiments() -> None:
    """The wheel has no experiments: only the command line imports them, for use in a checkout."""
    importers = [
        name
        for name in MODULES
        if not name.startswith(("experiments", "cleanup.commands"))
        if any(one.startswith("experiments") for one in imports_of(name))
    ]
    assert not importers


def test_no_function_is_longer_than_a_screen() -> None:
    sources = [*MODULES.values(), *(ROOT / "tools").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MOST_LINES
    ]
    assert not long


def imports_of(name: str) -> Iterator[str]:
    """Yield the modules of the packages that are imported when this module is."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in at_import(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif node.module in MODULES:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule not in EXTENSIONS:
                    yield submodule if submodule in MODULES else node.module


def at_import(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements that run with the module: not those in functions or for types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from at_import(other)
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_import(child)
