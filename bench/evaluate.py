"""Scoring 100,000 predictions of 20 draws, and questions from 1,000,000 draws, against plain loops over dictionaries.

    python bench/evaluate.py            writes bench/results/evaluate.md

The stages run as they do for a user: processes that read and write Parquet. The loops read the same files into
dictionaries and compute the same numbers, as a script would. The loop for evaluate computes only some of them: the
means, and the curves by number of draws. The loop for options is so short that starting Python and the imports would be
half of the stage's time: both are compared without these, from file to file.
"""

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.oracles import option_rows, ranked, shuffled, top_options

from pipeline.core import tables
from pipeline.evaluation.curves import SHUFFLES
from pipeline.evaluation.ways import names
from pipeline.method.options import questions
from pipeline.method.prompts import letters

IMAGES, VALIDATION, K, TOPK, CLASSES = 50_000, 500, 20, 5, 200
SAMPLED = 50_000
ROUNDS = 3
RESULTS = Path(__file__).parent / "results" / "evaluate.md"
NAMES = {class_id: f"kind {class_id}" for class_id in range(CLASSES)}


def classes() -> pl.DataFrame:
    rows = [
        {"dataset": "bench", "class_id": c, "name": n, "subset": subset(c), "aliases": [], "noun": "thing"}
        for c, n in NAMES.items()
    ]
    return pl.DataFrame(rows, schema=tables.CLASSES.schema)


def subset(class_id: int) -> str:
    return "base" if class_id < CLASSES // 2 else "novel"


def draws_of(rng: random.Random, truth: int, skill: float) -> list[int | None]:
    """K draws: the truth, one of its neighbours, or nothing that can be read."""
    near = [truth, *((truth + step) % CLASSES for step in range(1, 8))]
    return [None if rng.random() < 0.05 else near[0 if rng.random() < skill else rng.randrange(8)] for _ in range(K)]


def prediction(rng: random.Random, model: str, image_id: str, split: str, truth: int) -> dict[str, Any]:
    draws = draws_of(rng, truth, rng.random())
    options = option_rows(shuffled(top_options(draws, None, TOPK), 0, image_id), draws, NAMES)
    is_question, places = len(options) > 1, [option["class_id"] for option in options]
    choice = truth if truth in places and rng.random() < 0.7 else rng.choice([*places, None])
    choice = choice if is_question else next(iter(places), None)
    return {
        "model": model,
        "image_id": image_id,
        "split": split,
        "dataset": "bench",
        "class_id": truth,
        "subset": subset(truth),
        "greedy_text": "<answer> kind </answer>",
        "greedy_status": "ok",
        "greedy_probability": rng.random(),
        "greedy_tokens": 12,
        "draws": draws,
        "draw_statuses": ["off_list" if c is None else "ok" for c in draws],
        "draw_texts": [f"<think> a thought about it </think> <answer> kind {c} </answer>" for c in draws],
        "draw_tokens": [12] * K,
        "options": options,
        "choice_text": "<think> compared </think> <answer> A </answer>" if is_question else None,
        "choice_probability": rng.random() if is_question else None,
        "choice_tokens": 40 if is_question else 0,
        "letter": None if choice is None else letters(len(places))[places.index(choice)],
        "status": "ok" if choice is not None else "no_answer",
        "rotated": [rng.choice(places) for _ in places[1:]] if is_question else [],
        "rotated_tokens": [40] * (len(places) - 1),
        "one_step": draws[0],
        "vote": next(iter(ranked(draws)), None),
        "two_step": choice,
    }


def image(image_id: str, split: str, truth: int, number: int) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "dataset": "bench",
        "class_id": truth,
        "split": split,
        "file": f"{number}.jpg",
        "status": "ok",
        "content": image_id,
        "perceptual_hash": f"{random.Random(number).getrandbits(256):064x}",
        "image": b"",
    }


def write_run(folder: Path) -> None:
    """All tables that evaluate reads: two models, the same images."""
    rng = random.Random(0)
    test = [(f"{n:016x}", "test", n % CLASSES, n) for n in range(IMAGES)]
    val = [(f"{n:016x}", "val", n % (CLASSES // 2), n) for n in range(IMAGES, IMAGES + VALIDATION)]
    rows = [image(*one) for one in (*test, *val)]
    schema = {name: kind for name, kind in tables.IMAGES.schema.items()}
    tables.write(tables.IMAGES, pl.DataFrame(rows, schema=schema), folder / "images.parquet")
    tables.write(tables.CLASSES, classes(), folder / "classes.parquet")
    for empty in (tables.SAMPLES, tables.HARD):
        tables.write(empty, pl.DataFrame(schema=empty.schema), folder / f"{empty.name}.parquet")
    for model in ("base", "trained"):
        answers = [prediction(rng, model, image_id, split, truth) for image_id, split, truth, _ in (*test, *val)]
        table = pl.DataFrame(answers, schema=tables.PREDICTIONS.schema)
        tables.write(tables.PREDICTIONS, table, folder / f"{model}.parquet")


def write_samples(folder: Path) -> None:
    rng = random.Random(1)
    rows, images = [], []
    for number in range(SAMPLED):
        image_id, truth = f"{number:016x}", number % (CLASSES // 2)
        images.append(image(image_id, "train", truth, number))
        for draw, class_id in enumerate(draws_of(rng, truth, rng.random())):
            answer, status = (None, "off_list") if class_id is None else (NAMES[class_id], "ok")
            row = {"image_id": image_id, "draw": draw, "text": "", "answer": answer, "class_id": class_id}
            rows.append(row | {"status": status, "tokens": 12})
    tables.write(tables.SAMPLES, pl.DataFrame(rows, schema=tables.SAMPLES.schema), folder / "samples.parquet")
    tables.write(tables.IMAGES, pl.DataFrame(images, schema=tables.IMAGES.schema), folder / "images.parquet")
    tables.write(tables.CLASSES, classes(), folder / "classes.parquet")


def stage(module: str, *arguments: str) -> tuple[float, float]:
    """Wall seconds and peak MiB of a stage's process."""
    command = ["/usr/bin/env", sys.executable, "-m", module, *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{module} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def plain_scores(rows: Sequence[dict[str, Any]], orders: int = 1) -> dict[str, Any]:
    """What a script would do: by model, subset and metric the mean; pass@k, and the vote after every number of draws.

    The vote and the oracle are means over so many orders of the draws, the first being the one drawn.
    """
    rng = random.Random(0)
    sums: dict[tuple[str, str, str], float] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    curves: dict[tuple[str, str, str, int], float] = Counter()
    for row in rows:
        if row["split"] != "test":
            continue
        truth, place = row["class_id"], (row["model"], row["subset"])
        right = sum(class_id == truth for class_id in row["draws"])
        choices = ranked([row["two_step"], *row["rotated"]])
        scored = {
            "pass@1": right / len(row["draws"]),
            "pass@K": float(right > 0),
            "one_step": float(row["one_step"] == truth),
            "vote": float(row["vote"] == truth),
            "two_step": float(row["two_step"] == truth),
            "rotated": float(bool(choices) and choices[0] == truth),
            "oracle": float(any(option["class_id"] == truth for option in row["options"])),
        }
        counts[place] += 1
        for metric, score in scored.items():
            sums[(*place, metric)] += score
        for count in range(1, len(row["draws"]) + 1):
            curves[(*place, "pass", count)] += 1 - comb(K - right, count) / comb(K, count)
        several = [row["draws"], *(rng.sample(row["draws"], K) for _ in range(orders - 1))]
        for draws in several:
            for count in range(1, K + 1):
                order = ranked(draws[:count])
                curves[(*place, "vote", count)] += (bool(order) and order[0] == truth) / orders
                curves[(*place, "oracle", count)] += (truth in order[:TOPK]) / orders
    return {
        "means": {key: total / counts[key[:2]] for key, total in sums.items()},
        "curves": {key: total / counts[key[:2]] for key, total in curves.items()},
    }


def plain_questions(rows: Sequence[dict[str, Any]], truths: dict[str, int]) -> list[dict[str, Any]]:
    """Questions from draws that stand in dictionaries, image by image, as a script would make them."""
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_image.setdefault(row["image_id"], []).append(row)
    table = []
    for image_id, draws in by_image.items():
        class_ids = [row["class_id"] for row in sorted(draws, key=lambda row: row["draw"])]
        truth = truths[image_id]
        votes: dict[int, int] = {}
        for class_id in class_ids:
            if class_id is not None:
                votes[class_id] = votes.get(class_id, 0) + 1
        order = sorted(votes, key=lambda class_id: (-votes[class_id], class_ids.index(class_id)))
        rank = {class_id: place for place, class_id in enumerate(order, start=1)}
        options = order[:TOPK] if truth in order[:TOPK] else [*order[: TOPK - 1], truth]
        shown = shuffled(options, 0, image_id)
        table.append(
            {
                "image_id": image_id,
                "answer": letters(len(shown))[shown.index(truth)],
                "options": [
                    {
                        "class_id": c,
                        "name": NAMES[c],
                        "votes": votes.get(c, 0),
                        "rank": rank.get(c),
                    }
                    for c in shown
                ],
            }
        )
    return table


def inputs(folder: Path, *stems: str) -> list[str]:
    return [word for name in stems for word in (f"--{name}", str(folder / f"{name}.parquet"))]


@dataclass(frozen=True)
class Timed:
    """Seconds and MiB of every run of a stage, and the seconds of loops that do some or more of its work.

    `inside`: seconds of the stage's work in this process, where that is what the loops are compared with.
    """

    runs: list[tuple[float, float]]
    loops: list[float]
    inside: float | None = None


def dictionaries(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def measured_evaluate(folder: Path) -> Timed:
    write_run(folder)
    out, tables_of = folder / "reports", [folder / f"{model}.parquet" for model in ("base", "trained")]
    models = [word for path in tables_of for word in ("--predictions", str(path))]
    files = [*inputs(folder, "samples", "hard", "images", "classes"), "--union", str(folder / "union.parquet")]
    tables.write(tables.PREDICTIONS, pl.DataFrame(schema=tables.PREDICTIONS.schema), folder / "union.parquet")
    runs = [stage("pipeline.stages.evaluate", *models, *files, "--out", str(out)) for _ in range(ROUNDS)]
    details = json.loads((out / "details.json").read_text(encoding="utf-8"))
    start = time.perf_counter()
    rows = [row for path in tables_of for row in dictionaries(path)]
    plain = plain_scores(rows, SHUFFLES)
    seconds = time.perf_counter() - start
    for (model, subset_name, metric), mean in plain["means"].items():
        assert abs(details[model][metric][subset_name] - mean) < 6e-5, (model, subset_name, metric)
    assert set(names()) - {metric for _, _, metric in plain["means"]} == {"cascade"}
    return Timed(runs, [seconds])


def measured_options(folder: Path) -> Timed:
    write_samples(folder)
    out = folder / "questions.parquet"
    runs = [
        stage("pipeline.stages.options", *inputs(folder, "samples", "images", "classes"), "--out", str(out))
        for _ in range(ROUNDS)
    ]
    inside = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        table = questions(
            tables.read(tables.SAMPLES, folder / "samples.parquet", ["image_id", "draw", "class_id"]),
            tables.read(tables.IMAGES, folder / "images.parquet", ["image_id", "dataset", "class_id"]),
            tables.read(tables.CLASSES, folder / "classes.parquet"),
            TOPK,
            0,
        )
        tables.write(tables.QUESTIONS, table, folder / "again.parquet")
        inside.append(time.perf_counter() - start)
    assert (folder / "again.parquet").read_bytes() == out.read_bytes()
    start = time.perf_counter()
    truths = {row["image_id"]: row["class_id"] for row in dictionaries(folder / "images.parquet")}
    plain = plain_questions(dictionaries(folder / "samples.parquet"), truths)
    pq.write_table(pa.Table.from_pylist(plain), folder / "plain.parquet")
    seconds = time.perf_counter() - start
    written = {row["image_id"]: row for row in tables.read(tables.QUESTIONS, out).iter_rows(named=True)}
    for row in plain:
        ours = written[row["image_id"]]
        assert ours["answer"] == row["answer"]
        assert [{key: option[key] for key in row["options"][0]} for option in ours["options"]] == row["options"]
    return Timed(runs, [seconds], statistics.median(inside))


def line(name: str, rows: str, timed: Timed, *about: str) -> str:
    seconds = statistics.median(run[0] for run in timed.runs)
    against = seconds if timed.inside is None else timed.inside
    loops = "; ".join(
        f"{title}: {plain:,.1f} s, {plain / against:.1f}×" for title, plain in zip(about, timed.loops, strict=True)
    )
    if timed.inside is not None:
        loops += f" ({timed.inside:.2f} s for ours, both from file to file)"
    return f"| {name} | {rows} | {seconds:.1f} | {max(run[1] for run in timed.runs):,.0f} | {loops} |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scoring = measured_evaluate(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        options = measured_options(Path(folder))
    lines = [
        f"`python bench/evaluate.py` on {os.cpu_count()} CPU cores, {platform.machine()}, Python "
        f"{platform.python_version()}, polars {pl.__version__}:",
        "",
        "| stage | rows | seconds | MiB | a loop over dictionaries |",
        "|---|---|---|---|---|",
        line("evaluate", f"{2 * IMAGES:,} predictions × {K} draws", scoring, "means and curves alone"),
        line("options", f"{SAMPLED * K:,} draws", options, "the same"),
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
