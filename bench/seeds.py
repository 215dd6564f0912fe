"""The default run under several seeds: mean, spread and each seed's numbers.

    python bench/seeds.py 0 1 2         writes bench/results/seeds.md and seeds.json; five to ten minutes a seed

The seed decides the draws, the order of the options and training. The pictures and the base model stay the same, so the
spread is that of the method and not of the test set. Results in DVC's cache are not computed again.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

import polars as pl

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from pipeline.evaluation.ways import WAYS

HEADLINE = [way for way in WAYS if way.headline]
SUBSETS = ("base", "novel", "hm")
MODELS = ("base", "trained")
VERDICT = r"\b(yes|no)\b"  # in the reasoning of a model that compares; one that answers by habit names the genus alone


def run(folder: Path, *command: str) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def details(folder: Path, seed: str) -> dict:
    run(folder, "dvc", "exp", "run", "--set-param", f"seed={seed}")
    return json.loads((folder / "reports" / "details.json").read_text(encoding="utf-8")) | {"habits": habits(folder)}


def habits(folder: Path) -> pl.DataFrame:
    """For every second question to the base model: whether it compared marks, and which model was right."""
    base, trained = (
        pl.read_parquet(folder / "data" / "predictions" / f"{model}.parquet")
        .filter(split="test")
        .select("image_id", "choice_text", right=(pl.col("two_step") == pl.col("class_id")).fill_null(False))
        for model in ("base", "trained")
    )
    questions = base.drop_nulls("choice_text").join(trained, on="image_id", suffix="_trained")
    return questions.select("right", "right_trained", compared=pl.col("choice_text").str.contains(VERDICT))


def by_habit(runs: dict[str, dict]) -> str:
    """What training does where the base model compared marks, and where it did not."""
    rows = pl.concat([run["habits"] for run in runs.values()])
    compared, habit = (
        f"{block.height:,} second questions: {block['right'].mean():.1%} right before training, "
        f"{block['right_trained'].mean():.1%} after"
        for block in (rows.filter("compared"), rows.filter(~pl.col("compared")))
    )
    return f"Where the base model compared marks, {compared}. Where it answered by habit, {habit}."


def cell(values: list[float]) -> str:
    points = [100 * value for value in values]
    return f"{mean(points):.1f} ({min(points):.1f}–{max(points):.1f})"


def table(runs: dict[str, dict]) -> list[str]:
    lines = ["| model | answer | base | novel | HM |", "|---|---|---|---|---|"]
    for model in MODELS:
        for way in HEADLINE:
            cells = (cell([run[model][way.name][subset] for run in runs.values()]) for subset in SUBSETS)
            lines.append(f"| {model} model | {way.label} | {' | '.join(cells)} |")
    gains = (cell([run["gain"]["two_step"][subset] for run in runs.values()]) for subset in SUBSETS)
    return [*lines, f"| trained minus base | two-step | {' | '.join(gains)} |"]


def main() -> None:
    seeds = sys.argv[1:] or ["0", "1", "2"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        # The cache of this checkout is used and filled, so that nothing is computed twice.
        run(folder, "dvc", "cache", "dir", "--local", str(ROOT / ".dvc" / "cache"))
        runs = {seed: details(folder, seed) for seed in seeds}
    heading = f"Mean (least–most) of seeds {', '.join(seeds)}, in percent, 288 base and 288 novel test images:"
    out = ROOT / "bench" / "results" / "seeds.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text("\n".join([heading, "", *table(runs), "", by_habit(runs), ""]), encoding="utf-8")
    numbers = {
        seed: {model: {way.name: run[model][way.name] for way in HEADLINE} for model in MODELS}
        for seed, run in runs.items()
    }
    out.with_suffix(".json").write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
