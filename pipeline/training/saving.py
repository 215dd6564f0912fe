"""Writes a trained model as a folder that stock software opens: transformers, vLLM, SGLang, on any machine.

Training changes weights and config.json only. All other files are copied from the model that was trained, byte for
byte: written anew, they would lack what this machine cannot open, such as a video part without torchvision.
"""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

SAVED = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json")
"""What transformers writes of a model. The generation config stays only where the trained model had none."""

WEIGHTS = (
    *("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt"),
    *("*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.gguf"),
)
NOT_COPIED = (*WEIGHTS, "config.json", "README.md", "scores.json", ".*")
"""What training changes, what describes the weights of the model that was trained, and hidden files."""


def save_model(model: Any, source: Path, folder: Path) -> None:
    """Writes the model, with the other files of `source`; low-rank additions are merged into a copy of the weights."""
    if hasattr(model, "get_base_model"):
        model.get_base_model().save_pretrained(folder, state_dict=_with_additions(model.get_base_model()))
    else:
        model.save_pretrained(folder)
    copy_others(source, folder)


def copy_others(source: Path, folder: Path) -> None:
    """Makes the files of `folder`, but for weights and config, those of the model folder `source`."""
    for file in _files(folder, SAVED):
        (folder / file).unlink()
    for file in _files(source, NOT_COPIED):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, folder / file)


def _files(folder: Path, but: tuple[str, ...]) -> list[Path]:
    """The files of a folder at any depth, relative to it, that no pattern fits, nor those of a folder it fits."""
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if not any(fnmatch(part, pattern) for part in file.parts for pattern in but)]


def _with_additions(base: Any) -> dict[str, Any]:
    """The weights of the base model with its low-rank additions."""
    state = {
        name.replace(".base_layer", ""): weights for name, weights in base.state_dict().items() if ".lora_" not in name
    }
    # peft's own merge adds to the weights in place, and undoing it leaves 16-bit weights changed.
    for name, layer in base.named_modules():
        if hasattr(layer, "get_delta_weight"):
            weights = state[f"{name}.weight"]
            addition = sum(layer.get_delta_weight(adapter).float() for adapter in layer.active_adapters)
            state[f"{name}.weight"] = (weights.float() + addition).to(weights.dtype).cpu()
    return state
