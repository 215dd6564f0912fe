"""The scripts of bench/ as modules."""

import importlib.util
from types import ModuleType

from support.project import ROOT


def bench(name: str) -> ModuleType:
    """The module bench/`name`.py."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "bench" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
