"""What a module of the project imports, read from its source."""

import ast
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def all_modules() -> dict[str, Path]:
    """Return every module of the package by name."""
    found = {}
    for path in sorted((SOURCE / "unroll").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Return the full names that a file imports, late imports included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def direct_imports(module: str) -> set[str]:
    """Return the modules of the project that a module imports; the package itself does not count."""
    modules = all_modules()
    return set(imported_names(modules[module]) & modules.keys()) - {"unroll", module}


def import_closure(module: str) -> set[str]:
    """Return all modules of the project that importing a module loads, itself included."""
    closure: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        closure.add(name)
        package = name.rpartition(".")[0]
        waiting |= (direct_imports(name) | ({package} - {"unroll", ""})) - closure
    return closure
