"""What the documentation says of stages, commands, settings and tables is what the code says."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from itertools import pairwise

import pytest
import typer
from ruamel.yaml import YAML
from support.documents import commands
from support.project import ROOT

from pipeline.__main__ import app
from pipeline.core import schemas

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PARAMS = YAML().load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def test_every_stage_stands_in_the_table_with_its_sentence():
    for name, stage in STAGES.items():
        if name != "fieldguide":
            sentence = stage.get("do", stage)["desc"].removesuffix(".")
            assert f"| `{name}` | {sentence} |" in README, name


def test_every_file_that_the_docs_link_to_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_numbers_are_those_that_the_benches_wrote():
    for name in ("seeds", "pipeline", "sampling", "download", "training", "evaluate"):
        table = (ROOT / "bench" / "results" / f"{name}.md").read_text(encoding="utf-8").strip()
        pages = README + (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
        assert table in pages, f"bench/results/{name}.md, the README and docs/measured.md differ"


METRICS = json.loads((ROOT / "reports" / "metrics.json").read_text(encoding="utf-8"))
DETAILS = json.loads((ROOT / "reports" / "details.json").read_text(encoding="utf-8"))


def test_the_seeds_of_the_bench_are_of_the_present_results():
    seed = json.loads((ROOT / "bench" / "results" / "seeds.json").read_text(encoding="utf-8"))["0"]
    for model, ways in seed.items():
        for way, values in ways.items():
            assert values == DETAILS[model][way], f"{model} {way}: run `python bench/seeds.py` again"


def test_what_the_readme_shows_of_a_change_starts_from_the_present_results():
    shown = re.findall(r"^reports/metrics.json +(\S+) +([0-9.]+) ", README, re.M)
    assert len(shown) > 11
    for key, before in shown:
        value = METRICS
        for part in key.split("."):
            value = value[part]
        assert value == float(before), f"README: {key}"


def test_the_default_run_in_the_method_is_the_present_one():
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    cells = re.search(r"^\| default \|(.*)\|$", text, re.M)[1].split("|")
    for cell, (model, arm) in zip(
        cells[3:], (("base", "two_step"), ("trained", "two_step"), ("trained", "rotated")), strict=True
    ):
        of = DETAILS[model][arm]
        assert cell.strip() == f"{100 * of['base']:.1f} / {100 * of['novel']:.1f}", f"docs/method.md: {model} {arm}"


def test_nothing_is_left_to_fill_in():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"^[A-Z]{4,}$|to be measured|TODO|TBD", text, re.MULTILINE), page.name


COMMANDS = [pytest.param(command, id=f"{page.stem}: {command}") for page in PAGES for command in commands(page)]


def test_there_are_commands():
    assert len(COMMANDS) > 25


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    """Parsed by the program itself, options, types and all; what runs them for real is in test_pipeline.py."""
    program, *words = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    elif program == "source":
        assert words == [".venv/bin/activate"]
    elif program == "dvc":
        understood_by_dvc(words)
    elif words[:2] == ["-m", "pipeline"]:
        assert_parsed(app, words[2:])
    elif words[:3] == ["-m", "pip", "install"]:
        assert all((ROOT / lock).is_file() for option, lock in pairwise(words) if option == "-r")
    elif words[0] == "-m":
        stage = typer.Typer()
        stage.command()(importlib.import_module(words[1]).main)
        assert_parsed(stage, words[2:])
    else:
        assert (ROOT / words[0]).is_file(), command


def understood_by_dvc(words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    asked = get_main_parser().parse_args(words)
    for setting in getattr(asked, "set_param", None) or []:
        dotted, _, value = setting.partition("=")
        place = PARAMS
        keys = dotted.removeprefix("++").split(".")
        for key in keys[:-1] if dotted.startswith("++") else keys:  # ++ adds the last one
            assert key in place, f"params.yaml has no {dotted}"
            place = place[key]
        assert value


def assert_parsed(program: typer.Typer, words: list[str]) -> None:
    command = typer.main.get_command(program)
    if hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("", list(words))  # it raises where a name or a value is none of its own


@pytest.mark.parametrize("words", [["classify", "--no-such"], ["cost", "--images", "many"], ["compare", "one"]])
def test_commands_that_are_wrong_are_noticed(words):
    with pytest.raises(Exception, match=r"No such option|valid integer|Missing parameter"):
        assert_parsed(app, words)


def test_every_command_of_the_program_is_told_of():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in typer.main.get_command(app).commands:
        assert f"python -m pipeline {name}" in text, name


def test_the_page_of_tables_is_the_generated_one():
    wanted = "`python -m pipeline.core.schemas > docs/tables.md` writes it anew"
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == schemas.markdown(), wanted


def test_the_site_is_built_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.name: page.read_text(encoding="utf-8") for page in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "method.html", "tables.html", "contributing.html"} <= set(pages)
    for page in pages.values():
        assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"?https?:", page), "it would fetch from elsewhere"


def test_the_readme_stands_in_its_order():
    wanted = [
        "The idea",
        "Measured",
        "Two commands",
        "Every day",
        "Stages",
        "Your own data",
        "Bigger models and machines",
    ]
    assert re.findall(r"^## (.*)$", README, re.M) == [*wanted, "What goes stale, and what does not", "Files"]


def test_every_room_stands_in_the_file_tree():
    tree = README[README.index("## Files") :]
    for path in (ROOT / "pipeline").iterdir():
        assert path.name.startswith("__") or re.search(rf"\b{path.name}/", tree), path.name
