"""Every promise of docs/security.md names a test that exists."""

import ast
import re

import pytest
from support.project import ROOT

PROMISES = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))


def test_there_are_promises():
    assert len(PROMISES) > 25


@pytest.mark.parametrize(("file", "name"), PROMISES, ids=[name for _, name in PROMISES])
def test_the_test_of_a_promise_exists(file, name):
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
