"""The project's files, and which of them a module imports and reads: from the source, without running it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py" if (path / "__init__.py").is_file() else None
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def imports(file: Path) -> set[str]:
    """The modules of the project, and names in them, that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "pipeline"}


def closure(module: str) -> set[str]:
    """Paths, relative to the root, of `module` and all that it imports, directly or not."""
    files: set[Path] = set()
    modules = {module}
    while modules:
        name = modules.pop()
        file = _file(name)
        if file is None or file in files:
            continue
        files.add(file)
        modules |= imports(file)
        if "." in name:
            modules.add(name.rpartition(".")[0])
    return {str(file.relative_to(ROOT)) for file in files}


def data_files(file: str) -> set[str]:
    """Data files of the package that a module reads: all in the folders or of the names that its texts mention.

    A module names them beside itself, such as Path(__file__).with_name("page") or Path(__file__).parent / "x.csv".
    """
    source = (ROOT / file).read_text(encoding="utf-8")
    if "__file__" not in source:
        return set()
    beside = [path for path in (ROOT / file).parent.iterdir() if path.suffix != ".py" and path.name != "__pycache__"]
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    paths: set[Path] = set()
    for path in beside:
        if path.name in texts:
            paths |= set(path.rglob("*")) if path.is_dir() else {path}
    return {str(path.relative_to(ROOT)) for path in paths if path.is_file()}


def room(file: str) -> str:
    """The room of a file: the folder below pipeline/, "" for pipeline/*.py."""
    parts = Path(file).parts
    return parts[1] if len(parts) > 2 else ""


def code() -> list[str]:
    """Every module of the pipeline, relative to the root."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pipeline").rglob("*.py"))


def is_docstring_only(file: str) -> bool:
    """Whether a module holds a docstring at most, so that no result depends on it."""
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)
