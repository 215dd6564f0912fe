"""Train and score every method with several seeds, and write the table that compares them."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.revisions import read_at
from pipeline.core.files import write_text
from pipeline.core.params import UserError
from pipeline.core.words import counted
from pipeline.evaluation.intervals import mean_over_seeds
from pipeline.evaluation.metrics import HEADLINE
from pipeline.evaluation.ways import way

POLL = 20.0  # seconds
DVC = (sys.executable, "-m", "dvc")
ATTEMPTS = 5  # to read the state of the experiments
ANSWERS = ("one_step", "two_step")
DETAILS_FILE = "reports/details.json"

Runs = dict[tuple[str, int], dict[str, Any]]
"""reports/metrics.json by name of the method and seed."""


@dataclass(frozen=True)
class Method:
    """A row of the table: its title, the name of its experiments, and the settings that make it."""

    title: str
    name: str
    settings: tuple[str, ...]


METHODS = (
    Method("DiVE-k", "divek", ()),
    Method("DiVE-k, options by text embedding", "embedding", ("options.strategy=text_embedding",)),
    Method("DiVE-k, random options", "random", ("options.strategy=random",)),
    Method(
        "DiVE-k, text embedding, unfiltered",
        "embedding-all",
        ("options.strategy=text_embedding", "filter.drop=nothing"),
    ),
    Method("DiVE-k, random, unfiltered", "random-all", ("options.strategy=random", "filter.drop=nothing")),
    Method("DiVE-k, options drawn anew half-way", "rounds", ("train.rounds=2",)),
    Method("ViRFT", "virft", ("train.method=virft",)),
    Method("ViRFT, reward by string", "virft-string", ("train.method=virft", "train.virft_reward=string")),
    Method("SFT", "sft", ("train.method=sft", "train.check_images=0")),
    Method("SFT, best by two-step", "sft-checked", ("train.method=sft",)),
)


def experiment(dataset: str, method: Method, seed: int) -> str:
    return f"suite-{dataset}-{method.name}-{seed}"


def table(runs: Runs, methods: Iterable[Method], seeds: int) -> list[str]:
    """Markdown: the mean over the seeds with its 95 % interval, in percent; a dash where there is no run.

    The interval is of the variation between training runs alone. Equal values have none.
    """
    lines = ["| method | answer | base | novel | HM | seeds |", "|---|---|---|---|---|---|"]
    rows = [("no training", "base", next(iter(methods)).name)] + [(m.title, "trained", m.name) for m in methods]
    for title, model, name in rows:
        metrics = [runs[name, seed][model] for seed in range(seeds) if (name, seed) in runs]
        for answer in ANSWERS:
            cells = " | ".join(_cell([one[answer][average] for one in metrics]) for average in HEADLINE)
            lines.append(f"| {title} | {way(answer).label} | {cells} | {len(metrics)} |")
    return lines


def _cell(shares: list[float]) -> str:
    if not shares:
        return "–"
    mean, low, high = mean_over_seeds([100 * share for share in shares])
    return f"{mean:.1f}" if isnan(low) else f"{mean:.1f} ({max(low, 0.0):.1f}–{min(high, 100.0):.1f})"


def _dvc(*arguments: str) -> str:
    # Files and not pipes: the worker that `queue start` leaves behind would hold a pipe open until the last run ends.
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
    ):
        code = subprocess.run([*DVC, *arguments], stdout=output, stderr=errors).returncode
        for file in (output, errors):
            file.seek(0)
        if code:
            message = (errors.read().strip().splitlines() or ["no message"])[-1]
            raise UserError(f"`dvc {' '.join(arguments)}` failed: {message}; fix this and run the same command again")
        return output.read()


def _fail_orphans(names: Iterable[str]) -> None:
    """Marks runs as failed that DVC lists as running though no worker is left, as after a power cut."""
    if "Worker status: 0 active" in _dvc("queue", "status"):
        for name in names:
            _dvc("queue", "kill", "--force", name)


def _states() -> dict[str, tuple[str, dict[str, Any]]]:
    """State and metrics of every experiment by its name."""
    import dvc.api
    from dvc.exceptions import DvcException

    for attempt in range(ATTEMPTS):
        try:
            rows = dvc.api.exp_show()
            break
        except DvcException:
            # DVC reads the folder of a run, which may be removed at that moment.
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(2)
    return {str(row["Experiment"]): (str(row.get("State") or "Success"), row) for row in rows}


def nested(row: dict[str, Any]) -> dict[str, Any]:
    """metrics.json from the flat columns of `dvc.api.exp_show`."""
    tree: dict[str, Any] = {}
    for column, value in row.items():
        keys = column.rpartition(":")[2].split(".")
        place = tree
        for key in keys[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[keys[-1]] = value
    return tree


def suite(
    dataset: Annotated[str, typer.Argument(help="Data set to run on.")] = "fieldguide",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, from 0.")] = 3,
    methods: Annotated[str, typer.Option(help="Names of methods, separated by commas; all if empty.")] = "",
    out: Annotated[Path, typer.Option(help="Table to write.")] = Path("reports/suite.md"),
) -> None:
    """Train and score every method with several seeds in DVC's queue, and write the table that compares them.

    Runs that are finished are not repeated: after a stop, the same command continues. The queue continues when this
    command is stopped; `dvc queue stop` ends it after the current run.
    """
    selection = [method for method in METHODS if not methods or method.name in methods.split(",")]
    if not selection:
        names = ", ".join(method.name for method in METHODS)
        raise UserError(f"--methods {methods}: there is no such method; choose from {names}")
    experiments = {experiment(dataset, method, seed): (method, seed) for seed in range(seeds) for method in selection}
    _queue(dataset, experiments)
    before: set[str] = set()
    while True:
        states = _states()
        now = {name for name in experiments if states.get(name, ("", {}))[0] in ("Success", "Failed")}
        for name in sorted(now - before):
            print(f"{name}: {states[name][0].lower()} ({len(now)} of {len(experiments)})", flush=True)
        before = now
        successes = [name for name in experiments if name in now and states[name][0] == "Success"]
        runs = {(experiments[name][0].name, experiments[name][1]): nested(states[name][1]) for name in successes}
        lines = table(runs, selection, seeds)
        about = _about(seeds, successes[0] if successes else None)
        write_text(out, "\n".join([f"# {dataset}: methods compared", "", about, "", *lines, ""]))
        if len(now) == len(experiments):
            break
        time.sleep(POLL)
    print("\n".join(lines))
    if failures := [name for name in experiments if states[name][0] == "Failed"]:
        first = failures[0]
        raise UserError(f"{counted(len(failures), 'run')} failed, the first {first}; read `dvc queue logs {first}`")


def _queue(dataset: str, experiments: dict[str, tuple[Method, int]]) -> None:
    """Queues the runs that are neither finished nor queued, and starts the queue."""
    states = _states()
    if running := [name for name in experiments if states.get(name, ("", {}))[0] == "Running"]:
        _fail_orphans(running)
        states = _states()
    for name, (method, seed) in experiments.items():
        state = states.get(name, ("", {}))[0]
        if state == "Failed":
            _dvc("queue", "remove", name)
        if state in ("", "Failed"):
            settings = [f"dataset={dataset}", f"seed={seed}", *method.settings]
            _dvc("exp", "run", "--queue", "--name", name, *(word for value in settings for word in ("-S", value)))
            print(f"queued {name}")
    _dvc("queue", "start")


def _about(seeds: int, run: str | None) -> str:
    """The sentence above the table, with the numbers of images of a finished run."""
    counts = ""
    if run:
        images = json.loads(read_at(run, DETAILS_FILE))["base"]["two_step"]
        counts = f", {images['n_base']} base and {images['n_novel']} novel test images"
    return (
        f"Mean of {seeds} seed{'s' * (seeds > 1)} in percent{counts}, with its 95 % interval over seeds alone, by "
        "Student's t: it covers the variation between training runs, not the choice of classes and images. Values that "
        "are the same for every seed have no interval. Made by `python -m pipeline suite`, from the experiments of one "
        'commit. ViRFT is rewarded by the pipeline\'s matcher; its row "reward by string" by the published comparison '
        "of Visual-RFT (train.virft_reward: string)."
    )
