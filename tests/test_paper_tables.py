"""The paper's tables: published numbers as they are, ours as means over seeds, nothing where nothing was run."""

import polars as pl

from pipeline.commands.paper_tables import PUBLISHED, ROWS, Run, cells, filled, grid, latex, markdown, present, rivals

SHARE = {"base": 0.8, "novel": 0.6, "hm": 0.6857}


def run(*datasets, method="divek", shots=0, tuning="full", model="7B", share=SHARE):
    arms = {"one_step": share, "two_step": {part: value + 0.1 for part, value in share.items()}}
    return Run(datasets or ("cub",), model, method, tuning, shots, {"base": arms, "trained": arms})


def row(table, kind, method, source):
    head, rows = grid(table, kind)
    found = [dict(zip(head, cells, strict=True)) for cells in rows if cells[:2] == [method, source]]
    return found[0] if found else None


def test_without_runs_the_published_numbers_stand_alone():
    table = filled({})
    assert row(table, "base-to-novel", "DiVE-k*", "published") == {
        "method": "DiVE-k*",
        "source": "published",
        **{"flowers": "92.9", "cub": "72.2", "pets": "91.6", "cars": "72.4", "aircraft": "68.6"},
        **{"base": "80.8", "novel": "78.8", "HM": "79.8"},
    }
    assert row(table, "hybrid", "ViRFT", "published")["base"] == "", "not published, not made up"
    assert set(table["source"]) == {"published"}


def test_published_averages_agree_with_the_published_data_sets():
    published = pl.read_csv(PUBLISHED).filter(table="base-to-novel", method="DiVE-k*")
    values = dict(published.select("column", "percent").rows())
    assert abs(2 * values["base"] * values["novel"] / (values["base"] + values["novel"]) - values["hm"]) < 0.06
    mean = sum(values[name] for name in ("flowers", "cub", "pets", "cars", "aircraft")) / 5
    assert abs(mean - 79.54) < 0.01, "the mean of the harmonic means"
    assert set(pl.read_csv(PUBLISHED)["method"]) <= set(ROWS)


def test_seeds_are_averaged_and_only_what_was_run_is_there():
    other = {"base": 0.6, "novel": 0.4, "hm": 0.48}
    table = filled(cells([run("cub"), run("cub", share=other)]))
    found = row(table, "base-to-novel", "DiVE-k*", "7B")
    assert found["cub"] == "68.3"  # the mean of .7857 and .58
    assert [found[name] for name in ("flowers", "base", "novel", "HM")] == [""] * 4, "four data sets are missing"
    assert row(table, "base-to-novel", "base model", "7B")["cub"] == "58.3"
    assert row(table, "base-to-novel", "ViRFT", "7B") is None


def test_the_average_needs_all_five_data_sets():
    table = filled(cells([run(name) for name in ("flowers", "cub", "pets", "cars", "aircraft")]))
    found = row(table, "base-to-novel", "DiVE-k", "7B")
    assert (found["base"], found["novel"], found["HM"]) == ("80.0", "60.0", "68.6")


def test_methods_and_tables_are_told_apart():
    runs = [run(method="sft", tuning="lora"), run(method="virft"), run("cub", "cars"), run("cub", shots=4)]
    keys = {key[:2] for key in cells(runs)}
    assert {
        ("base-to-novel", "SFT, LoRA"),
        ("base-to-novel", "ViRFT*"),
        ("hybrid", "DiVE-k"),
        ("few-shot", "DiVE-k*"),
    } <= keys
    assert ("base-to-novel", "SFT, LoRA*") not in keys
    few = filled(cells(runs[3:]))
    assert row(few, "few-shot", "DiVE-k", "7B")["cub"] == "80.0"
    assert cells([run("fieldguide")]) == {}, "not one of the paper's"


def test_further_models_have_rows_of_their_own():
    one = run("cub")
    one.metrics.update(
        {
            "clip_ViT-B-16": {"one_step": SHARE},
            "fudd_ViT-B-16": {"one_step": SHARE, "two_step": {"base": 0.7, "novel": 0.7, "hm": 0.7}},
            "Qwen2-5-VL-3B": {"one_step": SHARE, "two_step": SHARE},
        }
    )
    table = filled(cells([one]))
    assert row(table, "base-to-novel", "CLIP", "ViT-B-16")["cub"] == "68.6"
    assert row(table, "base-to-novel", "FuDD", "ViT-B-16")["cub"] == "70.0"
    assert row(table, "base-to-novel", "other model*", "Qwen2-5-VL-3B")["cub"] == "68.6"
    assert row(table, "base-to-novel", "CLIP", "published")["base"] == "63.8", "beside the published one"


def test_runs_that_failed_are_left_out(monkeypatch):
    import dvc.api

    whole = {"dataset": "cub", "model": "a/7B", "train.method": "divek", "train.tuning": "full", "data.shots": 0}
    shares = {f"{m}.{arm}.{p}": 0.5 for m in ("base", "trained") for arm in ("one_step", "two_step") for p in SHARE}
    rows = [whole | shares, whole | {"data.shots": "None"}, {"State": "Failed"}]
    monkeypatch.setattr(dvc.api, "exp_show", lambda num: rows)
    assert [one.model for one in present()] == ["7B"]


def test_what_is_no_model_is_no_rival():
    tree = {"base": {"one_step": SHARE}, "gain": {"two_step": SHARE}, "train": {"steps": 1}, "clip_x": {"one_step": {}}}
    assert rivals(tree | {"clip": {"prompt": "a"}}) == {"clip_x": {"one_step": {}}}


def test_markdown_and_latex_hold_the_same_cells():
    head, rows = grid(filled(cells([run("cub", model="a_b")])), "base-to-novel")
    page, tex = markdown(head, rows), latex(head, rows)
    assert page[0].startswith("| method | source | flowers") and len(page) == len(rows) + 2
    assert r"DiVE-k* & a\_b & " in "\n".join(tex)
    assert tex[0] == r"\begin{tabular}{llrrrrrrrr}" and len(tex) == len(rows) + 6
