"""dvc.yaml says of each stage what its module imports, reads and is for."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest
from ruamel.yaml import YAML
from support.project import ROOT, closure, data_files, is_docstring_only
from support.stages import STAGES, dotted_keys, keys_read, module

from pipeline.method import styles

COSTLY = {"sample", "train", "predict", "baselines"}
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def value(dotted: str):
    tree = PARAMS
    for part in dotted.split("."):
        tree = tree[part]
    return tree


def expanded(declared) -> set[str]:
    """The single keys behind keys and sections."""
    keys = set()
    for key in declared:
        tree = value(key)
        keys |= dotted_keys(tree, f"{key}.") if isinstance(tree, dict) else {key}
    return keys


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def test_the_stages_in_the_order_of_the_method():
    order = "fieldguide download sample options filter train predict baselines evaluate report"
    assert list(STAGES) == order.split()


@pytest.mark.parametrize("name", STAGES)
def test_the_rooms_declared_cover_what_is_imported_and_read(name):
    declared = [dep for dep in STAGES[name]["deps"] if dep.startswith("pipeline/")]
    modules = {file for file in closure(module(name)) if not is_docstring_only(file)}
    files = modules | {file for one in modules for file in data_files(one)}
    uncovered = {file for file in files if not any(covers(dep, file) for dep in declared)}
    assert not uncovered
    unused = [dep for dep in declared if not any(covers(dep, file) for file in files)]
    assert not unused, "a room that the stage does not use"


USED_ALONE = ("pipeline/engines/", "pipeline/datasets/class_lists/", "pipeline/reporting/page/")
"""Where an edit reruns the stages that use the file and no others, though rooms are declared."""


@pytest.mark.parametrize("name", STAGES)
def test_an_engine_file_a_class_list_and_a_template_are_declared_where_they_are_used(name):
    declared = [dep for dep in STAGES[name]["deps"] if dep.startswith("pipeline/")]
    modules = {file for file in closure(module(name)) if not is_docstring_only(file)}
    used = {file for file in modules | {file for one in modules for file in data_files(one)}}
    files = [path for folder in USED_ALONE for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    code = {file for file in names if not (file.endswith(".py") and is_docstring_only(file))}
    assert {file for file in code if any(covers(dep, file) for dep in declared)} == code & used


def test_data_files_are_known():
    """The test above sees what modules read beside themselves."""
    assert "pipeline/datasets/class_lists/cub.csv" in {f for c in closure(module("download")) for f in data_files(c)}
    page = {file for one in closure(module("report")) for file in data_files(one)}
    assert {"pipeline/reporting/page/report.html.j2", "pipeline/reporting/page/gallery.js"} <= page


def test_no_stage_is_imported():
    """But by its own module, as a command."""
    files = [path for path in (ROOT / "pipeline").rglob("*.py")]
    importers = [path for path in files if "pipeline.stages" in "".join(_imports(path))]
    assert importers == []


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keys_read(name):
    declared = STAGES[name].get("params", [])
    assert len(declared) == len(set(declared))
    assert expanded(declared) == keys_read(name)


@pytest.mark.parametrize("name", STAGES)
def test_a_style_file_is_tracked_where_it_is_read(name):
    assert (str(styles.FOLDER) in STAGES[name]["deps"]) == ("prompt" in keys_read(name))


@pytest.mark.parametrize("name", STAGES)
def test_sections_read_whole_are_declared_whole(name):
    declared = STAGES[name].get("params", [])
    for section, tree in PARAMS.items():
        if isinstance(tree, dict) and dotted_keys(tree, f"{section}.") <= keys_read(name):
            assert section in declared


@pytest.mark.parametrize("name", STAGES)
def test_the_help_shows_what_is_read(name):
    """The dataclasses given to `run`, whose settings --help shows, are those that are loaded."""
    source = ast.parse(inspect.getsource(importlib.import_module(module(name))))
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call)]
    (run,) = [call for call in calls if ast.unparse(call.func) == "run"]
    loaded = {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "load_params"}
    assert {ast.unparse(argument) for argument in run.args[1:]} == loaded


def test_every_setting_is_read_by_a_stage():
    assert dotted_keys(PARAMS) == {key for stage in STAGES.values() for key in expanded(stage.get("params", []))}


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


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_stages_import_no_heavy_package_at_the_top(name):
    """So that --help answers at once, and stages that need no model do not wait for torch."""
    stage = importlib.import_module(module(name))
    heavy = ("torch", "transformers", "trl", "datasets")
    code = f"import sys, {stage.__name__}; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
