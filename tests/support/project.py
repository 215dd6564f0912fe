"""The project files that a module imports, directly or not, read from the source without running it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def _named(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "pipeline"}


def closure(module: str) -> set[str]:
    """Paths, relative to the root, of `module` and all that it needs, the packages' __init__.py included."""
    seen: set[Path] = set()
    todo = {module}
    while todo:
        name = todo.pop()
        file = _file(name)
        if file is None or file in seen:
            continue
        seen.add(file)
        todo |= _named(file)
        if "." in name:
            todo.add(name.rpartition(".")[0])
    return {str(file.relative_to(ROOT)) for file in seen}
