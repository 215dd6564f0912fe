"""The paper's tables from the runs that are there, with the published numbers beside them."""

import functools
import json
import re
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline.core.files import write_text
from pipeline.core.params import PARAMS_FILE, UserError, all_params

PUBLISHED = Path(__file__).parent.parent / "published.csv"  # arXiv 2511.18305; * is two-step inference
METRICS_FILE, LOCK_FILE = Path("reports/metrics.json"), Path("dvc.lock")
SETS = ("flowers", "cub", "pets", "cars", "aircraft")
SHOTS = 4
TITLES = {
    "base-to-novel": "Base to novel: trained on half of the classes; harmonic mean by data set, and the average",
    "hybrid": "Hybrid: one model for all five data sets",
    "few-shot": "Few-shot: four images of each class, accuracy",
}
COLUMNS = {
    "base-to-novel": (*SETS, "base", "novel", "hm", "mean_hm"),
    "hybrid": ("base", "novel", "hm", "mean_hm"),
    "few-shot": (*SETS, "base"),
}
HEADINGS = {"hm": "HM", "mean_hm": "mean of HMs"}
ARMS = {"one_step": "", "two_step": "*"}
CLASSIFIERS = {"clip": ("CLIP", "one_step"), "coop": ("CoOp", "one_step"), "fudd": ("FuDD", "two_step")}
ROWS = (
    *("Gemini 2.5 flash lite", "GPT-5-mini"),
    *(row for row, _ in CLASSIFIERS.values()),
    *("SFT, full", "SFT, LoRA", "base model", "base model*"),
    *("ViRFT", "ViRFT*", "ViRFT, LoRA", "ViRFT, LoRA*", "DiVE-k", "DiVE-k*", "DiVE-k, LoRA", "DiVE-k, LoRA*"),
    *("other model", "other model*"),
)

APART = ("dataset", "model", "seed", "train.method", "train.tuning", "data.shots")
"""Settings that tell the cells of the tables, and the seeds behind a cell, apart."""

IDLE = (
    # Where the pictures come from, and how many birds are drawn: what an official data set is does not depend on it.
    *("data.path", "data.labels", "data.aliases", "data.hub"),
    *("data.train_per_class", "data.val_per_class", "data.test_per_class", "fieldguide."),
    # How much is done at once, and where.
    *("engine.max_rows", "engine.max_tokens", "engine.threads", "server."),
    *("train.vllm_url", "train.launcher", "train.launch_config", "train.gradient_checkpointing"),
    # What is answered or said beside the ways to answer that the tables show.
    *("predict.orders", "predict.val_images", "judge.", "evaluate.", "clip.", "coop.", "fudd."),
)
"""Settings, or whole sections, that cannot change what the tables show of a model."""

RULE = (
    "A run counts if it differs from the present params.yaml in nothing but "
    f"{', '.join(APART)}, and what cannot change these numbers; of several with the same settings and seed the newest. "
    "In brackets: the seeds behind a number, of an average over data sets the fewest. HM of an average is that of both "
    "averages, as in the paper; beside it stands the mean of the data sets' HMs."
)
NAMED = 8  # settings that the line about the runs left out names
AGAIN = "the same run again, older"


@dataclass(frozen=True)
class Run:
    """The settings of a run by their dotted keys, and its metrics.json."""

    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]


Cell = tuple[str, str, str, str]
"""Table, row, model and column."""


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of params.yaml by their dotted keys."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def differing(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The settings, of those that can change a result, in which two runs differ; one that is missing differs too."""
    keys = [key for key in {**wanted, **settings} if key not in APART and not key.startswith(IDLE)]
    missing = object()
    return [key for key in keys if settings.get(key, missing) != wanted.get(key, missing)]


def table_of(settings: Mapping[str, Any]) -> str | None:
    """The table that a run belongs to; None where it is of none."""
    names, shots = _listed(settings["dataset"]), settings["data.shots"]
    if len(names) == 1 and names[0] in SETS:
        return {0: "base-to-novel", SHOTS: "few-shot"}.get(shots)
    return "hybrid" if shots == 0 and sorted(names) == sorted(SETS) else None


def counted(runs: Iterable[Run], wanted: Mapping[str, Any]) -> tuple[list[Run], list[list[str]]]:
    """The runs that the tables are made of, and of each other one why not: the settings in which it differs.

    Args:
        runs: newest first.
        wanted: the present settings.
    """
    kept: dict[str, Run] = {}
    out: list[list[str]] = []
    for run in runs:
        place = repr([run.settings.get(key) for key in APART])
        if other := differing(run.settings, wanted):
            out.append(other)
        elif table_of(run.settings) is None:
            shots = run.settings["data.shots"] not in (0, SHOTS)
            out.append(["data.shots" if shots else "dataset"])
        elif place in kept:
            out.append([AGAIN])
        else:
            kept[place] = run
    return list(kept.values()), out


def said_of(out: list[list[str]]) -> str:
    """One line about the runs that were left out."""
    if not out:
        return "no run left out"
    reasons = Counter(reason for reasons in out for reason in reasons).most_common()
    said = ", ".join(f"{reason} ({count})" for reason, count in reasons[:NAMED])
    more = f" and {len(reasons) - NAMED} more settings" if len(reasons) > NAMED else ""
    return f"{len(out)} run{'s' * (len(out) > 1)} left out, by the settings in which they differ: {said}{more}"


def rows_of(run: Run) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """The rows of the tables that a run fills: method, model, and what the columns are read from."""
    from pipeline.baselines.further_models import parse_models

    model, method = str(run.settings["model"]).rstrip("/"), run.settings["train.method"]
    lora = run.settings["train.tuning"] == "lora"
    titles = {"divek": "DiVE-k", "virft": "ViRFT"}
    for arm, mark in ARMS.items():
        yield f"base model{mark}", model, run.metrics["base"][arm]
        if method in titles:
            yield f"{titles[method]}{', LoRA' * lora}{mark}", model, run.metrics["trained"][arm]
    if method == "sft":
        yield f"SFT, {'LoRA' if lora else 'full'}", model, run.metrics["trained"]["one_step"]
    for rival in parse_models(tuple(_listed(run.settings.get("evaluate.models", [])))):
        found, source = run.metrics.get(rival.label, {}), rival.source.rstrip("/")
        own = [CLASSIFIERS[rival.kind]] if rival.kind else [(f"other model{mark}", arm) for arm, mark in ARMS.items()]
        for row, arm in own:
            if arm in found:
                yield row, source, found[arm]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def cells(runs: Iterable[Run]) -> dict[Cell, dict[int, float]]:
    """Percentages by table, row, model and column, one for every seed.

    Args:
        runs: those that count, newest first: the base model is in all of them, whatever was trained.
    """
    found: dict[Cell, dict[int, float]] = {}
    for run in runs:
        kind, prefix = str(table_of(run.settings)), ""
        if kind != "hybrid":
            prefix = f"{_listed(run.settings['dataset'])[0]} "
        for row, model, shares in rows_of(run):
            for part in ("base", "novel", "hm", "mean_hm"):
                if shares.get(part) is not None:
                    seeds = found.setdefault((kind, row, model, f"{prefix}{part}"), {})
                    seeds.setdefault(run.settings["seed"], 100 * shares[part])
    return found


def filled(found: Mapping[Cell, Mapping[int, float]]) -> pl.DataFrame:
    """table, method, source, column, percent, seeds: what was published, and the means over the seeds of our runs.

    The average over the data sets is there where all five are; its HM is that of both averages, as in the paper.
    """
    published = pl.read_csv(PUBLISHED).with_columns(source=pl.lit("published"), seeds=pl.lit(None, pl.Int64))
    rows: list[dict[str, Any]] = []
    for (method,), part in published.filter(table="base-to-novel").group_by("method", maintain_order=True):
        values = dict(part.select("column", "percent").iter_rows())
        if mean := _mean([(values[name], 0) if name in values else None for name in SETS]):
            place = {"table": "base-to-novel", "method": method, "source": "published"}
            rows.append(place | {"column": "mean_hm", "percent": mean[0]})
    names = shortened({key[2] for key in found})
    means = {key: (statistics.mean(values.values()), len(values)) for key, values in found.items()}
    for kind, row, model in dict.fromkeys(key[:3] for key in means):
        own = {column: mean for (*place, column), mean in means.items() if tuple(place) == (kind, row, model)}
        for column, (percent, seeds) in (own if kind == "hybrid" else averaged(own, kind)).items():
            place = {"table": kind, "method": row, "source": names[model], "column": column}
            rows.append(place | {"percent": percent, "seeds": seeds})
    columns = ["table", "method", "source", "column", "percent", "seeds"]
    schema = {name: {"percent": pl.Float64, "seeds": pl.Int64}.get(name, pl.String) for name in columns}
    return pl.concat([published.select(columns), pl.DataFrame(rows, schema=schema)])


Mean = tuple[float, int]
"""A percentage, and the seeds behind it."""


def averaged(own: Mapping[str, Mean], kind: str) -> dict[str, Mean]:
    """The columns of a row by data set and their averages, from "cub base", "cub novel" and so on."""
    shown = {name: own.get(f"{name} {'base' if kind == 'few-shot' else 'hm'}") for name in SETS}
    means = {part: _mean([own.get(f"{name} {part}") for name in SETS]) for part in ("base", "novel", "hm")}
    base, novel, mean_hm = means.values()
    both = None
    if base and novel:
        both = 2 * base[0] * novel[0] / max(base[0] + novel[0], 1e-9), min(base[1], novel[1])
    columns = shown | {"base": base, "novel": novel, "hm": both, "mean_hm": mean_hm}
    return {name: mean for name, mean in columns.items() if mean}


def _mean(values: list[Mean | None]) -> Mean | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return statistics.mean(percent for percent, _ in known), min(seeds for _, seeds in known)


def shortened(models: Iterable[str]) -> dict[str, str]:
    """The last part of every model's path or hub id; all of it where two models share that part."""
    short = {model: model.rpartition("/")[2] for model in sorted(models)}
    shared = Counter(short.values())
    return {model: name if shared[name] == 1 else model for model, name in short.items()}


def grid(table: pl.DataFrame, kind: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one table; what was never run is empty."""
    part = table.filter(table=kind)
    cells = part.select("method", "source", "column", "percent", "seeds").iter_rows()
    values = {tuple(place): f"{percent:.1f}" + (f" ({seeds})" if seeds else "") for *place, percent, seeds in cells}
    rows = [
        [method, source, *(values.get((method, source, column), "") for column in COLUMNS[kind])]
        for method in ROWS
        for source in dict.fromkeys(part.filter(method=method)["source"])
    ]
    return ["method", "source", *(HEADINGS.get(c, c) for c in COLUMNS[kind])], rows


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    marks = ["---", "---", *["---:"] * (len(head) - 2)]
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)]


def latex(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [" & ".join(cell.replace("_", r"\_").replace("%", r"\%") for cell in row) + r" \\" for row in (head, *rows)]
    begin = [rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}", r"\toprule", lines[0], r"\midrule"]
    return [*begin, *lines[1:], r"\bottomrule", r"\end{tabular}"]


def present() -> list[Run]:
    """Every run whose metrics are there, each once, newest first: the workspace, HEAD's history, all experiments.

    Read from git and not by `dvc.api.exp_show`, which takes a second for every commit.
    """
    found: dict[str, Run] = {}
    for run in (_workspace(), *(_committed(revision) for revision in revisions())):
        if run:
            found.setdefault(repr((run.settings, run.metrics)), run)
    return list(found.values())


def revisions() -> list[str]:
    """The commits at which something had been run, and the experiments, newest first; none outside of a repository."""
    ran = _git("rev-list", "--first-parent", "HEAD", "--", str(METRICS_FILE), str(LOCK_FILE)).split()
    references = _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps")
    # The others there are of the queue and of runs under way.
    experiments = re.findall(r"^(\w+) refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/", references, re.M)
    if not ran + experiments:
        return []
    return _git("rev-list", "--no-walk=sorted", "--stdin", given="\n".join(ran + experiments)).split()


def _workspace() -> Run | None:
    # The lock knows what the results were made with, where params.yaml has been changed since.
    lock = _yaml(LOCK_FILE.read_text()) if LOCK_FILE.is_file() else {}
    used: dict[str, Any] = {}
    for stage in (lock or {}).get("stages", {}).values():
        used |= stage.get("params", {}).get(str(PARAMS_FILE), {})
    return _run(all_params(), METRICS_FILE.read_text(), used) if METRICS_FILE.is_file() else None


def _committed(revision: str) -> Run | None:
    settings, metrics = (_git("show", f"{revision}:./{file}") for file in (PARAMS_FILE, METRICS_FILE))
    return _run(_yaml(settings), metrics, {}) if settings and metrics else None


def _run(settings: Any, metrics: str, used: dict[str, Any]) -> Run | None:
    """None where it is not whole, or of a time before the settings that tell runs apart."""
    try:
        run = Run(flat(settings) | used, json.loads(metrics))
        return run if set(APART) <= set(run.settings) and list(rows_of(run)) else None
    except (AttributeError, KeyError, TypeError, ValueError, UserError):
        return None


@functools.cache
def _yaml(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return None


def _git(*arguments: str, given: str = "") -> str:
    return subprocess.run(["git", *arguments], input=given, capture_output=True, text=True).stdout


def paper_tables(
    out: Annotated[Path, typer.Option(help="Markdown to write; LaTeX goes beside it.")] = Path("reports/paper.md"),
) -> None:
    """Write the paper's Tables 1 to 3 from the runs that are there, with the published numbers beside them.

    A run counts if it differs from the present params.yaml in nothing but data set, model, seed, method, tuning and
    shots. Ours are means over the seeds that were run. Nothing is filled in by hand: what was not run is empty.
    """
    runs = present()
    if not runs:
        raise UserError("no run with metrics is there; `dvc repro` makes one, `dvc exp show` lists them")
    kept, out_of_it = counted(runs, flat(all_params()))
    table, left = filled(cells(kept)), said_of(out_of_it)
    pages: dict[str, list[str]] = {
        ".md": ["# The paper's tables", "", f"{RULE} * is answered in two steps.", ""],
        ".tex": [f"% {RULE}", ""],
    }
    for kind, title in TITLES.items():
        head, rows = grid(table, kind)
        pages[".md"] += [f"## {title}", "", *markdown(head, rows), ""]
        pages[".tex"] += [f"% {title}", *latex(head, rows), ""]
    pages[".md"] += [f"{left}.", ""]
    pages[".tex"] += [f"% {left}", ""]
    for suffix, lines in pages.items():
        write_text(out.with_suffix(suffix), "\n".join(lines))
    print(f"{len(kept)} of {len(runs)} runs; {out} and {out.with_suffix('.tex').name} written")
    print(left)
