"""The stages of dvc.yaml, and what their modules read."""

import ast
import importlib
import inspect
import re

from ruamel.yaml import YAML
from support.project import ROOT

from pipeline.core.params import param_keys

STAGES = {
    name: stage.get("do", stage)
    for name, stage in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items()
}


def module(name: str) -> str:
    """The module that a stage runs."""
    return re.search(r"python -m (\S+)", STAGES[name]["cmd"]).group(1)


def keys_read(name: str) -> set[str]:
    """The keys of every dataclass that the stage's module gives to load_params."""
    stage = importlib.import_module(module(name))
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(stage))) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "load_params"]
    return {key for call in loads for key in param_keys(getattr(stage, ast.unparse(call.args[0])))}


def dotted_keys(tree, prefix="") -> set[str]:
    """The keys of params.yaml whose value is no section."""
    keys = set()
    for key, value in tree.items():
        keys |= dotted_keys(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}"}
    return keys
