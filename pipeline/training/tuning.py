"""Which weights are trained: all of them, low-rank additions (LoRA), or one tower alone."""

from typing import Any

from pipeline.core.params import UserError
from pipeline.engines.common.adapters import base_of
from pipeline.engines.common.loading import NF4, precision_of
from pipeline.training.launch import shards_with_fsdp
from pipeline.training.params import TOWERS, TrainParams

# Names in transformers' vision-language models of the vision tower, and of the layers that lead from it to the text
# tower. Where they lie inside of the vision tower (Qwen) or beside it (Gemma, SmolVLM), they belong to it.
VISION = ("visual", "vision_tower", "vision_model")
FROM_VISION = ("merger", "multi_modal_projector", "connector", "embed_vision")
AUDIO = ("audio_tower", "embed_audio")  # of Gemma 4; no question reaches it, so it is never trained


def tower_of(parameter: str) -> str:
    """vision, audio or text, by the name of a parameter. The layers between the towers are of the vision tower.

    The published code of the paper freezes them with it.
    """
    parts = parameter.split(".")
    if {*AUDIO}.intersection(parts):
        return "audio"
    return "vision" if {*VISION, *FROM_VISION}.intersection(parts) else "text"


def freeze(model: Any, towers: tuple[str, ...]) -> None:
    """Freezes these towers, and that of sounds. Raises UserError."""
    if unknown := set(towers) - set(TOWERS):
        raise UserError(
            f"params.yaml: train.freeze has {unknown.pop()!r}; each entry must be one of {', '.join(TOWERS)}, such as "
            "`dvc exp run -S 'train.freeze=[vision]'`"
        )
    for name, weights in model.named_parameters():
        if tower_of(name) in (*towers, "audio"):
            weights.requires_grad_(False)


def require_tuning(params: TrainParams) -> None:
    """Raises UserError where the settings of tuning contradict each other, or need what is not there."""
    if params.method == "none":
        return
    if params.tuning == "full" and (params.save == "adapter" or params.weights == NF4):
        fault = f"train.weights is {NF4}" if params.weights == NF4 else "train.save is adapter"
        raise UserError(
            f"params.yaml: {fault}, which takes low-rank additions, and train.tuning is full; set "
            "`dvc exp run -S train.tuning=lora`"
        )
    if params.weights == NF4 and params.save == "merged":
        raise UserError(
            f"params.yaml: train.weights is {NF4} and train.save merged, but nothing can be merged into weights of 4 "
            "bits; set `dvc exp run -S train.save=adapter`"
        )
    if params.save == "adapter" and params.rounds > 1:
        raise UserError(
            "params.yaml: train.save is adapter, and train.rounds more than 1, which merge the additions of each round "
            "into the weights that the next one starts from; set `dvc exp run -S train.save=merged`"
        )
    if base := base_of(params.model):
        raise UserError(
            f"params.yaml: model is {params.model}, an adapter of {base}, and training starts from whole weights; set "
            f"`dvc exp run -S model={base}`, or take a policy of train.save = merged"
        )
    precision_of(params.weights)


def weights_dtype(params: TrainParams) -> str:
    """The data type in which weights are loaded for training.

    Where all weights are trained in bfloat16, the optimiser keeps float32 masters (masters.py). FSDP keeps them as the
    weights, and only its model files have them. A further round has only the model files of the one before.
    """
    reads_masters = params.tuning == "full" and (shards_with_fsdp() or params.rounds > 1)
    return "float32" if reads_masters else params.weights


def adapter(model: Any, params: TrainParams) -> Any:
    """LoRA's settings for the linear layers of all towers that are not frozen; None where all weights are trained."""
    if params.tuning == "full":
        return None
    import torch
    from peft import LoraConfig

    # By full name, so that a tower can be left out. The output layer keeps its weights.
    head = model.get_output_embeddings()
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and tower_of(f"{name}.weight") not in (*params.freeze, "audio")
    ]
    return LoraConfig(
        r=params.lora_rank,
        lora_alpha=params.lora_alpha,
        lora_dropout=params.lora_dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
