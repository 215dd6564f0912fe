"""The base model before training: the very classes of Qwen2.5-VL, two million parameters, a vocabulary of words."""

from typing import Any

from pipeline.datasets.drawing import SIZE
from pipeline.fieldguide.demonstrations import words

SPECIAL = (
    "<pad>",
    "<unk>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }} {% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


def new_processor() -> Any:
    """Image processor, word-level tokenizer and chat template."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from pipeline.engines.common.image_only import VideoSettings, image_only

    vocabulary = [*SPECIAL, "user", "assistant", *words()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(r"[.?|,]"), "isolated"),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL[2:]),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
        patch_size=14,
        temporal_patch_size=2,
        merge_size=2,
    )
    with image_only():
        # Qwen2.5-VL's own processor class requires a video part; this one has the settings of its class.
        videos = VideoSettings(video_processor_type="Qwen2VLVideoProcessor")
        return Qwen2_5_VLProcessor(images, fast, videos, chat_template=CHAT_TEMPLATE)


def new_model(tokenizer: Any, seed: int) -> Any:
    """A `Qwen2_5_VLForConditionalGeneration` with random weights, in float32."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    token = tokenizer.convert_tokens_to_ids
    width, layers, heads = 128, 4, 4
    # 0.02, the usual spread, is too small for layers this narrow: the choice of a letter never leaves chance.
    spread = 0.08
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "initializer_range": spread,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<pad>"),
        },
        vision_config={
            "depth": layers,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_heads": heads,
            "out_hidden_size": width,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": list(range(layers)),
            "initializer_range": spread,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="eager")
    end, pad = token("<|im_end|>"), token("<pad>")
    # Servers that take no settings with a request, such as `transformers serve`, sample by these.
    model.generation_config.update(eos_token_id=end, pad_token_id=pad, do_sample=True, top_k=0)
    return model
