"""dvc.yaml says of each stage exactly what its module imports, reads and is for."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import time

import pytest
from ruamel.yaml import YAML
from support.project import ROOT, closure

from pipeline.core.params import param_keys

STAGES = {
    name: stage.get("do", stage)
    for name, stage in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].items()
}
COSTLY = {"sample", "train", "predict", "rivals"}


def module(name: str) -> str:
    return re.search(r"python -m (\S+)", STAGES[name]["cmd"]).group(1)


def value(dotted: str):
    found = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for part in dotted.split("."):
        found = found[part]
    return found


def keys_read(name: str) -> set[str]:
    """The keys of every dataclass that the stage's module gives to params.load."""
    found = importlib.import_module(module(name))
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(found))) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "load_params"]
    return {key for call in loads for key in param_keys(getattr(found, ast.unparse(call.args[0])))}


def test_the_stages_in_the_order_of_the_method():
    wanted = "fieldguide download sample options filter train predict rivals evaluate report"
    assert list(STAGES) == wanted.split()


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_import_closure(name):
    declared = {dep for dep in STAGES[name]["deps"] if dep.startswith("pipeline/")}
    templates = {dep for dep in declared if not dep.endswith(".py")}
    assert declared - templates == closure(module(name))
    page = {f"pipeline/reporting/page/{file.name}" for file in (ROOT / "pipeline/reporting/page").iterdir()}
    assert templates == (page if name == "report" else set())


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keys_read(name):
    declared = STAGES[name].get("params", [])
    assert len(declared) == len(set(declared))
    assert set(declared) == keys_read(name)
    assert not any(isinstance(value(key), dict) for key in declared), "single values, no sections"


@pytest.mark.parametrize("name", STAGES)
def test_the_help_tells_of_what_is_read(name):
    """The dataclasses given to `run`, whose settings --help shows, are those that are loaded."""
    source = ast.parse(inspect.getsource(importlib.import_module(module(name))))
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call)]
    (run,) = [call for call in calls if ast.unparse(call.func) == "run"]
    loaded = {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "load_params"}
    assert {ast.unparse(argument) for argument in run.args[1:]} == loaded


def test_every_setting_is_read_by_a_stage():
    def dotted(tree, above=""):
        for key, below in tree.items():
            yield from dotted(below, f"{above}{key}.") if isinstance(below, dict) else [above + key]

    every = set(dotted(YAML(typ="safe").load((ROOT / "params.yaml").read_text())))
    assert every == {key for stage in STAGES.values() for key in stage.get("params", [])}


@pytest.mark.parametrize("name", STAGES)
def test_the_description_is_the_first_sentence_of_the_module(name):
    assert STAGES[name]["desc"] == importlib.import_module(module(name)).__doc__.splitlines()[0]


@pytest.mark.parametrize("name", STAGES)
def test_the_command_is_python_of_the_environment(name):
    assert STAGES[name]["cmd"].split()[:2] == ["python", "-m"]


@pytest.mark.parametrize("name", sorted(COSTLY))
def test_costly_stages_have_cached_outs_only(name):
    assert not {"metrics", "plots"} & set(STAGES[name])
    assert all(isinstance(out, str) for out in STAGES[name]["outs"])


@pytest.mark.parametrize("name", STAGES)
def test_stages_import_no_heavy_package_at_the_top(name):
    heavy = {"torch", "transformers", "trl", "datasets", "PIL"}
    # Imported inside of functions themselves, when there is something to draw.
    allowed = {"pipeline/datasets/drawing.py", "pipeline/engines/shared_prefix.py", "pipeline/engines/tokens.py"}
    allowed |= {f"pipeline/training/{name}.py" for name in ("grpo", "run", "watch")}
    for file in closure(module(name)) - allowed:
        for node in ast.parse((ROOT / file).read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
            assert not heavy & {(n or "").split(".")[0] for n in names}, file


@pytest.mark.parametrize("name", STAGES)
def test_help_answers_in_a_second(name):
    # The fastest of three: the machine may be busy with something else.
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", module(name), "--help"], cwd=ROOT, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout
    assert min(seconds) < 1.0
