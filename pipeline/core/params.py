"""params.yaml, typed: each stage names the keys it reads in a small dataclass, and reads nothing else."""

import dataclasses
import functools
import math
import operator
import re
import typing
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.errors import UserError, first_line
from pipeline.core.yaml_text import load_yaml

__all__ = ["UserError", "first_line"]

T = TypeVar("T")

Scalars = dict[str, bool | int | float | str]
"""The type of a setting that is itself a mapping, of names that the user chooses."""

PARAMS_FILE = Path("params.yaml")
LARGEST_SEED = 2**32 - 1  # NumPy's limit, and so the trainer's
DEEPEST = 5  # sections within sections; an alias can hold itself
MOST_KEYS = 10_000  # that are looked at: aliases can make one line a million
MOST_DRAWS = 10_000  # of an image: a slip such as 20000000 would fill memory and disk before anything is seen
LARGEST_INTEGER = 2**31 - 1  # of settings without a limit of their own


def key(
    dotted: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    one_of: tuple[str, ...] | None = None,
    or_empty: bool = False,
) -> Any:
    """A dataclass field that is read from `dotted` in params.yaml, with the range it must lie in.

    A field of the type tuple[str, ...] takes a list of texts, or one text alone; of the type Scalars, any mapping of
    names to single values.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "one_of": one_of, "or_empty": or_empty}
    return dataclasses.field(metadata={"key": dotted, **limits})


def param_keys(params: type) -> list[str]:
    """The dotted keys that a stage's dataclass reads; dvc.yaml declares the same ones."""
    return [field.metadata["key"] for field in dataclasses.fields(params)]


def load_params(params: type[T], file: Path = PARAMS_FILE) -> T:
    """The values of a stage's dataclass, checked for type and range. Raises UserError, for unknown keys too."""
    tree = _tree(file)
    types = typing.get_type_hints(params)
    values = {
        field.name: _validate(param_value(tree, field.metadata["key"], file), types[field.name], field.metadata, file)
        for field in dataclasses.fields(params)  # type: ignore[arg-type]
    }
    _require_known(tree, known_keys() | set(param_keys(params)), file)
    return params(**values)


@functools.cache
def known_keys() -> frozenset[str]:
    """Every key that some dataclass of the project reads: from the source, as importing all of it takes seconds."""
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("*.py"))
    return frozenset(name for source in sources for name in re.findall(r'\bkey\(\s*"([\w.]+)"', source))


def _require_known(tree: Any, known: Collection[str], file: Path) -> None:
    """Raises UserError for a key that nothing reads: a slip that would otherwise leave its setting as it was."""
    for dotted in islice(_dotted(tree, known), MOST_KEYS):
        if dotted not in known:
            similar = get_close_matches(dotted, known, 1)
            hint = f" (similar: {similar[0]})" if similar else ""
            raise UserError(f"{file}: there is no setting {dotted[:80]!r}{hint}; remove or rename it, then `dvc repro`")


def _dotted(tree: dict[Any, Any], known: Collection[str], above: str = "", depth: int = 0) -> Iterator[str]:
    for name, value in tree.items():
        inner = isinstance(value, dict) and value and depth < DEEPEST and f"{above}{name}" not in known
        yield from _dotted(value, known, f"{above}{name}.", depth + 1) if inner else [f"{above}{name}"]


def read_param(dotted: str, file: Path = PARAMS_FILE) -> Any:
    """One value, unchecked. Raises UserError where it is missing."""
    return param_value(_tree(file), dotted, file)


def all_params(file: Path = PARAMS_FILE) -> dict[str, Any]:
    """All of params.yaml, unchecked. Raises UserError."""
    return dict(_tree(file))


def _tree(file: Path) -> Any:
    advice = f"fix it, or `git checkout {file}`"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; run from the project's root, or `git checkout {file}`") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason}); {advice}") from None
    tree = load_yaml(text, str(file), advice)
    if not isinstance(tree, dict):
        raise UserError(f"{file}: no settings; {advice}")
    return tree


def param_value(tree: Any, dotted: str, file: Path) -> Any:
    """The value of a dotted key. Raises UserError where it is missing."""
    for part in dotted.split("."):
        if not isinstance(tree, dict) or part not in tree:
            raise UserError(f"{file}: {dotted} is missing; `git diff {file}` shows what was removed")
        tree = tree[part]
    return tree


def _validate(value: Any, expected: Any, field: Any, file: Path) -> Any:
    dotted = field["key"]
    if expected == tuple[str, ...]:
        return _texts(value, field, file)
    if expected == Scalars:
        return _scalars(value, dotted, file)
    if isinstance(value, int) and value.bit_length() > 64:  # which Python refuses to print
        raise UserError(_sentence(file, dotted, "a number of many digits", f"a value of type {expected.__name__}"))
    if expected is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        value = float(value)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        actual = f"{value!r}, a {type(value).__name__}"
        raise UserError(_sentence(file, dotted, actual, f"a value of type {expected.__name__}"))
    for limit, holds, words in (
        ("at_least", operator.ge, "at least"),
        ("above", operator.gt, "more than"),
        ("at_most", operator.le, "at most"),
    ):
        if field[limit] is not None and not holds(value, field[limit]):
            raise UserError(_sentence(file, dotted, repr(value), f"{words} {_number(field[limit])}"))
    if isinstance(value, int) and field["at_most"] is None and value > LARGEST_INTEGER:
        raise UserError(_sentence(file, dotted, repr(value), f"at most {LARGEST_INTEGER}"))
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(_sentence(file, dotted, repr(value), "a finite number"))
    if value == "" and not field["or_empty"]:
        raise UserError(_sentence(file, dotted, "empty", "a text"))
    if field["one_of"] is not None and value not in field["one_of"]:
        raise UserError(_sentence(file, dotted, repr(value), f"one of {', '.join(field['one_of'])}"))
    return value


def _number(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else f"{limit:g}"


def _texts(value: Any, field: Any, file: Path) -> tuple[str, ...]:
    dotted, choices = field["key"], field["one_of"]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(item, str) and item for item in texts):
        raise UserError(_sentence(file, dotted, f"{value!r}", "a list of texts, such as [] or [one, two]"))
    if choices and not (texts and set(texts) <= set(choices) and len(set(texts)) == len(texts)):
        raise UserError(_sentence(file, dotted, f"{value!r}", f"one of {', '.join(choices)}, or a list of them"))
    return tuple(texts)


def _scalars(value: Any, dotted: str, file: Path) -> Scalars:
    """A mapping, all of whose names could be Python's and whose values are one text, number, true or false each."""
    actual = "" if isinstance(value, dict) else f"is a {type(value).__name__}"
    for name, one in value.items() if isinstance(value, dict) else ():
        is_scalar = isinstance(one, str) or (isinstance(one, int | float) and abs(one) < 2**63)
        if not (is_scalar and isinstance(name, str) and name.isidentifier()):
            actual = f"has {str(name)[:80]!r}, with a value of type {type(one).__name__}"
    if actual:
        raise UserError(
            f"{file}: {dotted} {actual}, expected names with a text, a number, true or false each; set one with "
            f"`dvc exp run -S ++{dotted}.name=value` or in {file}"
        )
    return dict(value)


def _sentence(file: Path, dotted: str, actual: str, expected: str) -> str:
    return f"{file}: {dotted} is {actual}, expected {expected}; set it with `dvc exp run -S {dotted}=…` or in {file}"
