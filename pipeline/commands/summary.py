"""Print the results of the last run as a small table."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.params import UserError
from pipeline.evaluation.metrics import HEADLINE
from pipeline.evaluation.ways import WAYS, way

MODELS = {"base": "base model", "trained": "trained model"}  # further models go by their names
WIDTH = 14  # of a model's name; longer ones have a line of their own


def summary_lines(details: dict[str, Any]) -> list[str]:
    """The table, one line per model and way to answer, in percent.

    Args:
        details: reports/details.json.
    """
    titles = MODELS | {name: name for name in details if name not in (*MODELS, "gain")}
    lines = [f"{'':15}{'':10}{'base':>7}{'novel':>7}{'HM':>7}   images"]
    for model, title in titles.items():
        for one in WAYS:
            accuracies = details[model].get(one.name)
            if accuracies is None:
                continue
            if len(title) > WIDTH:
                lines.append(title)
                title = ""
            lines.append(_line(title, one.label.replace("@K", f"@{details[model]['K']}"), accuracies))
            title = ""
        for dataset, accuracies in details[model].get("datasets", {}).items():
            name = "two_step" if "two_step" in accuracies else "one_step"  # CLIP and CoOp have no two-step answer
            lines.append(f"{_line('', way(name).label, accuracies[name])}   {dataset}")
    gain = details["gain"]["two_step"]
    points = ", ".join(f"{subset} {100 * gain[subset]:+.1f}" for subset in gain)
    return [*lines, f"two-step, trained minus base model: {points}"]


def _line(title: str, label: str, accuracies: dict[str, Any]) -> str:
    shares = (accuracies[subset] for subset in HEADLINE)
    cells = "".join(f"{'–':>7}" if share is None else f"{100 * share:7.1f}" for share in shares)
    return f"{title:15}{label:10}{cells}   {accuracies['n_base']} + {accuracies['n_novel']}"


def summary(
    details: Annotated[Path, typer.Option(help="JSON file of the details.")] = Path("reports/details.json"),
    report: Annotated[Path, typer.Option(help="The report to point to.")] = Path("reports/index.html"),
) -> None:
    """Print the results of the last run as a small table."""
    try:
        lines = summary_lines(json.loads(details.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{details} is missing or incomplete ({error!r}); `dvc repro` writes it") from None
    print("\n".join(lines))
    print(f"report: {report}")
