"""The memory of a preset's run, from the model's own classes and the preset's values, as lines of its comment."""

from dataclasses import dataclass
from typing import Any

from support.preset_models import Published

from pipeline.training.params import TrainParams
from pipeline.training.tuning import adapter, tower_of

HEADING = "# Memory, in GiB (docs/scale.md says how it is counted):"
GIB, MIB, KIB = 2**30, 2**20, 2**10
CHOICE, LISTED = 200, 1000  # tokens of text of a second question, and of a first one with a hundred class names
LABEL = 40  # characters


@dataclass(frozen=True)
class Numbers:
    """What a model's classes say.

    Args:
        weights: their number.
        adapters: weights of its LoRA.
        cached: bytes of keys and values of a token.
        state: bytes that a draw has besides, whatever its length.
        layers: decoder layers.
        width: of their inputs.
    """

    weights: int
    adapters: int
    cached: int
    state: int
    layers: int
    width: int


def numbers(published: Published, train: TrainParams) -> Numbers:
    """Counts in the model of a preset, on torch's meta device, with the pipeline's own adapters."""
    from peft import get_peft_model

    model = published.build()
    weights = sum(one.numel() for one in model.parameters())
    text = {name: module for name, module in model.named_modules() if tower_of(f"{name}.weight") == "text"}
    projections = [module for name, module in text.items() if name.endswith((".k_proj", ".v_proj"))]
    config = model.config.get_text_config()
    return Numbers(
        weights=weights,
        cached=2 * sum(module.out_features for module in projections),
        state=_state(config),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        adapters=_adapters(get_peft_model(model, adapter(model, train))),
    )


def _adapters(model: Any) -> int:
    return sum(one.numel() for name, one in model.named_parameters() if ".lora_" in name)


def _state(config: Any) -> int:
    """Bytes of the recurrent states of linear attention, float32, and of their convolutions, bfloat16."""
    layers = list(getattr(config, "layer_types", None) or ()).count("linear_attention")
    if not layers:
        return 0
    keys = config.linear_num_key_heads * config.linear_key_head_dim
    values = config.linear_num_value_heads * config.linear_value_head_dim
    convolution = 2 * (2 * keys + values) * config.linear_conv_kernel_dim
    return layers * (4 * values * config.linear_key_head_dim + convolution)


def memory(published: Published, numbers: Numbers, train: TrainParams) -> list[str]:
    """The lines of a preset's comment below HEADING."""
    weights, adapters = 2 * numbers.weights, 4 * numbers.adapters
    drawing, how = _drawing(published, numbers, train)
    sequences = train.prompts_per_device * train.generations
    tokens = sequences * (published.picture + CHOICE + train.max_completion_length)
    inputs, layer = 2 * tokens * numbers.layers * numbers.width, 2 * tokens * published.layer * KIB
    counted = f"{sequences} × {tokens // sequences:,} tokens"
    total = weights + 4 * adapters + max(drawing, inputs + layer)
    return [
        _line("weights", weights, f"{numbers.weights / 1e9:.2f} billion × 2 bytes; the KL term's reference as well"),
        _line(f"LoRA of rank {train.lora_rank}", adapters, f"{numbers.adapters / 1e6:.0f} million weights, float32"),
        _line("its gradients and Adam's moments", 3 * adapters, "3 × 4 bytes"),
        _line("drawing: keys and values", drawing, how),
        _line("training: inputs of all layers", inputs, f"{counted} × {numbers.layers} × {numbers.width:,} × 2 bytes"),
        _line("training: one layer and its gradients", layer, f"{counted} × 2 × {published.layer} KiB"),
        _line("total", total, "with drawing or training, which follow each other"),
    ]


def _drawing(published: Published, numbers: Numbers, train: TrainParams) -> tuple[int, str]:
    token = f"{numbers.cached // KIB} KiB"
    if published.repeated:
        prompts = train.max_rows * (published.picture + LISTED)
        held = (train.max_tokens + prompts) * numbers.cached + train.max_rows * numbers.state
        each = f" + {numbers.state / MIB:.0f} MiB" if numbers.state else ""
        rows = f"{train.max_rows} × ({published.picture + LISTED:,} × {token}{each})"
        return held, f"{train.max_tokens:,} tokens × {token} + {rows}: prompts, copied"
    share, reasons = (2, "growth, pictures kept") if published.reused else (1.5, "growth")
    return int(share * train.max_tokens * numbers.cached), f"{share} × {train.max_tokens:,} tokens × {token}: {reasons}"


def _line(label: str, size: float, how: str) -> str:
    return f"#   {label:<{LABEL}}{size / GIB:5.1f}   {how}"
