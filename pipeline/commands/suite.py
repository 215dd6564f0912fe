"""Train and score every method with several seeds, and write the table that compares them."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.files import write_text
from pipeline.core.params import UserError
from pipeline.evaluation.intervals import mean_over_seeds

POLL = 20.0  # seconds
DVC = (sys.executable, "-m", "dvc")
ATTEMPTS = 5  # at asking DVC how the runs are
PARTS = ("base", "novel", "hm")
ARMS = {"one_step": "one-step", "two_step": "two-step"}


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
    Method("DiVE-k, options drawn anew half-way", "rounds", ("train.rounds=2",)),
    Method("ViRFT", "virft", ("train.method=virft",)),
    Method("ViRFT, reward by string", "virft-string", ("train.method=virft", "train.virft_reward=string")),
    Method("SFT", "sft", ("train.method=sft", "train.check_images=0")),
    Method("SFT, best by two-step", "sft-checked", ("train.method=sft",)),
)


def experiment(dataset: str, method: Method, seed: int) -> str:
    return f"suite-{dataset}-{method.name}-{seed}"


def table(found: dict[tuple[str, int], dict[str, Any]], methods: Iterable[Method], seeds: int) -> list[str]:
    """Markdown: mean over the seeds with its 95 % interval, in percent; a dash where nothing was run.

    `found` holds metrics.json by method and seed.
    """
    lines = ["| method | answer | base | novel | HM | seeds |", "|---|---|---|---|---|---|"]
    rows = [("no training", "base", next(iter(methods)).name)] + [(m.title, "trained", m.name) for m in methods]
    for title, model, name in rows:
        runs = [found[name, seed][model] for seed in range(seeds) if (name, seed) in found]
        for arm, label in ARMS.items():
            cells = [_cell([run[arm][part] for run in runs]) for part in PARTS]
            lines.append(f"| {title} | {label} | {' | '.join(cells)} | {len(runs)} |")
    return lines


def _cell(shares: list[float]) -> str:
    if not shares:
        return "–"
    mean, low, high = mean_over_seeds([100 * share for share in shares])
    return f"{mean:.1f}" if len(shares) == 1 else f"{mean:.1f} ({max(low, 0.0):.1f}–{min(high, 100.0):.1f})"


def _dvc(*arguments: str) -> str:
    # Files and not pipes: the worker that `queue start` leaves behind would hold a pipe open until the last run ends.
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as complained:
        failed = subprocess.run([*DVC, *arguments], stdout=told, stderr=complained).returncode
        for file in (told, complained):
            file.seek(0)
        if failed:
            said = (complained.read().strip().splitlines() or ["no message"])[-1]
            raise UserError(f"`dvc {' '.join(arguments)}` failed ({said}); mend that and run the same command again")
        return told.read()


def _give_up_dead(names: Iterable[str]) -> None:
    """Marks runs as failed that DVC takes for running though no worker is left, as after a power cut."""
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
            # DVC looks into the folder of a run that may be removed that very moment.
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
    methods: Annotated[str, typer.Option(help="Names of methods, separated by commas; all where it is empty.")] = "",
    out: Annotated[Path, typer.Option(help="Table to write.")] = Path("reports/suite.md"),
) -> None:
    """Train and score every method with several seeds in DVC's queue, and write the table that compares them.

    What has been run already is not run again: the same command goes on after a stop. The queue goes on when this
    command is stopped; `dvc queue stop` ends it after the run under way.
    """
    chosen = [method for method in METHODS if not methods or method.name in methods.split(",")]
    if not chosen:
        raise UserError(f"no method {methods!r}, wanted some of {', '.join(method.name for method in METHODS)}")
    wanted = {experiment(dataset, method, seed): (method, seed) for seed in range(seeds) for method in chosen}
    states = _states()
    if running := [name for name in wanted if states.get(name, ("", {}))[0] == "Running"]:
        _give_up_dead(running)
        states = _states()
    for name, (method, seed) in wanted.items():
        state = states.get(name, ("", {}))[0]
        if state == "Failed":
            _dvc("queue", "remove", name)
        if state in ("", "Failed"):
            settings = [f"dataset={dataset}", f"seed={seed}", *method.settings]
            _dvc("exp", "run", "--queue", "--name", name, *(part for value in settings for part in ("-S", value)))
            print(f"queued {name}")
    _dvc("queue", "start")
    done: set[str] = set()
    while True:
        states = _states()
        finished = {name for name in wanted if states.get(name, ("", {}))[0] in ("Success", "Failed")}
        for name in sorted(finished - done):
            print(f"{name}: {states[name][0].lower()} ({len(finished)} of {len(wanted)})", flush=True)
        done = finished
        found = {
            (wanted[name][0].name, wanted[name][1]): nested(states[name][1])
            for name in finished
            if states[name][0] == "Success"
        }
        lines = table(found, chosen, seeds)
        write_text(out, "\n".join([f"# {dataset}: methods compared", "", *_notes(found, seeds), "", *lines, ""]))
        if len(finished) == len(wanted):
            break
        time.sleep(POLL)
    print("\n".join(lines))
    if failed := [name for name in wanted if states[name][0] == "Failed"]:
        raise UserError(f"{len(failed)} runs failed, the first {failed[0]}; `dvc queue logs {failed[0]}` says why")


def _notes(found: dict[tuple[str, int], dict[str, Any]], seeds: int) -> list[str]:
    images = next(iter(found.values()), {}).get("base", {}).get("two_step", {})
    counts = f", {images['n_base']:.0f} base and {images['n_novel']:.0f} novel test images" if images else ""
    return [
        f"Mean of {seeds} seed{'s' * (seeds > 1)} with its 95 % interval by Student's t, in percent{counts}. "
        "Made by `python -m pipeline suite`, from the experiments of one commit."
    ]
