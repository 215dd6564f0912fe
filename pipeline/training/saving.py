"""Writes a trained model as a folder that stock software opens: transformers, vLLM, SGLang, on any machine.

With low-rank additions it is a whole model with the additions merged into its weights, or an adapter alone.

Training changes weights and config.json only. All other files are copied from the model that was trained, byte for
byte: written anew, they would lack what this machine cannot open, such as a video part without torchvision.
"""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipeline.core.files import write_text
from pipeline.engines.common.adapters import CONFIG

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


def save_adapter(model: Any, source: Path, base: str, folder: Path) -> None:
    """Writes the additions alone, as an adapter of `base`, with the processor's files of `source` beside them.

    Without config.json: where that is, transformers expects the weights as well.

    Args:
        source: folder of the base.
        base: what opens the base: its folder, relative to the project, or its hub id.
    """
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder, selected_adapters=["default"])
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])  # a set, in another order in every process
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
    for file in _files(source, NOT_COPIED):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, folder / file)


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
