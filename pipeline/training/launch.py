"""Training in several processes: the train stage starts itself with accelerate."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.core.gpus import claim
from pipeline.core.params import UserError
from pipeline.core.yaml_text import load_yaml
from pipeline.training.params import TrainParams

LAUNCH_VARIABLE = "DIVEK_LAUNCHED"  # set in the processes that accelerate starts


def needs_launch(params: TrainParams) -> bool:
    """Whether this process must start the others."""
    return params.launcher == "accelerate" and LAUNCH_VARIABLE not in os.environ


def launch(params: TrainParams, arguments: list[str]) -> None:
    """Runs the train stage in several processes. Raises UserError if it fails."""
    claim(_processes(params))
    config = ["--config_file", params.launch_config] if params.launch_config else []
    command = [sys.executable, "-m", "accelerate.commands.launch", *config, "-m", "pipeline.stages.train", *arguments]
    code = subprocess.run(command, env=os.environ | {LAUNCH_VARIABLE: "1"}).returncode
    if code:
        raise UserError(f"train: {' '.join(command[1:])} failed with exit code {code}; its error message is above")


def _processes(params: TrainParams) -> int:
    """Processes on this machine by the launch config; 0 where it does not say."""
    file = Path(params.launch_config)
    tree = load_yaml(file.read_text(encoding="utf-8"), str(file), "fix it") if file.is_file() else None
    settings = tree if isinstance(tree, dict) else {}
    count, machines = settings.get("num_processes", 0), settings.get("num_machines", 1)
    return count // max(1, machines) if isinstance(count, int) and isinstance(machines, int) else 0


def is_main_process() -> bool:
    """Whether this process writes the results."""
    return not int(os.environ.get("RANK", "0"))


def shards_with_fsdp() -> bool:
    """Whether accelerate shards the weights of this process with FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
