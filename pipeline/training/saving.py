"""Writes a trained model as a folder that transformers loads without peft."""

from pathlib import Path
from typing import Any


def save_model(model: Any, processor: Any, folder: Path) -> None:
    """Writes model and processor; low-rank additions are merged into a copy of the weights."""
    if hasattr(model, "get_base_model"):
        model.get_base_model().save_pretrained(folder, state_dict=_with_additions(model.get_base_model()))
    else:
        model.save_pretrained(folder)
    processor.save_pretrained(folder)


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
