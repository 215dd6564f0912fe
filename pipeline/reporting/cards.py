"""The cards of a published model and of its tables: what it is, on what, by which settings, how good and how sure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.tables import Table

PARTS = {"base": "base classes", "novel": "novel classes", "hm": "harmonic mean"}
ANSWERS = {
    "pass@1": "pass@1",
    "one_step": "one-step",
    "vote": "vote",
    "two_step": "two-step",
    "rotated": "two-step, turned",
}
PAPER = "[DiVE-k](https://arxiv.org/abs/2511.18305)"
PRIVATE = ("server", "judge", "fudd", "engine", "fieldguide")
"""Sections of params.yaml that a card leaves out: addresses of one's own, and what no result depends on."""


def accuracies(arms: pl.DataFrame) -> str:
    """A Markdown table of reports/accuracies.csv: percent with 95 % intervals, by model and way to answer."""
    rows = arms.filter(pl.col("dataset") == "all", pl.col("model").is_in(["base", "trained"]))
    cells = {(r["model"], r["metric"], r["part"]): r for r in rows.iter_rows(named=True)}
    parts = [part for part in PARTS if any(key[2] == part and r["accuracy"] is not None for key, r in cells.items())]
    lines = [
        f"| model | answer | {' | '.join(PARTS[part] for part in parts)} |",
        f"|---|---|{'---:|' * len(parts)}",
    ]
    for model in ("base", "trained"):
        for metric, title in ANSWERS.items():
            if (model, metric, parts[0]) in cells:
                shown = " | ".join(_cell(cells[model, metric, part]) for part in parts)
                lines.append(f"| {model} | {title} | {shown} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    text = f"{100 * row['accuracy']:.1f}"
    return text if row["low"] is None else f"{text} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def evaluations(datasets: list[str], arms: pl.DataFrame) -> list[Any]:
    """The two-step accuracies of the trained model as the hub's own entries."""
    from huggingface_hub import EvalResult

    rows = arms.filter(dataset="all", model="trained", metric="two_step").filter(pl.col("part").is_in(list(PARTS)))
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type="-".join(datasets),
            dataset_name=", ".join(datasets),
            metric_type="accuracy",
            metric_name=f"two-step accuracy, {PARTS[row['part']]}",
            metric_value=round(100 * row["accuracy"], 2),
        )
        for row in rows.drop_nulls("accuracy").iter_rows(named=True)
    ]


def model_card(
    name: str, licence: str, settings: Mapping[str, Any], arms: pl.DataFrame, counts: Mapping[str, int]
) -> str:
    """The model's README.md.

    Args:
        licence: identifier of the hub, such as apache-2.0.
        settings: params.yaml.
        arms: reports/accuracies.csv.
        counts: images of the test, by half.
    """
    from huggingface_hub import ModelCardData

    datasets = as_list(settings["dataset"])
    start, local = str(settings["model"]), Path(str(settings["model"])).is_dir()
    about = ModelCardData(
        model_name=name,
        license=licence,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["divek", "grpo", "fine-grained"],
        base_model=None if local else start,
        eval_results=evaluations(datasets, arms),
    )
    return f"""---
{about.to_yaml()}
---
# {name}

Trained to tell look-alike classes apart by {PAPER}, method `{settings["train"]["method"]}`, starting from `{start}`.
Data: {", ".join(datasets)}.

## Use
It answers in two steps: {settings["num_samples"]} draws of the open question, then the choice among its own
{settings["topk"]} most frequent answers. With divek installed that is one command:
`python -m pipeline classify photo.jpg --model <this folder>`.
`AutoModelForImageTextToText.from_pretrained` opens it without.

## Accuracy
Percent of {" and ".join(f"{count} {subset}" for subset, count in counts.items())} test images, with 95 % intervals that are
resampled by class. Base classes were trained on, novel ones never.

{accuracies(arms)}

## Data
{chr(10).join(f"- {licence_of(dataset)}" for dataset in datasets)}

## Settings
```yaml
{shown(settings)}
```
"""


def tables_card(
    name: str, licence: str, configs: Mapping[str, list[tuple[str, str]]], known: Mapping[str, Table]
) -> str:
    """The README.md of the published tables.

    Args:
        configs: split and file of each, by configuration.
        known: the schema of each configuration.
    """
    from huggingface_hub import DatasetCardData

    about = DatasetCardData(
        license=licence,
        tags=["divek"],
        configs=[
            {"config_name": config, "data_files": [{"split": split, "path": path} for split, path in files]}
            for config, files in configs.items()
        ],
    )
    parts = []
    for config in configs:
        columns = "\n".join(f"| `{column}` | {meaning} |" for column, (_, meaning) in known[config].columns.items())
        parts.append(f"## {config}\n| column | meaning |\n|---|---|\n{columns}\n")
    return f"""---
{about.to_yaml()}
---
# {name}

The tables of a run of {PAPER}: training questions made of the model's own answers, and its answers to the test images.
The pictures are not among them: `image_id` is the hash of their bytes, and divek's download stage fetches them.

{chr(10).join(parts)}"""


def licence_of(dataset: str) -> str:
    """What the pictures of a data set may be used for, as its module says it."""
    from importlib import import_module

    return str(import_module(f"pipeline.datasets.{dataset}").LICENCE)


def shown(settings: Mapping[str, Any]) -> str:
    """The settings that results depend on, as YAML."""
    from io import StringIO

    from ruamel.yaml import YAML

    kept = {key: value for key, value in settings.items() if key not in PRIVATE}
    kept["data"] = {key: value for key, value in settings["data"].items() if key != "path"}
    kept["train"] = {key: value for key, value in settings["train"].items() if key not in ("vllm_url", "launch_config")}
    text = StringIO()
    YAML(typ="safe", pure=True).dump(kept, text)
    return text.getvalue().strip()


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
