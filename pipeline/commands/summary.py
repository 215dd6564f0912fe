"""Print the results of the last run as a small table."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.params import UserError

MODELS = {"base": "base model", "trained": "trained model"}
ARMS = {"pass@1": "pass@1", "one_step": "one-step", "vote": "vote", "two_step": "two-step", "pass@K": "pass@{k}"}


def lines(metrics: dict[str, Any]) -> list[str]:
    """The table, one line per model and arm, in percent."""
    out = [f"{'':15}{'':10}{'base':>7}{'novel':>7}{'HM':>7}   images"]
    for model, title in MODELS.items():
        for arm, label in ARMS.items():
            found = metrics[model][arm]
            shares = "".join(f"{100 * found[half]:7.1f}" for half in ("base", "novel", "hm"))
            out.append(
                f"{title:15}{label.format(k=metrics[model]['K']):10}{shares}   {found['n_base']} + {found['n_novel']}"
            )
            title = ""
    gain = metrics["gain"]["two_step"]
    out.append("two-step, trained minus base model: " + ", ".join(f"{half} {100 * gain[half]:+.1f}" for half in gain))
    return out


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
