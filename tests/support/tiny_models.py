"""Small model folders: of other families, with random weights (Gemma 3, Idefics3, LLaVA), and a model that thinks."""

import shutil
from pathlib import Path
from typing import Any

from support.project import ROOT

TEMPLATE = (
    "{{% for message in messages %}}{{{{ message['role'] }}}} {{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{image}{{% else %}}{{{{ part['text'] }}}} {{% endif %}}"
    "{{% endfor %}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}assistant {{% endif %}}"
)
# As those of Qwen3.5 and GLM-4.5V, in the field guide's vocabulary.
THINKING = """
{%- for message in messages %}<|im_start|>{{ message['role'] }} {% for part in message['content'] -%}
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }} {% endif %}
{%- endfor %}<|im_end|>{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant {% if enable_thinking is defined and not enable_thinking -%}
<think> </think> {% else %}<think>
{% endif %}{% endif %}"""
REFUSAL = "{{ raise_exception('System role not supported') }}"  # as Gemma 2 answers a system message

WIDTH, PIXELS, PATCH = 48, 56, 14
SPREAD = 0.25  # of the weights: wide enough for answers to depend on the picture


def tiny_model(folder: Path, family: str) -> Path:
    """Writes a model of `family` to `folder`: weights, tokenizer, image processor, chat template."""
    import torch
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "fieldguide", padding_side="left")
    model, processor = {"gemma3": _gemma3, "idefics3": _idefics3, "llava": _llava}[family](tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=SPREAD)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.update(eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=True, top_k=0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def thinking_model(folder: Path, system: str = "") -> Path:
    """Writes the field guide's model with a chat template that opens <think>, unless enable_thinking is false.

    `system`: what the template does instead with a system message, where it does not render it.
    """
    shutil.copytree(ROOT / "models" / "fieldguide", folder)
    template = THINKING
    if system:
        message = "{%- for message in messages %}"
        template = template.replace(
            message, message + "{% if message['role'] == 'system' %}" + system + "{% else %}"
        ).replace("<|im_end|>{% endfor %}", "<|im_end|>{% endif %}{% endfor %}")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": WIDTH // 4,
        "max_position_embeddings": 512,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
    } | more


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": PIXELS,
        "patch_size": PATCH,
    } | more


def _gemma3(tokenizer: Any) -> tuple[Any, Any]:
    """With layers whose window is shorter than the prompt, and one that sees all of it."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer.add_special_tokens({"additional_special_tokens": list(names.values())})
    for name, token in names.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    tokenizer.init_kwargs |= names
    text = _text(
        tokenizer,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        query_pre_attn_scalar=WIDTH // 4,
    )
    config = Gemma3Config(
        text_config=text,
        tie_word_embeddings=False,
        vision_config=_vision(),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    images = Gemma3ImageProcessorPil(size={"height": PIXELS, "width": PIXELS}, do_pan_and_scan=False)
    template = TEMPLATE.format(image=names["boi_token"])
    return Gemma3ForConditionalGeneration(config), Gemma3Processor(images, tokenizer, template, image_seq_length=4)


def _idefics3(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    images = Idefics3ImageProcessorPil(
        size={"longest_edge": PIXELS}, max_image_size={"longest_edge": PIXELS}, do_image_splitting=False
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE.format(image="<image>"))
    config = Idefics3Config(
        text_config=_text(tokenizer, model_type="llama"),
        vision_config=_vision(),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return Idefics3ForConditionalGeneration(config), processor


def _llava(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    images = CLIPImageProcessorPil(size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE.format(image="<image>"),
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_vision()),
        text_config=LlamaConfig(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(PIXELS // PATCH) ** 2,
    )
    return LlavaForConditionalGeneration(config), processor
