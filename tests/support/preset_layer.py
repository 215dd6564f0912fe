"""What a decoder layer of a published model keeps for its backward pass: measured in layers of the real width."""

from typing import Any

import torch
from support.preset_models import Published
from torch.autograd.graph import saved_tensors_hooks

LAYERS, TOKENS, WORDS, RANK = 2, 512, 256, 32


def kept_by_layer(published: Published) -> float:
    """KiB per token of a layer of the kind that keeps most, on a CPU in bfloat16, with LoRA on every linear layer."""
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[published.family](**published.config, text_config=dict(published.text)).get_text_config()
    kinds = dict.fromkeys(getattr(config, "layer_types", None) or ("",))
    return max(_kept(_shortened(config, kind)) for kind in kinds)


def _kept(config: Any) -> float:
    """KiB per token and layer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = AutoModel.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapted = get_peft_model(model, LoraConfig(r=RANK, target_modules=linear))
    parameters = {weights.untyped_storage().data_ptr() for weights in adapted.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    arguments = {"inputs_embeds": torch.zeros(1, TOKENS, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)}
    if width := getattr(config, "hidden_size_per_layer_input", 0):
        arguments["per_layer_inputs"] = torch.zeros(1, TOKENS, LAYERS, width, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), saved_tensors_hooks(keep, lambda tensor: tensor):
        model(use_cache=False, **arguments)
    return sum(storage.nbytes() for storage in kept.values()) / TOKENS / LAYERS / 2**10


def _shortened(config: Any, kind: str) -> Any:
    """The same configuration with LAYERS layers of one kind, and WORDS words."""
    values = config.to_dict() | {"num_hidden_layers": LAYERS, "vocab_size": WORDS}
    values |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    if kind:
        values["layer_types"] = [kind] * LAYERS
    if "num_kv_shared_layers" in values:
        values |= {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": WORDS}
    values.pop("per_layer_config", None)
    return type(config)(**values)
