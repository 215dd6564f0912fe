"""The time of a training step against a bare GRPOTrainer script, and the result of a run that is killed five times.

    python bench/training.py            writes bench/results/training.md; about ten minutes on two cores

Needs the tables of a `dvc repro`. Ours and the bare script alternate with the same questions and settings; each figure
is the median over the turns, with minimum and maximum. Killed and undisturbed runs are the stage as DVC calls it.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.core import tables
from pipeline.core.params import load_params
from pipeline.method.class_lists import ClassLists
from pipeline.training.checkpoints import COMPLETE, RunFolder
from pipeline.training.params import TrainParams

ROOT = Path(__file__).resolve().parent.parent
STEPS, TURNS = 15, 3
KILLED_STEPS, CHECK_EVERY, KILLS = 60, 5, 5
DATA = ROOT / "data"
INPUTS = ("classes", "images", "questions", "hard")
RESULTS = Path(__file__).parent / "results" / "training.md"


def load(params: TrainParams) -> tuple[Any, Any]:
    """Model and processor, loaded alike for both sides."""
    import torch

    from pipeline.engines.common.loading import load_model, load_processor
    from pipeline.training.trl_adapter import set_reference

    torch.set_num_threads(params.threads)
    model = load_model(params.model, params.weights, params.attention)
    set_reference(model, params.model)
    return model, load_processor(params.model)


def ours(rows: pl.DataFrame, lists: ClassLists, params: TrainParams, folder: Path) -> dict[int, dict[str, Any]]:
    from pipeline.training.run import run

    model, processor = load(params)
    return by_step(run(rows, lists, params, model, processor, RunFolder(folder), None, params.steps, 0).history)


def bare(rows: pl.DataFrame, lists: ClassLists, params: TrainParams, folder: Path) -> dict[int, dict[str, Any]]:
    """The script of TRL's documentation: its trainer, its order, its generation."""
    from trl import GRPOTrainer

    from pipeline.method.rewards import rewards
    from pipeline.training.config import grpo_config
    from pipeline.training.examples import examples

    model, processor = load(params)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=list(rewards(params.method, params.virft_reward, lists)),
        args=grpo_config(params, folder, params.steps),
        train_dataset=examples(rows, lists, params),
        processing_class=processor,
    )
    trainer.train()
    return by_step(trainer.state.log_history)


def by_step(history: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The entries of the log by step; 0 is the entry of the whole run."""
    return {0 if "train_runtime" in entry else entry["step"]: entry for entry in history}


def compare() -> list[tuple[str, str]]:
    params = replace(load_params(TrainParams, ROOT / "params.yaml"), steps=STEPS, check_images=0)
    params = replace(params, model=str(ROOT / params.model))
    hard = tables.read(tables.HARD, DATA / "hard.parquet")
    pictures = tables.read(tables.IMAGES, DATA / "images.parquet").select("image_id", "image")
    rows = hard.join(pictures, on="image_id", maintain_order="left")
    lists = ClassLists(tables.read(tables.CLASSES, DATA / "classes.parquet"))
    steps, runs, tokens = [], [], []
    for turn in range(TURNS):
        with tempfile.TemporaryDirectory() as scratch:
            sides = {}
            for side in (ours, bare)[:: 1 if turn % 2 else -1]:
                sides[side.__name__] = side(rows, lists, params, Path(scratch) / side.__name__)
        times = {name: statistics.median(log[step]["step_time"] for step in range(2, STEPS + 1))
                 for name, log in sides.items()}  # fmt: skip
        steps.append(times)
        runs.append({name: log[0]["train_runtime"] / STEPS for name, log in sides.items()})
        tokens.append({name: log[STEPS]["completions/mean_length"] for name, log in sides.items()})
        print(f"turn {turn + 1}: {times}, whole run {runs[-1]}, completion length {tokens[-1]}", flush=True)
    settings = f"{params.prompts_per_step} prompts × {params.generations} completions"
    return [
        (f"a step of {settings}, ours: seconds", f"{statistics.median(one['ours'] for one in steps):.2f}"),
        ("a step, ours over the bare script", spread([one["ours"] / one["bare"] for one in steps])),
        (f"a run of {STEPS} steps without checks, ours over the bare script",
         spread([one["ours"] / one["bare"] for one in runs])),
    ]  # fmt: skip


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"


def prepare(folder: Path) -> None:
    """A project whose train stage has fewer steps and more checkpoints."""
    (folder / "data").mkdir(parents=True)
    for table in INPUTS:
        (folder / "data" / f"{table}.parquet").symlink_to(DATA / f"{table}.parquet")
    (folder / "models").mkdir()
    (folder / "models" / "fieldguide").symlink_to(ROOT / "models" / "fieldguide")
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["train"] |= {"steps": KILLED_STEPS, "check_every": CHECK_EVERY}
    YAML().dump(values, folder / "params.yaml")


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"} | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.stages.train"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def seconds_of_run(folder: Path) -> float:
    """Seconds of a run to its end."""
    begin = time.perf_counter()
    process = start(folder)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    return time.perf_counter() - begin


def kill() -> list[tuple[str, str]]:
    rng, hits = random.Random(0), []
    with tempfile.TemporaryDirectory() as scratch:
        whole, broken = Path(scratch) / "whole", Path(scratch) / "killed"
        for folder in (whole, broken):
            prepare(folder)
        seconds = seconds_of_run(whole)
        for _ in range(KILLS):
            process = start(broken)
            # Long enough to reach a checkpoint, short enough that five such runs do not reach the end.
            time.sleep(seconds * rng.uniform(0.17, 0.27))
            hits.append(process.poll() is None)
            process.kill()
            process.communicate()
            marks = broken.glob(f".work/train/*/round-1/checkpoint-*/{COMPLETE}")
            print(f"killed with {', '.join(sorted(mark.parent.name for mark in marks)) or 'no checkpoint'}", flush=True)
        seconds_of_run(broken)
        scores = {folder: pl.read_csv(folder / "data" / "training.csv")["validation_two_step"].drop_nulls()[-1]
                  for folder in (whole, broken)}  # fmt: skip
        same = all(
            (whole / file).read_bytes() == (broken / file).read_bytes()
            for file in ("models/policy/model.safetensors", "data/training.csv", "data/rollouts.parquet")
        )
    return [
        (f"{KILLED_STEPS} steps killed {KILLS} times at random ({sum(hits)} times while training), then run to the "
         "end: last validation accuracy, undisturbed and killed",
         f"{scores[whole]:.1%}, {scores[broken]:.1%}"),
        ("weights, curves and completions of the two", "the same bytes" if same else "not the same bytes"),
    ]  # fmt: skip


def main() -> None:
    import torch
    import transformers
    import trl

    lines = [*compare(), *kill()]
    versions = (
        f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}, trl {trl.__version__}"
    )
    text = [f"`python bench/training.py` on {os.cpu_count()} CPU cores, {platform.machine()}, {versions}:", ""]
    text += ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in lines), ""]
    RESULTS.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
