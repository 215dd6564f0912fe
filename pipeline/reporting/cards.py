"""The cards of a published model and of its tables: data, settings, licence, and accuracies with intervals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.schemas import Table
from pipeline.evaluation.ways import WAYS
from pipeline.reporting.run_results import AVERAGES

PAPER = "[DiVE-k](https://arxiv.org/abs/2511.18305)"
PRIVATE = ("server", "judge", "fudd", "engine", "fieldguide")
"""Sections of params.yaml that a card leaves out: private addresses, and settings that no result depends on."""


def accuracy_table(accuracies: pl.DataFrame) -> str:
    """A Markdown table of reports/tables/accuracies.csv: percent with 95 % intervals, by model and way to answer."""
    rows = accuracies.filter(pl.col("dataset") == "all", pl.col("model").is_in(["base", "trained"]))
    cells = {(r["model"], r["metric"], r["subset"]): r for r in rows.drop_nulls("accuracy").iter_rows(named=True)}
    averages = [average for average in AVERAGES if any(key[2] == average for key in cells)]
    lines = [
        f"| model | answer | {' | '.join(AVERAGES[average].lower() for average in averages)} |",
        f"|---|---|{'---:|' * len(averages)}",
    ]
    for model in ("base", "trained"):
        for way in WAYS:
            if not way.is_bound and (model, way.name, averages[0]) in cells:
                values = " | ".join(_cell(cells[model, way.name, average]) for average in averages)
                lines.append(f"| {model} | {way.label} | {values} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    text = f"{100 * row['accuracy']:.1f}"
    return text if row["low"] is None else f"{text} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def eval_results(datasets: list[str], accuracies: pl.DataFrame) -> list[Any]:
    """The two-step accuracies of the trained model as the hub's own entries."""
    from huggingface_hub import EvalResult

    rows = accuracies.filter(dataset="all", model="trained", metric="two_step")
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type="-".join(datasets),
            dataset_name=", ".join(datasets),
            metric_type="accuracy",
            metric_name=f"two-step accuracy, {AVERAGES[row['subset']].lower()}",
            metric_value=round(100 * row["accuracy"], 2),
        )
        for row in rows.filter(pl.col("subset").is_in(list(AVERAGES))).drop_nulls("accuracy").iter_rows(named=True)
    ]


def model_card(
    name: str,
    licence: str,
    settings: Mapping[str, Any],
    accuracies: pl.DataFrame,
    counts: Mapping[str, int],
    base: str | None = None,
) -> str:
    """The model's README.md.

    Args:
        licence: identifier of the hub, such as apache-2.0.
        settings: params.yaml.
        accuracies: reports/tables/accuracies.csv.
        counts: test images by subset.
        base: the model whose adapter it is; None for a whole model.
    """
    from huggingface_hub import ModelCardData

    datasets = as_list(settings["dataset"])
    start, local = str(settings["model"]), Path(str(settings["model"])).is_dir()
    about = ModelCardData(
        model_name=name,
        license=licence,
        library_name="peft" if base else "transformers",
        pipeline_tag="image-text-to-text",
        tags=["divek", "grpo", "fine-grained"],
        base_model=base or (None if local else start),
        eval_results=eval_results(datasets, accuracies),
    )
    return f"""---
{about.to_yaml()}
---
# {name}

Trained to distinguish look-alike classes by {PAPER}, method `{settings["train"]["method"]}`, starting from `{start}`.
Data: {", ".join(datasets)}.

## Use
The model answers in two steps: it draws {settings["num_samples"]} answers to the open question, then chooses among its
{settings["topk"]} most frequent ones. With divek installed:
`python -m pipeline classify photo.jpg --model <this folder>`.
Without divek: `AutoModelForImageTextToText.from_pretrained`{f", which adds this adapter to {base}" if base else ""}.

## Accuracy
Percent of {" and ".join(f"{count} {subset}" for subset, count in counts.items())} test images, with 95 % intervals
between {"groups of classes" if "group" in set(accuracies["cluster"]) else "classes"}. Novel classes were
not used in training.

{accuracy_table(accuracies)}

## Data
{chr(10).join(f"- {licence_of(dataset)}" for dataset in datasets)}

## Settings
```yaml
{settings_yaml(settings)}
```
"""


def tables_card(
    name: str, licence: str, configs: Mapping[str, list[tuple[str, str]]], schemas: Mapping[str, Table]
) -> str:
    """The README.md of the published tables.

    Args:
        configs: pairs of split and file, by configuration.
        schemas: the schema of each configuration.
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
    sections = []
    for config in configs:
        columns = "\n".join(f"| `{column}` | {meaning} |" for column, (_, meaning) in schemas[config].columns.items())
        sections.append(f"## {config}\n| column | meaning |\n|---|---|\n{columns}\n")
    return f"""---
{about.to_yaml()}
---
# {name}

The tables of a run of {PAPER}: training questions made from the model's own answers, and its answers to the test
images. The pictures are not included: `image_id` is the hash of their bytes, and divek's download stage fetches them.

{chr(10).join(sections)}"""


def licence_of(dataset: str) -> str:
    """The licence of a data set's pictures, from its module."""
    from importlib import import_module

    return str(import_module(f"pipeline.datasets.{dataset}").LICENCE)


def settings_yaml(settings: Mapping[str, Any]) -> str:
    """The settings that results depend on, as YAML."""
    from io import StringIO

    from ruamel.yaml import YAML

    public = {key: value for key, value in settings.items() if key not in PRIVATE}
    public["data"] = {key: value for key, value in settings["data"].items() if key != "path"}
    train = settings["train"].items()
    public["train"] = {key: value for key, value in train if key not in ("vllm_url", "launch_config")}
    text = StringIO()
    YAML(typ="safe", pure=True).dump(public, text)
    return text.getvalue().strip()


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
