"""The structure of the code: rooms of limited size and number, imports that point one way, the terms of the field."""

import io
import tokenize
from graphlib import TopologicalSorter

import pytest
from support.project import ROOT, code, imports, room

ROOMS = {
    "baselines",
    "commands",
    "core",
    "datasets",
    "engines",
    "evaluation",
    "fieldguide",
    "method",
    "reporting",
    "stages",
    "training",
}
MOST_LINES, MOST_LINES_OF_A_STAGE = 220, 110
TABLES_OF_DATA = {"pipeline/core/schemas.py"}
PRIVATE_TERMS = {"found", "wanted", "asked", "said", "told", "turned", "rivals"}


def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    graph = {name: set() for name in ROOMS}
    for file in code():
        for name in imports(ROOT / file):
            other = [*name.split("."), ""][1]
            if room(file) and other in ROOMS and other != room(file):
                graph[room(file)].add(other)
    return graph


def test_the_rooms():
    entries = {path.name for path in (ROOT / "pipeline").iterdir()} - {"__pycache__", "__init__.py", "__main__.py"}
    assert entries == ROOMS


def test_imports_point_one_way():
    assert next(iter(TopologicalSorter(arrows()).static_order())) == "core"


@pytest.mark.slow
def test_the_method_stands_on_the_core_alone():
    assert arrows()["method"] == {"core"} and arrows()["core"] == set()


@pytest.mark.parametrize("file", code())
def test_a_module_is_read_in_one_sitting(file):
    lines = (ROOT / file).read_text(encoding="utf-8").count("\n")
    most = MOST_LINES_OF_A_STAGE if room(file) == "stages" else MOST_LINES
    assert file in TABLES_OF_DATA or lines <= most


@pytest.mark.parametrize("file", code())
def test_names_are_terms_of_the_field(file):
    tokens = tokenize.generate_tokens(io.StringIO((ROOT / file).read_text(encoding="utf-8")).readline)
    names = {part for token in tokens if token.type == tokenize.NAME for part in token.string.strip("_").split("_")}
    assert not names & PRIVATE_TERMS


def test_tests_import_from_no_test():
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "\nfrom test_" not in text and "\nimport test_" not in text, path


def test_no_test_reads_a_clock():
    clocks = ("perf_" + "counter", "time." + "time(", "mono" + "tonic")
    assert [
        p for p in (ROOT / "tests").rglob("*.py") if any(clock in p.read_text(encoding="utf-8") for clock in clocks)
    ] == []
