"""The published models of the presets: the numbers of their configurations that memory depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """A published model, without its weights.

    Args:
        family: `model_type` of its configuration.
        config: what differs there from the family's defaults, as far as shapes depend on it.
        billions: of weights, as published, of those that the model's class has.
        picture: tokens of a picture of data.max_pixels, at most.
        layer: KiB per token that one decoder layer keeps for its backward pass: measured by preset_layer.py with
            transformers 5.23 and peft 0.21.
        repeated: whether each draw has a copy of its prompt's cache, as docs/families.csv says.
        reused: whether the prefill of a picture is kept for a second question: not where layers have a window.
        text: of the text part of the configuration.
        vision: of the vision part.
    """

    family: str
    config: Mapping[str, Any]
    billions: float
    picture: int
    layer: int
    repeated: bool = False
    reused: bool = True
    text: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """The model on torch's meta device: shapes only."""
        import torch
        from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

        parts = {"text_config": dict(self.text), "vision_config": dict(self.vision)}
        config = CONFIG_MAPPING[self.family](**self.config, **parts)
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config)


def _text(width: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
    } | more


def _tower(width: int, inner: int, depth: int, out: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "depth": depth,
        "num_heads": 16,
        "out_hidden_size": out,
    } | more


SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
QWEN3 = {"head_dim": 128}

PUBLISHED = {
    "qwen2.5-vl-3b": Published(
        "qwen2_5_vl",
        {"tie_word_embeddings": True},
        billions=3.755,
        picture=529,
        layer=146,
        text=_text(2048, 11008, 36, 16, 2, 151936),
        vision=_tower(1280, 3420, 32, 2048),
    ),
    "qwen2.5-vl-7b": Published(
        "qwen2_5_vl",
        {"tie_word_embeddings": False},
        billions=8.292,
        picture=529,
        layer=253,
        text=_text(3584, 18944, 28, 28, 4, 152064),
        vision=_tower(1280, 3420, 32, 3584),
    ),
    "qwen3-vl-4b": Published(
        "qwen3_vl",
        {"tie_word_embeddings": True},
        billions=4.438,
        picture=400,
        layer=182,
        text=_text(2560, 9728, 36, 32, 8, 151936, **QWEN3),
        vision=_tower(1024, 4096, 24, 2560, deepstack_visual_indexes=[5, 11, 17]),
    ),
    "qwen3-vl-8b": Published(
        "qwen3_vl",
        {"tie_word_embeddings": False},
        billions=8.767,
        picture=400,
        layer=234,
        text=_text(4096, 12288, 36, 32, 8, 151936, **QWEN3),
        vision=_tower(1152, 4304, 27, 4096, deepstack_visual_indexes=[8, 16, 24]),
    ),
    "qwen3.5-4b": Published(
        "qwen3_5",
        {"tie_word_embeddings": True},
        billions=4.539,
        picture=400,
        layer=523,
        repeated=True,
        reused=False,
        text=_text(2560, 9216, 32, 16, 4, 248320, head_dim=256),
        vision=_tower(1024, 4096, 24, 2560),
    ),
    "gemma-3-4b": Published(
        "gemma3",
        {},
        billions=4.300,
        picture=256,
        layer=186,
        reused=False,
        text=_text(2560, 10240, 34, 8, 4, 262208, head_dim=256, sliding_window=1024),
        vision=SIGLIP | {"image_size": 896, "patch_size": 14, "vision_use_head": False},
    ),
    "gemma-4-e4b": Published(
        "gemma4",
        {"audio_config": {"model_type": "gemma4_audio"}},
        billions=7.941,
        picture=280,
        layer=244,
        repeated=True,
        reused=False,
        text=_text(2560, 10240, 42, 8, 2, 262144, head_dim=256, num_kv_shared_layers=18),
        vision={"model_type": "gemma4_vision"},
    ),
    "internvl3.5-4b": Published(
        "internvl",
        {"tie_word_embeddings": False},
        billions=4.732,
        picture=3328,
        layer=182,
        text=_text(2560, 9728, 36, 32, 8, 151936, model_type="qwen3", **QWEN3),
    ),
    "smolvlm2-2.2b": Published(
        "smolvlm",
        {"tie_word_embeddings": False, "scale_factor": 3},
        billions=2.247,
        picture=1417,
        layer=130,
        text=_text(2048, 8192, 24, 32, 32, 49280, model_type="llama", head_dim=64),
        vision=SIGLIP | {"image_size": 384, "patch_size": 14},
    ),
}
