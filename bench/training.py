"""The time of a training step against a bare GRPOTrainer script, and what five kills leave of a run.

    python bench/training.py            writes bench/results/training.md; about ten minutes on two cores

Needs the tables of a `dvc repro`. Ours and the bare script take turns with the same questions and settings; a figure is
the median over the turns, with least and most. The killed run and the undisturbed one are the stage as DVC calls it.
"""

import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML

from pipeline.core.params import load_params

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.commands.run_estimate import Work
from pipeline.core import tables
from pipeline.method.class_lists import ClassLists
from pipeline.training.params import TrainParams

STEPS, TURNS = 15, 3
KILLED_STEPS, CHECK_EVERY, KILLS = 60, 5, 5
DATA = ROOT / "data"
INPUTS = ("classes", "images", "questions", "hard")
RESULTS = Path(__file__).parent / "results" / "training.md"


def loaded(wanted: TrainParams) -> tuple[Any, Any]:
    """Model and processor, as both sides open them."""
    import torch

    from pipeline.engines.common.loading import load_model, load_processor

    torch.set_num_threads(wanted.threads)
    model = load_model(wanted.model, wanted.weights, wanted.attention)
    model.config._name_or_path = wanted.model
    return model, load_processor(wanted.model)


def ours(rows: pl.DataFrame, lists: ClassLists, wanted: TrainParams, folder: Path) -> dict[int, dict[str, Any]]:
    from pipeline.training.run import run

    model, processor = loaded(wanted)
    return logged(run(rows, lists, wanted, model, processor, Work(folder), None, wanted.steps, 0).history)


def bare(rows: pl.DataFrame, lists: ClassLists, wanted: TrainParams, folder: Path) -> dict[int, dict[str, Any]]:
    """What a script of TRL's documentation does: its trainer, its order, its generation."""
    from trl import GRPOTrainer

    from pipeline.method.rewards import rewards
    from pipeline.training.config import grpo_config
    from pipeline.training.examples import examples

    model, processor = loaded(wanted)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=list(rewards(wanted.method, wanted.virft_reward, lists)),
        args=grpo_config(wanted, folder, wanted.steps),
        train_dataset=examples(rows, lists, wanted),
        processing_class=processor,
    )
    trainer.train()
    return logged(trainer.state.log_history)


def logged(history: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What was logged, by step; under 0 what was logged of the whole run."""
    return {0 if "train_runtime" in entry else entry["step"]: entry for entry in history}


def compared() -> list[tuple[str, str]]:
    wanted = replace(load_params(TrainParams, ROOT / "params.yaml"), steps=STEPS, check_images=0)
    wanted = replace(wanted, model=str(ROOT / wanted.model))
    hard = tables.read(tables.HARD, DATA / "hard.parquet")
    pictures = tables.read(tables.IMAGES, DATA / "images.parquet").select("image_id", "image")
    rows = hard.join(pictures, on="image_id", maintain_order="left")
    lists = ClassLists(tables.read(tables.CLASSES, DATA / "classes.parquet"))
    steps, runs, tokens = [], [], []
    for rotation in range(TURNS):
        with tempfile.TemporaryDirectory() as scratch:
            sides = {}
            for side in (ours, bare)[:: 1 if rotation % 2 else -1]:
                sides[side.__name__] = side(rows, lists, wanted, Path(scratch) / side.__name__)
        times = {name: statistics.median(found[step]["step_time"] for step in range(2, STEPS + 1))
                 for name, found in sides.items()}  # fmt: skip
        steps.append(times)
        runs.append({name: found[0]["train_runtime"] / STEPS for name, found in sides.items()})
        tokens.append({name: found[STEPS]["completions/mean_length"] for name, found in sides.items()})
        print(f"turn {rotation + 1}: {times}, whole run {runs[-1]}, completion length {tokens[-1]}", flush=True)
    settings = f"{wanted.prompts_per_step} prompts × {wanted.generations} completions"
    return [
        (f"a step of {settings}, ours: seconds", f"{statistics.median(one['ours'] for one in steps):.2f}"),
        ("a step, ours over the bare script", spread([one["ours"] / one["bare"] for one in steps])),
        (f"a run of {STEPS} steps without checks, ours over the bare script",
         spread([one["ours"] / one["bare"] for one in runs])),
    ]  # fmt: skip


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"


def prepared(folder: Path) -> None:
    """A project whose train stage has fewer steps and more checkpoints."""
    (folder / "data").mkdir(parents=True)
    for table in INPUTS:
        (folder / "data" / f"{table}.parquet").symlink_to(DATA / f"{table}.parquet")
    (folder / "models").mkdir()
    (folder / "models" / "fieldguide").symlink_to(ROOT / "models" / "fieldguide")
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    values["train"] |= {"steps": KILLED_STEPS, "check_every": CHECK_EVERY}
    YAML().dump(values, folder / "params.yaml")


def started(folder: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"} | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.stages.train"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(folder: Path) -> float:
    """Seconds of a run to its end."""
    start = time.perf_counter()
    process = started(folder)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(said)
    return time.perf_counter() - start


def killed() -> list[tuple[str, str]]:
    rng, met = random.Random(0), []
    with tempfile.TemporaryDirectory() as scratch:
        whole, broken = Path(scratch) / "whole", Path(scratch) / "killed"
        for folder in (whole, broken):
            prepared(folder)
        seconds = finished(whole)
        for _ in range(KILLS):
            process = started(broken)
            # Long enough to start and to reach a checkpoint, and short enough that five do not come to the end.
            time.sleep(seconds * rng.uniform(0.17, 0.27))
            met.append(process.poll() is None)
            process.kill()
            process.communicate()
            places = sorted(path.parent.name for path in broken.glob(".work/train/*/round-1/checkpoint-*/whole.json"))
            print(f"killed with {', '.join(places) or 'no checkpoint'}", flush=True)
        finished(broken)
        scores = {folder: pl.read_csv(folder / "data" / "training.csv")["validation_two_step"].drop_nulls()[-1]
                  for folder in (whole, broken)}  # fmt: skip
        same = all(
            (whole / file).read_bytes() == (broken / file).read_bytes()
            for file in ("models/policy/model.safetensors", "data/training.csv", "data/rollouts.parquet")
        )
    return [
        (f"{KILLED_STEPS} steps killed {KILLS} times at random ({sum(met)} met the process at work), then run to the "
         "end: last validation accuracy, undisturbed and killed",
         f"{scores[whole]:.1%}, {scores[broken]:.1%}"),
        ("weights, curves and completions of the two", "the same bytes" if same else "not the same bytes"),
    ]  # fmt: skip


def main() -> None:
    import torch
    import transformers
    import trl

    lines = [*compared(), *killed()]
    versions = (
        f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}, trl {trl.__version__}"
    )
    text = [f"`python bench/training.py` on {os.cpu_count()} CPU cores, {platform.machine()}, {versions}:", ""]
    text += ["| what | measured |", "|---|---|", *(f"| {what} | {found} |" for what, found in lines), ""]
    RESULTS.write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
