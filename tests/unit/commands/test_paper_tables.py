"""The paper's tables: published numbers as they are, ours as means over seeds, empty cells where there is no run."""

import json
import os
import subprocess
from pathlib import Path

import polars as pl
import pytest

from pipeline.commands.paper_runs import (
    DUPLICATE,
    SETS,
    Run,
    differences,
    exclusion_line,
    flat,
    recorded_runs,
    select,
)
from pipeline.commands.paper_tables import (
    COLUMNS,
    PUBLISHED,
    ROWS,
    all_rows,
    cells,
    grid,
    latex,
    markdown,
    paper_tables,
    short_names,
)

SHARE = {"base": 0.8, "novel": 0.6, "hm": 0.6857}
SETTINGS = {"dataset": "cub", "model": "a/7B", "seed": 0, "topk": 5, "num_samples": 20, "data.shots": 0}
SETTINGS |= {"train.method": "divek", "train.tuning": "full", "train.steps": 100, "evaluate.models": []}


def run(*datasets, share=SHARE, further=None, **changed):
    ways = {"one_step": share, "two_step": {average: value + 0.1 for average, value in share.items()}}
    own = {"dataset": list(datasets) if len(datasets) > 1 else (datasets or ("cub",))[0]}
    changed = {name.replace("__", "."): value for name, value in changed.items()}
    return Run(SETTINGS | own | changed, {"base": ways, "trained": ways} | (further or {}))


def row(table, kind, method, source):
    head, rows = grid(table, kind)
    matches = [dict(zip(head, cells, strict=True)) for cells in rows if cells[:2] == [method, source]]
    return matches[0] if matches else None


def test_without_runs_the_published_numbers_stand_alone():
    table = all_rows({})
    assert row(table, "base-to-novel", "DiVE-k*", "published") == {
        "method": "DiVE-k*",
        "source": "published",
        **{"flowers": "92.9", "cub": "72.2", "pets": "91.6", "cars": "72.4", "aircraft": "68.6"},
        **{"base": "80.8", "novel": "78.8", "HM": "79.8", "mean of HMs": "79.5"},
    }
    assert row(table, "base-to-novel", "Gemini 2.5 flash lite", "published")["HM"] == "80.0"
    assert row(table, "base-to-novel", "GPT-5-mini", "published")["novel"] == "85.1"
    assert row(table, "base-to-novel", "CLIP", "published")["mean of HMs"] == "", "its data sets were not published"
    assert row(table, "hybrid", "ViRFT", "published")["base"] == "", "not published, not made up"
    assert set(table["source"]) == {"published"}


def test_published_averages_agree_with_the_published_data_sets():
    published = pl.read_csv(PUBLISHED).filter(table="base-to-novel", method="DiVE-k*")
    values = dict(published.select("column", "percent").rows())
    assert abs(2 * values["base"] * values["novel"] / (values["base"] + values["novel"]) - values["hm"]) < 0.06
    mean = all_rows({}).filter(table="base-to-novel", method="DiVE-k*", column="mean_hm")["percent"].item()
    assert abs(mean - 79.54) < 0.01, "the mean of the harmonic means"
    assert set(pl.read_csv(PUBLISHED)["method"]) <= set(ROWS)


def test_seeds_are_averaged_and_only_what_was_run_is_there():
    other = {"base": 0.6, "novel": 0.4, "hm": 0.48}
    table = all_rows(cells([run("cub"), run("cub", share=other, seed=1)]))
    result = row(table, "base-to-novel", "DiVE-k*", "7B")
    assert result["cub"] == "68.3 (2)"  # the mean of .7857 and .58
    assert [result[name] for name in ("flowers", "base", "novel", "HM")] == [""] * 4, "four data sets are missing"
    assert row(table, "base-to-novel", "base model", "7B")["cub"] == "58.3 (2)"
    assert row(table, "base-to-novel", "ViRFT", "7B") is None


def test_the_base_model_of_every_method_is_one_seed():
    runs = [run("cub"), run("cub", train__method="virft", share={"base": 0.6, "novel": 0.4, "hm": 0.48})]
    assert row(all_rows(cells(runs)), "base-to-novel", "base model", "7B")["cub"] == "68.6 (1)", "the newest one"


def test_the_average_needs_all_five_data_sets_and_shows_the_fewest_seeds():
    runs = [run(name) for name in SETS]
    runs[0].details["trained"]["one_step"] = {"base": 1.0, "novel": 0.2, "hm": 0.3333}
    result = row(all_rows(cells([*runs, run("pets", seed=1)])), "base-to-novel", "DiVE-k", "7B")
    assert (result["base"], result["novel"], result["HM"]) == ("84.0 (1)", "52.0 (1)", "64.2 (1)")
    assert (result["pets"], result["mean of HMs"]) == ("68.6 (2)", "61.5 (1)"), "(.3333 + 4 × .6857) / 5"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"topk": 3}, ["topk"]),
        ({"num_samples": 40, "train.steps": 400}, ["num_samples", "train.steps"]),
        ({"options.strategy": "random"}, ["options.strategy"]),  # of a time before, or after, that setting
        ({"seed": 7, "model": "b", "train.method": "sft", "train.tuning": "lora", "data.shots": 4}, []),
        ({"engine.max_rows": 1, "server.endpoints": ["x"], "evaluate.models": ["clip:x"], "clip.prompt": "a"}, []),
        ({"server": 1}, ["server"]),  # no setting of that section
    ],
)
def test_runs_differ_in_what_can_change_a_result(changed, expected):
    assert differences(SETTINGS | changed, SETTINGS) == differences(SETTINGS, SETTINGS | changed) == expected


def test_only_seeds_of_the_present_settings_count_and_the_newest_of_each():
    better = {"base": 0.9, "novel": 0.9, "hm": 0.9}
    runs = [
        run("cub"),
        run("cub", share=better),  # older
        run("cub", seed=1),
        run("cub", seed=2, share=better, topk=3),
        run("cub", seed=3, share=better, train__steps=400, topk=3),
        run("cub", seed=4, share=better, data__shots=16),
        run("cub", "cars", share=better),
        run("fieldguide", share=better),
    ]
    selection, exclusions = select(runs, SETTINGS)
    assert selection == [runs[0], runs[2]]
    steps = ["topk", "train.steps"]
    assert exclusions == [[DUPLICATE], ["topk"], steps, ["data.shots"], ["dataset"], ["dataset"]]
    assert row(all_rows(cells(selection)), "base-to-novel", "DiVE-k", "7B")["cub"] == "68.6 (2)"
    assert exclusion_line(exclusions) == (
        "6 runs excluded, by the settings in which they differ: topk (2), dataset (2), an older run with the same "
        "settings (1), train.steps (1), data.shots (1)"
    )
    assert exclusion_line([]) == "no run excluded"


def test_the_line_about_excluded_runs_stays_short():
    assert exclusion_line([[f"a{n}" for n in range(12)]]).endswith("a7 (1) and 4 more settings")


def test_methods_and_tables_are_distinguished():
    runs = [
        run(train__method="sft", train__tuning="lora"),
        run(train__method="virft"),
        run(*SETS),
        run(data__shots=4),
        run(train__tuning="lora"),
    ]
    keys = {key[:2] for key in cells(runs)}
    assert {
        ("base-to-novel", "SFT, LoRA"),
        ("base-to-novel", "ViRFT*"),
        ("hybrid", "DiVE-k"),
        ("few-shot", "DiVE-k*"),
        ("base-to-novel", "DiVE-k, LoRA*"),
    } <= keys
    assert not {("base-to-novel", "SFT, LoRA*"), ("base-to-novel", "DiVE-k*")} & keys
    assert {row for _, row in keys} <= set(ROWS)
    few = all_rows(cells(runs[3:4]))
    assert row(few, "few-shot", "DiVE-k", "7B")["cub"] == "80.0 (1)"


def test_a_hybrid_run_shows_both_averages():
    result = row(all_rows(cells([run(*SETS, share=SHARE | {"mean_hm": 0.66})])), "hybrid", "DiVE-k", "7B")
    assert (result["HM"], result["mean of HMs"]) == ("68.6 (1)", "66.0 (1)")


def test_further_models_have_rows_of_their_own():
    models = ["clip:openai/ViT-B-16", "fudd:openai/ViT-B-16", "Qwen/Qwen2.5-VL-3B", "weights/fudd_x", "weights/clip_x"]
    further = {
        "clip_ViT-B-16": {"one_step": SHARE},
        "fudd_ViT-B-16": {"one_step": SHARE, "two_step": {"base": 0.7, "novel": 0.7, "hm": 0.7}},
        "Qwen2-5-VL-3B": {"one_step": SHARE, "two_step": SHARE},
        "fudd_x": {"one_step": SHARE},  # a folder of that name is no FuDD, and this one made no choice
        "clip_x": {"one_step": SHARE, "two_step": SHARE},
    }
    table = all_rows(cells([run("cub", further=further, evaluate__models=models)]))
    assert row(table, "base-to-novel", "CLIP", "ViT-B-16")["cub"] == "68.6 (1)"
    assert row(table, "base-to-novel", "FuDD", "ViT-B-16")["cub"] == "70.0 (1)"
    assert row(table, "base-to-novel", "other model*", "Qwen2.5-VL-3B")["cub"] == "68.6 (1)"
    assert row(table, "base-to-novel", "other model*", "clip_x")["cub"] == "68.6 (1)"
    assert row(table, "base-to-novel", "CLIP", "x") is None and row(table, "base-to-novel", "CLIP", "clip_x") is None
    assert row(table, "base-to-novel", "other model", "fudd_x") and not row(table, "base-to-novel", "FuDD", "fudd_x")
    assert row(table, "base-to-novel", "CLIP", "published")["base"] == "63.8", "beside the published one"


def test_models_with_the_same_name_are_distinguished():
    assert short_names(["a/7B", "b/7B", "c/3B"]) == {"a/7B": "a/7B", "b/7B": "b/7B", "c/3B": "3B"}
    table = all_rows(cells([run("cub"), run("cub", model="b/7B")]))
    assert row(table, "base-to-novel", "DiVE-k", "b/7B")["cub"] == "68.6 (1)"


def nested(settings):
    tree = {}
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A function that writes a run into a repository and commits it, on main or as an experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    clock = iter(range(100))

    def git(*words):
        date = f"2030-01-01T00:00:{next(clock):02} +0000"
        people = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        dated = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        done = subprocess.run(["git", *words], env=os.environ | people | dated, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(one, commit=True, experiment=""):
        (tmp_path / "params.yaml").write_text(json.dumps(nested(one.settings)), encoding="utf-8")
        (tmp_path / "reports/details.json").write_text(json.dumps(one.details), encoding="utf-8")
        if commit:
            git("add", "-A")
            git("commit", "-m", "a run")
        if experiment:
            git("update-ref", f"refs/exps/{'ab' + '/' + '0' * 38}/{experiment}", "HEAD")
            git("reset", "--hard", "HEAD~1")

    git("init", "-b", "main")
    return write


def test_runs_come_from_the_workspace_the_commits_and_the_experiments_newest_first(repository):
    repository(run("cub", seed=1))
    repository(run("cub", seed=2), experiment="two")
    repository(Run({"dataset": "cub"}, {}))  # of another time
    repository(run("cub", seed=3))
    repository(Run(SETTINGS, {}), experiment="failed")
    repository(run("cub", seed=4), commit=False)
    assert [one.settings["seed"] for one in recorded_runs()] == [4, 3, 2, 1]


def test_a_changed_params_file_does_not_change_what_was_run(repository, tmp_path):
    params = {"params.yaml": {"train": {"steps": 100}, "seed": 0}}  # a whole section, and a key
    lock = {"stages": {"train": {"cmd": "x", "params": params}, "a": {}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock), encoding="utf-8")
    repository(run("cub"))
    repository(run("cub", seed=5, train__steps=400), commit=False)
    assert [(one.settings["seed"], one.settings["train.steps"]) for one in recorded_runs()] == [(0, 100)]


def test_the_page_has_the_rule_and_what_was_excluded(repository, capsys):
    repository(run("cub", topk=3))
    repository(run("cub"))
    paper_tables(out=Path("reports/paper.md"))
    page, tex = (Path(f"reports/paper.{kind}").read_text(encoding="utf-8") for kind in ("md", "tex"))
    assert "differs from the present params.yaml only in dataset, model, seed, train.method" in page
    line = "1 run excluded, by the settings in which they differ: topk (1)"
    assert line in page and line in tex
    assert capsys.readouterr().out.splitlines() == ["1 of 2 runs; reports/paper.md and paper.tex written", line]
    assert "| DiVE-k* | 7B |  | 78.6 (1) |" in page


def test_settings_have_dotted_keys():
    assert flat({"a": 1, "b": {"c": [], "d": {"e": None}}}) == {"a": 1, "b.c": [], "b.d.e": None}


def test_markdown_and_latex_hold_the_same_cells():
    head, rows = grid(all_rows(cells([run("cub", model="a_b")])), "base-to-novel")
    page, tex = markdown(head, rows), latex(head, rows)
    assert page[0].startswith("| method | source | flowers") and len(page) == len(rows) + 2
    assert r"DiVE-k* & a\_b & " in "\n".join(tex)
    width = len(COLUMNS["base-to-novel"])
    assert tex[0] == rf"\begin{{tabular}}{{ll{'r' * width}}}" and len(tex) == len(rows) + 6
