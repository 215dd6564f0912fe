"""Print the results of the last run as a small table."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.params import UserError

MODELS = {"base": "base model", "trained": "trained model"}  # and any further ones, by their names
ARMS = {
    "pass@1": "pass@1",
    "one_step": "one-step",
    "vote": "vote",
    "two_step": "two-step",
    "cascade": "cascade",
    "rotated": "rotated",
    "pass@K": "pass@{k}",
}

WIDTH = 14  # of a model's name, which else has a line of its own


def lines(metrics: dict[str, Any]) -> list[str]:
    """The table, one line per model and arm, in percent."""
    titles = MODELS | {name: name for name in metrics if name not in (*MODELS, "gain")}
    out = [f"{'':15}{'':10}{'base':>7}{'novel':>7}{'HM':>7}   images"]
    for model, title in titles.items():
        for arm, label in ARMS.items():
            found = metrics[model].get(arm)
            if found is None and model not in MODELS:
                continue
            if len(title) > WIDTH:
                out.append(title)
                title = ""
            out.append(_line(title, label.format(k=metrics[model]["K"]), found))
            title = ""
        for name, found in metrics[model].get("datasets", {}).items():
            arm = "two_step" if "two_step" in found else "one_step"  # all that CLIP and CoOp have
            out.append(_line("", ARMS[arm], found[arm]) + f"   {name}")
    gain = metrics["gain"]["two_step"]
    out.append(
        "two-step, trained minus base model: " + ", ".join(f"{subset} {100 * gain[subset]:+.1f}" for subset in gain)
    )
    return out


def _line(title: str, label: str, found: dict[str, Any]) -> str:
    shares = (found[subset] for subset in ("base", "novel", "hm"))
    said = "".join(f"{'–':>7}" if share is None else f"{100 * share:7.1f}" for share in shares)
    return f"{title:15}{label:10}{said}   {found['n_base']} + {found['n_novel']}"


def summary(
    metrics: Annotated[Path, typer.Option(help="JSON file of metrics.")] = Path("reports/metrics.json"),
    report: Annotated[Path, typer.Option(help="The report to point to.")] = Path("reports/index.html"),
) -> None:
    """Print the results of the last run as a small table."""
    try:
        found = json.loads(metrics.read_text())
        table = lines(found)
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{metrics}: not there or not whole ({error!r}); `dvc repro` writes it") from None
    print("\n".join(table))
    print(f"report: {report}")
