"""The runs that the paper's tables are made of: read from the workspace and git, and selected by their settings."""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.revisions import git
from pipeline.core.params import PARAMS_FILE, UserError, all_params
from pipeline.core.yaml_text import load_yaml

DETAILS_FILE, LOCK_FILE = Path("reports/details.json"), Path("dvc.lock")
SETS = ("flowers", "cub", "pets", "cars", "aircraft")
SHOTS = 4
ANSWERS = {"one_step": "", "two_step": "*"}
"""The ways to answer that the paper has, and how it marks them."""

CLASSIFIERS = {"clip": ("CLIP", "one_step"), "coop": ("CoOp", "one_step"), "fudd": ("FuDD", "two_step")}

CELL_SETTINGS = ("dataset", "model", "seed", "train.method", "train.tuning", "data.shots")
"""Settings in which the runs of the tables may differ: they determine the cell and the seed."""

NEUTRAL_SETTINGS = (
    # Where the pictures come from, and how many birds are drawn: an official data set does not depend on it.
    *("data.path", "data.labels", "data.aliases", "data.hub"),
    *("data.train_per_class", "data.val_per_class", "data.test_per_class", "fieldguide."),
    # How much is done at once, and where.
    *("engine.max_rows", "engine.max_tokens", "engine.threads", "server."),
    *("train.vllm_url", "train.launcher", "train.launch_config", "train.gradient_checkpointing"),
    # What is computed beside the ways to answer that the tables show.
    *("predict.orders", "predict.val_images", "judge.", "evaluate.", "clip.", "coop.", "fudd."),
)
"""Settings, or whole sections, that cannot change the numbers in the tables."""

LISTED = 8  # settings that the line about excluded runs lists
DUPLICATE = "an older run with the same settings"


@dataclass(frozen=True)
class Run:
    """The settings of a run by their dotted keys, and its details.json."""

    settings: Mapping[str, Any]
    details: Mapping[str, Any]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of params.yaml by their dotted keys."""
    values: dict[str, Any] = {}
    for name, value in tree.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return values


def differences(settings: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """The settings in which two runs differ, of those that can change a result; a missing one differs."""
    keys = [key for key in {**others, **settings} if key not in CELL_SETTINGS and not key.startswith(NEUTRAL_SETTINGS)]
    missing = object()
    return [key for key in keys if settings.get(key, missing) != others.get(key, missing)]


def table_of(settings: Mapping[str, Any]) -> str | None:
    """The table that a run belongs to; None where it belongs to none."""
    names, shots = as_list(settings["dataset"]), settings["data.shots"]
    if len(names) == 1 and names[0] in SETS:
        return {0: "base-to-novel", SHOTS: "few-shot"}.get(shots)
    return "hybrid" if shots == 0 and sorted(names) == sorted(SETS) else None


def select(runs: Iterable[Run], settings: Mapping[str, Any]) -> tuple[list[Run], list[list[str]]]:
    """The runs that the tables are made of, and for each other run the reasons: the settings in which it differs.

    Args:
        runs: newest first.
        settings: the present ones.
    """
    selection: dict[str, Run] = {}
    exclusions: list[list[str]] = []
    for run in runs:
        place = repr([run.settings.get(key) for key in CELL_SETTINGS])
        if others := differences(run.settings, settings):
            exclusions.append(others)
        elif table_of(run.settings) is None:
            shots = run.settings["data.shots"] not in (0, SHOTS)
            exclusions.append(["data.shots" if shots else "dataset"])
        elif place in selection:
            exclusions.append([DUPLICATE])
        else:
            selection[place] = run
    return list(selection.values()), exclusions


def exclusion_line(exclusions: list[list[str]]) -> str:
    """One line about the runs that are not in the tables."""
    if not exclusions:
        return "no run excluded"
    reasons = Counter(reason for reasons in exclusions for reason in reasons).most_common()
    text = ", ".join(f"{reason} ({count})" for reason, count in reasons[:LISTED])
    more = f" and {len(reasons) - LISTED} more settings" if len(reasons) > LISTED else ""
    count = len(exclusions)
    return f"{count} run{'s' * (count > 1)} excluded, by the settings in which they differ: {text}{more}"


def rows_of(run: Run) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """The rows of the tables that a run fills: method, model, and the accuracies for the columns."""
    from pipeline.baselines.further_models import parse_models

    model, method = str(run.settings["model"]).rstrip("/"), run.settings["train.method"]
    lora = run.settings["train.tuning"] == "lora"
    titles = {"divek": "DiVE-k", "virft": "ViRFT"}
    for answer, mark in ANSWERS.items():
        yield f"base model{mark}", model, run.details["base"][answer]
        if method in titles:
            yield f"{titles[method]}{', LoRA' * lora}{mark}", model, run.details["trained"][answer]
    if method == "sft":
        yield f"SFT, {'LoRA' if lora else 'full'}", model, run.details["trained"]["one_step"]
    for further in parse_models(tuple(as_list(run.settings.get("evaluate.models", [])))):
        accuracies, source = run.details.get(further.label, {}), further.source.rstrip("/")
        rows = (
            [CLASSIFIERS[further.kind]] if further.kind else [(f"other model{m}", name) for name, m in ANSWERS.items()]
        )
        for row, answer in rows:
            if answer in accuracies:
                yield row, source, accuracies[answer]


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def recorded_runs() -> list[Run]:
    """Every run with results, each once, newest first: the workspace, the history of HEAD, all experiments.

    Read from git and not by `dvc.api.exp_show`, which takes a second for every commit.
    """
    runs: dict[str, Run] = {}
    for run in (_workspace(), *(_committed(revision) for revision in _revisions())):
        if run:
            runs.setdefault(repr((run.settings, run.details)), run)
    return list(runs.values())


def _revisions() -> list[str]:
    """The commits that changed results, and the experiments, newest first; none outside of a repository."""
    commits = git("rev-list", "--first-parent", "HEAD", "--", str(DETAILS_FILE), str(LOCK_FILE)).split()
    references = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps")
    # Other references below refs/exps belong to the queue and to running experiments.
    experiments = re.findall(r"^(\w+) refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/", references, re.M)
    if not commits + experiments:
        return []
    return git("rev-list", "--no-walk=sorted", "--stdin", stdin="\n".join(commits + experiments)).split()


def _workspace() -> Run | None:
    # Where params.yaml was changed since, dvc.lock has the settings that the results were made with.
    lock = _yaml(LOCK_FILE.read_text(encoding="utf-8")) if LOCK_FILE.is_file() else {}
    used: dict[str, Any] = {}
    for stage in (lock or {}).get("stages", {}).values():
        used |= flat(stage.get("params", {}).get(str(PARAMS_FILE), {}))
    return _run(all_params(), DETAILS_FILE.read_text(encoding="utf-8"), used) if DETAILS_FILE.is_file() else None


def _committed(revision: str) -> Run | None:
    settings, details = (git("show", f"{revision}:./{file}") for file in (PARAMS_FILE, DETAILS_FILE))
    return _run(_yaml(settings), details, {}) if settings and details else None


def _run(settings: Any, details: str, used: dict[str, Any]) -> Run | None:
    """None where the run is incomplete, or older than the settings that determine a cell."""
    try:
        run = Run(flat(settings) | used, json.loads(details))
        return run if set(CELL_SETTINGS) <= set(run.settings) and list(rows_of(run)) else None
    except (AttributeError, KeyError, TypeError, ValueError, UserError):
        return None


@functools.cache
def _yaml(text: str) -> Any:
    try:
        return load_yaml(text, "", "")
    except UserError:
        return None
