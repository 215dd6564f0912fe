"""What single families need for their small models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support.family_sizes import HEADS, PIXELS, WIDTH

IMAGE = {
    "image": "<image>",
    "video": "<video>",
    "audio": "<audio>",
    "boi": "<boi>",
    "eoi": "<eoi>",
    "image_start": "<image_start>",
    "image_end": "<image_end>",
    "image_break": "<image_break>",
    "vision_start": "<vision_start>",
    "vision_end": "<vision_end>",
}
"""Special tokens by their role."""


@dataclass(frozen=True)
class Family:
    """What a family needs beside SIZES.

    Args:
        config: settings of its configuration; those of a part of it as a dictionary.
        processing: of its processor.
        image_processing: of its image processor.
        image_attributes: of its image processor, that its class does not name.
        video: of its video processor.
        tokens: special tokens by their role.
        more_tokens: special tokens without one.
        patch: stands for a part of a picture in the token ids; "" for the processor's image token.
        picture: stands for a picture in the chat template; "" for the processor's image token.
        processor: class, where the family's mapping names none.
        images: the family whose image processor it takes.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    processing: Mapping[str, Any] = field(default_factory=dict)
    image_processing: Mapping[str, Any] = field(default_factory=dict)
    image_attributes: Mapping[str, Any] = field(default_factory=dict)
    video: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    more_tokens: tuple[str, ...] = ()
    patch: str = ""
    picture: str = ""
    processor: str = ""
    images: str = ""


KNOWN = ("bos", "eos", "pad", "unk", "convert")
"""Roles of tokens that every tokenizer has."""


def _rope(*sections: int) -> dict[str, Any]:
    """Positions of text, height and width in an attention head."""
    return {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": list(sections)}


def _mrope(*sections: int) -> dict[str, Any]:
    return {"text_config": {"rope_parameters": _rope(*sections)}}


GRID = [[PIXELS, PIXELS], [PIXELS, 2 * PIXELS]]
UNSPLIT = {
    "size": {"longest_edge": PIXELS},
    "max_image_size": {"longest_edge": PIXELS},
    "do_image_splitting": False,
}

OVERRIDES: dict[str, Family] = {
    "aria": Family(
        config={
            "vision_config": {"image_size": 980, "patch_size": 98},
            "projector_patch_to_query_dict": {100: 4},
            "max_value_projector_patch_to_query_dict": 4,
        },
        processing={"size_conversion": {980: 4}},
    ),
    "gemma4_unified": Family(config={"vision_config": {"model_type": "gemma4_unified_vision"}}),
    "ovis2": Family(
        config={"visual_indicator_token_ids": [80, 81, 82, 83, 84], "vision_config": {"hidden_stride": 1}},
        processing={"image_seq_length": 16},
        patch="<IMG_ATOM>",
    ),
    "glm5_next": Family(config={"text_config": {"qk_rope_head_dim": 0}}),
    "molmo2": Family(
        config={"adapter_config": {"vision_feature_layer": [2, 1]}, "vision_config": {"num_position_embeddings": 16}},
        image_processing={"size": {"height": PIXELS, "width": PIXELS}, "overlap_margins": [1, 1]},
    ),
    "vipllava": Family(config={"vision_feature_layers": [-1, -2, -3]}),
    "video_llava": Family(
        processing={"num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"},
        image_processing={"size": {"shortest_edge": PIXELS}, "crop_size": {"height": PIXELS, "width": PIXELS}},
    ),
    "step3p7": Family(config={"text_config": {"sliding_window": 16}}),
    **dict.fromkeys(("muse_glimmer", "muse_spark"), Family(config={"out_hidden_size": 4 * WIDTH})),
    "mllama": Family(
        config={
            "text_config": {"cross_attention_layers": [1, 3]},
            "vision_config": {
                "num_global_layers": 2,
                "intermediate_layers_indices": [1, 2],
                "vision_output_dim": 3 * WIDTH,
            },
        }
    ),
    "minicpm_ocr": Family(config={"insert_layer_id": 1}),
    "minicpmv4_7": Family(config={"insert_layer_id": 1}),
    "minicpmv4_6": Family(config={"insert_layer_id": 1}),
    "got_ocr2": Family(
        config={"vision_config": {"image_size": 1024, "patch_size": 16}},
        image_processing={"size": {"height": 1024, "width": 1024}},
    ),
    "cohere2_vision": Family(image_processing={"patch_size": 2}),
    "cohere_compass": Family(
        config={"text_config": {"rope_parameters": {"full_attention": _rope(2, 3, 3)}}},
        tokens={"image": "<|IMAGE_PAD|>"},
    ),
    "cosmos3_edge": Family(config=_mrope(2, 3, 3)),
    "deepseek_vl": Family(processing={"num_image_tokens": 16}),
    "deepseek_vl_hybrid": Family(
        config={"high_res_vision_config": {"image_size": 1024, "patch_size": 64}}, processing={"num_image_tokens": 16}
    ),
    "ernie4_5_vl_moe": Family(config=_mrope(3, 3, 2), video={"font": ""}),
    "fuyu": Family(more_tokens=("|SPEAKER|", "|NEWLINE|", "<s>")),
    "aya_vision": Family(
        config={"downsample_factor": 2, "vision_config": {"image_size": PIXELS}},
        processing={"img_size": PIXELS, "downsample_factor": 2},
        more_tokens=("TILE_GLOBAL", "TILE_1", "TILE_2"),
        patch="<|IMG_PATCH|>",
    ),
    "gemma3": Family(patch="<image>"),
    "gemma4": Family(
        config={
            "vision_config": {"model_type": "gemma4_vision"},
            "text_config": {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 16},
        },
        image_processing={"max_soft_tokens": 70},
    ),
    "glm46v": Family(config=_mrope(2, 3, 3)),
    "glm4v": Family(config=_mrope(2, 3, 3)),
    "glm4v_moe": Family(config=_mrope(1, 1, 2), images="glm4v"),
    "glm_ocr": Family(config=_mrope(2, 3, 3), images="glm46v", processor="Glm46VProcessor"),
    "glmga": Family(config=_mrope(2, 3, 3), processor="Glm46VProcessor"),
    "granite_docling": Family(
        config={"scale_factor": 1},
        processing={"image_seq_len": 1},
        image_processing={"size": {"height": PIXELS, "width": PIXELS}},
    ),
    "hunyuan_vl": Family(
        config={"text_config": {"head_dim": 16, "rope_parameters": _rope(2, 3, 3)}},
        picture="<image_start><image><image_end>",
    ),
    "idefics2": Family(
        config={"perceiver_config": {"resampler_n_latents": 4}}, image_processing={"do_image_splitting": False}
    ),
    "idefics3": Family(config={"scale_factor": 2}, image_processing=UNSPLIT),
    "janus": Family(processing={"num_image_tokens": 16}),
    "kosmos-2": Family(processor="Kosmos2Processor"),
    "kosmos-2.5": Family(processor="Kosmos2_5Processor"),
    "lfm2_vl": Family(
        config={
            "vision_config": {"patch_size": 16},
            "text_config": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
        }
    ),
    "llava_onevision": Family(
        config={"image_grid_pinpoints": GRID},
        processing={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
        image_processing={"image_grid_pinpoints": GRID},
    ),
    "llama4": Family(
        config={"vision_config": {"intermediate_size": 4 * WIDTH, "vision_output_dim": WIDTH}}, patch="<|patch|>"
    ),
    "mistral3": Family(processing={"spatial_merge_size": 2}),
    "mistral_large4": Family(processing={"spatial_merge_size": 2}),
    "paddleocr_vl": Family(config=_mrope(2, 3, 3)),
    "paligemma": Family(config={"projection_dim": WIDTH}, image_attributes={"image_seq_length": 16}),
    "qwen2_5_vl": Family(config=_mrope(2, 3, 3)),
    "qwen2_vl": Family(config=_mrope(2, 3, 3)),
    "qwen4_exp": Family(
        config={
            "text_config": {
                "rope_parameters": _rope(2, 3, 3),
                "indexer_kv_heads": 1,
                "indexer_budget": 16,
                "indexer_compress_ratio": 4,
                "indexer_n_heads": HEADS,
                "indexer_head_dim": 16,
            }
        }
    ),
    "qwen3_vl_moe": Family(images="qwen3_vl"),
    "t5gemma2": Family(patch="<image>"),
    "smolvlm": Family(config={"scale_factor": 2}, image_processing=UNSPLIT),
}
