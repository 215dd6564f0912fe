"""Training in several processes: the train stage starts itself with accelerate."""

import os
import subprocess
import sys

from pipeline.core.params import UserError
from pipeline.training.params import TrainParams

LAUNCH_VARIABLE = "DIVEK_LAUNCHED"  # set in the processes that accelerate starts


def needs_launch(params: TrainParams) -> bool:
    """Whether this process must start the others."""
    return params.launcher == "accelerate" and LAUNCH_VARIABLE not in os.environ


def launch(params: TrainParams, arguments: list[str]) -> None:
    """Runs the train stage in several processes. Raises UserError if it fails."""
    config = ["--config_file", params.launch_config] if params.launch_config else []
    command = [sys.executable, "-m", "accelerate.commands.launch", *config, "-m", "pipeline.stages.train", *arguments]
    code = subprocess.run(command, env=os.environ | {LAUNCH_VARIABLE: "1"}).returncode
    if code:
        raise UserError(f"train: {' '.join(command[1:])} failed with exit code {code}; its error message is above")


def is_main_process() -> bool:
    """Whether this process writes the results."""
    return not int(os.environ.get("RANK", "0"))


def shards_with_fsdp() -> bool:
    """Whether accelerate shards the weights of this process with FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
