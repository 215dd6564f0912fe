"""Trackers that show a run while it trains: TensorBoard, Trackio, Weights & Biases and DVCLive."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.core.files import work_folder
from pipeline.core.params import UserError

DEVELOPMENT = "python -m pip install --no-deps -r requirements-dev.lock"  # trackio asks for an older Pillow than ours
INSTALL = {
    "tensorboard": DEVELOPMENT,
    "trackio": DEVELOPMENT,
    "wandb": "python -m pip install wandb",
    "dvclive": "python -m pip install dvclive",
}
"""By the name of a tracker, as transformers has it, the command that installs it."""

PROJECT = "divek"


def require_trackers(names: Sequence[str]) -> None:
    """Raises UserError where a tracker is unknown or not installed."""
    for name in names:
        if name not in INSTALL:
            raise UserError(
                f"params.yaml: train.report_to has {name!r}; each entry must be one of {', '.join(INSTALL)}, such as "
                "`dvc exp run -S 'train.report_to=[tensorboard]'`"
            )
        if find_spec(name) is None:
            raise UserError(
                f"params.yaml: train.report_to has {name}, which is not installed; install it with `{INSTALL[name]}`, "
                "or set `dvc exp run -S 'train.report_to=[]'`"
            )


def run_name(folder: Path) -> str:
    """What trackers call the run of this folder, which `checkpoints.RunFolder` names by settings and round."""
    return f"{folder.parent.name}-{folder.name}"


def trackers(names: Sequence[str], folder: Path, done: int) -> list[Any]:
    """transformers' callbacks for these trackers, of a run that has done so many steps.

    TensorBoard and DVCLive write into .work/live; the others have places of their own.
    """
    from transformers.integrations import TrackioCallback, WandbCallback

    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    own = work_folder("live") / run_name(folder)
    makers = {
        "tensorboard": lambda: _tensorboard(own, done),
        "trackio": TrackioCallback,
        "wandb": WandbCallback,
        "dvclive": lambda: _dvclive(own, done),
    }
    return [makers[name]() for name in names]


def _tensorboard(folder: Path, done: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    # What an interrupted run logged after its last checkpoint is logged again.
    return TensorBoardCallback(SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1))


def _dvclive(folder: Path, done: int) -> Any:
    from dvclive import Live
    from transformers.integrations import DVCLiveCallback

    # By default it would edit dvc.yaml and save an experiment of its own: here DVC runs the stage.
    live = Live(str(folder / "dvclive"), resume=done > 0, save_dvc_exp=False, dvcyaml=False)
    live.step = done + 1
    return DVCLiveCallback(live)
