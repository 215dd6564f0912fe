"""The time of a training step against a bare GRPOTrainer script, and the result of a run that is killed five times.

    python bench/training.py            writes bench/results/training.md and .json; half an hour on two cores

Needs the tables of a `dvc repro`. Ours and the bare script alternate with the same questions and settings; each figure
is the median over the turns, with minimum and maximum. Killed and undisturbed runs are the stage as DVC calls it.
"""

import ctypes
import gc
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.core import tables
from pipeline.core.params import load_params
from pipeline.method.class_lists import ClassLists
from pipeline.training.checkpoints import COMPLETE, RunFolder
from pipeline.training.examples import examples
from pipeline.training.params import TrainParams

ROOT = Path(__file__).resolve().parent.parent
STEPS, TURNS = 12, 3
PROMPT = 300  # tokens of the wide model's prompts
KILLED_STEPS, CHECK_EVERY, KILLS = 60, 5, 5
DATA = ROOT / "data"
INPUTS = ("classes", "images", "questions", "hard")
RESULTS = Path(__file__).parent / "results" / "training.md"


@dataclass(frozen=True)
class Case:
    """What both sides train on: `rows` are hard questions with pictures, `timed` the steps whose time counts."""

    name: str
    params: TrainParams
    rows: pl.DataFrame
    timed: range
    turns: int

    @property
    def settings(self) -> str:
        return f"{self.params.prompts_per_step} × {self.params.generations} completions"


def field_guide(lists: ClassLists, scratch: Path) -> Case:
    params = replace(load_params(TrainParams, ROOT / "params.yaml"), model=str(ROOT / "models" / "fieldguide"))
    hard = tables.read(tables.HARD, DATA / "hard.parquet")
    pictures = tables.read(tables.IMAGES, DATA / "images.parquet").select("image_id", "image")
    rows = hard.join(pictures, on="image_id", maintain_order="left")
    return Case("field guide", replace(params, steps=STEPS + 1), rows, range(2, STEPS + 1), TURNS)


def wide(lists: ClassLists, scratch: Path) -> Case:
    """A wider model of random weights, prompts of 300 tokens with larger pictures, completions cut at 48 tokens.

    Two prompts at a time, since the bare script takes 20 GB for all eight.
    """
    import torch
    from sampling import PIXELS, WIDE, random_model

    from pipeline.engines.common.loading import load_processor
    from pipeline.engines.common.prompt_lengths import PromptLengths

    guide = field_guide(lists, scratch)
    folder = scratch / "wide"
    processor = load_processor(guide.params.model)
    processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": PIXELS * PIXELS}
    random_model(processor, WIDE, torch.float32, "cpu").save_pretrained(folder)
    processor.save_pretrained(folder)
    rows = guide.rows.head(64).with_columns(
        pl.Series("image", [enlarged(one, PIXELS) for one in guide.rows["image"][:64]])
    )
    params = replace(guide.params, model=str(folder), attention="sdpa", steps=2, prompts_per_step=8,
                     prompts_per_device=2, generations=8, max_completion_length=48, learning_rate=1e-6)  # fmt: skip
    longest = max(PromptLengths(processor, params.chat)(turns[-1]["content"], (PIXELS, PIXELS))
                  for turns in examples(rows, lists, params).with_format(None)["prompt"])  # fmt: skip
    # A system message of as many words fills the prompts; its own marks are the other tokens.
    params = replace(params, system=" ".join(["bird"] * (PROMPT - longest - 4)))
    # One step of some minutes counts; the first one holds the check of the shared pass.
    return Case("wide", params, rows, range(2, 3), TURNS)


def enlarged(picture: bytes, pixels: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).resize((pixels, pixels)).save(file, "PNG")
    return file.getvalue()


def load(params: TrainParams) -> tuple[Any, Any]:
    """Model and processor, loaded alike for both sides."""
    import torch

    from pipeline.engines.common.loading import load_model, load_processor
    from pipeline.training.trl_adapter import set_reference

    torch.set_num_threads(params.threads)
    model = load_model(params.model, params.weights, params.attention)
    set_reference(model, params.model)
    return model, load_processor(params.model)


def ours(case: Case, lists: ClassLists, folder: Path) -> Any:
    from pipeline.training.rollouts import Rollouts
    from pipeline.training.run import policy_trainer

    params, (model, processor) = case.params, load(case.params)
    reward_functions = rewards_of(params, lists)
    names = (reward_functions[0].__name__, reward_functions[1].__name__)
    return policy_trainer(
        examples(case.rows, lists, params), params, model, processor, RunFolder(folder), params.steps, 0,
        reward_functions, Rollouts(names),
    )  # fmt: skip


def bare(case: Case, lists: ClassLists, folder: Path) -> Any:
    """The script of TRL's documentation: its trainer, its order, its generation."""
    from trl import GRPOTrainer

    from pipeline.training.config import grpo_config

    params, (model, processor) = case.params, load(case.params)
    return GRPOTrainer(
        model=model,
        reward_funcs=rewards_of(params, lists),
        args=grpo_config(params, folder, params.steps),
        train_dataset=examples(case.rows, lists, params),
        processing_class=processor,
    )


def rewards_of(params: TrainParams, lists: ClassLists) -> list[Any]:
    from pipeline.method.rewards import rewards
    from pipeline.method.styles import style

    return list(rewards(params.method, params.virft_reward, lists, style(params.prompt).thought))


def measure(trainer: Any, case: Case) -> dict[str, float]:
    """Seconds of a step, bytes that the last step's pass takes at its peak, and tokens of a completion."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    peaks: list[int] = []
    with_memory(trainer, case.params.steps, peaks)
    trainer.train()
    log = by_step(trainer.state.log_history)
    steps = [log[step]["step_time"] for step in case.timed]
    return {"step": statistics.median(steps), "memory": max(peaks), "length": log[2]["completions/mean_length"]}


def with_memory(trainer: Any, step: int, peaks: list[int]) -> None:
    """Makes the trainer record how much memory the process gains from a loss to its gradients, at most, in step `step`.

    Memory that is in use, as Linux counts it: TRL's output layer allocates more than it writes to.
    """
    loss, backward = trainer.compute_loss, trainer.accelerator.backward
    before: list[int] = []

    def loss_from_start(*args: Any, **more: Any) -> Any:
        if trainer.state.global_step + 1 == step:
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free is the system's again
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
            before.append(memory("VmRSS"))
        return loss(*args, **more)

    def backward_to_end(*args: Any, **more: Any) -> None:
        backward(*args, **more)
        if before:
            peaks.append(memory("VmHWM") - before.pop())

    trainer.compute_loss, trainer.accelerator.backward = loss_from_start, backward_to_end


def memory(kind: str) -> int:
    """Bytes of this process: VmRSS (in use) or VmHWM (their peak)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def by_step(history: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The entries of the log by step; 0 is the entry of the whole run."""
    return {0 if "train_runtime" in entry else entry["step"]: entry for entry in history}


def compare(case: Case, lists: ClassLists) -> tuple[list[tuple[str, str]], dict[str, float]]:
    """The lines of the table, and the medians by name."""
    turns = []
    for turn in range(case.turns):
        sides = {}
        for side in (ours, bare)[:: 1 if turn % 2 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                sides[side.__name__] = measure(side(case, lists, Path(folder)), case)
            gc.collect()  # a trainer's parts refer to each other
        turns.append(sides)
        print(f"{case.name}, turn {turn + 1}: {sides}", flush=True)
    ratios = {what: [one["ours"][what] / one["bare"][what] for one in turns] for what in ("step", "memory")}
    seconds = statistics.median(one["ours"]["step"] for one in turns)
    length = statistics.median(one["ours"]["length"] for one in turns)
    peak = statistics.median(one["bare"]["memory"] for one in turns) / 2**20
    lines = [
        (f"{case.name}, a step of {case.settings} of {length:.0f} tokens, ours: seconds", f"{seconds:.2f}"),
        (f"{case.name}, a step, ours over the bare script", spread(ratios["step"])),
        (f"{case.name}, peak memory from loss to gradients, ours over the bare script's {peak:,.0f} MiB",
         spread(ratios["memory"])),
    ]  # fmt: skip
    name = case.name.replace(" ", "")
    return lines, {f"{what}_over_trl_{name}": statistics.median(values) for what, values in ratios.items()}


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

    lists = ClassLists(tables.read(tables.CLASSES, DATA / "classes.parquet"))
    lines, medians = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for case in (field_guide, wide):
            of_case, ratios = compare(case(lists, Path(scratch)), lists)
            lines += of_case
            medians |= ratios
    lines += kill()
    versions = (
        f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}, trl {trl.__version__}"
    )
    text = [f"`python bench/training.py` on {os.cpu_count()} CPU cores, {platform.machine()}, {versions}:", ""]
    text += ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in lines), ""]
    RESULTS.write_text("\n".join(text), encoding="utf-8")
    RESULTS.with_suffix(".json").write_text(json.dumps(medians, indent=2) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
