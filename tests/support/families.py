"""A small random model of any family: its own classes, with sizes shrunk mechanically and a few overrides."""

import inspect
import io
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from support.engines import decode, engine_of, generate, texts
from support.family_settings import IMAGE, KNOWN, OVERRIDES, Family
from support.family_sizes import SIZES
from support.project import ROOT

from pipeline.core.engine import GREEDY, Request
from pipeline.core.params import UserError

LAYERS = 4
IMAGE_KEYS = ("image_token_id", "image_token_index")
SIDE = 10_000  # a larger `size` of an image processor counts pixels
SPREAD = 0.25  # of the weights: wide enough for answers to depend on the picture

TEMPLATE = (
    "{{% for message in messages %}}{{{{ message['role'] }}}} {{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{image}{{% else %}}{{{{ part['text'] }}}} {{% endif %}}"
    "{{% endfor %}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}assistant {{% endif %}}"
)


def family_names() -> list[str]:
    """Every image-text-to-text family of the installed transformers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def tiny_family(folder: Path, name: str) -> Path:
    """Writes a model of the family to `folder`: weights, tokenizer, image processor, chat template."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    family = OVERRIDES.get(name, Family())
    torch.manual_seed(0)
    processor = _processor(name, family)
    config = _tiny(CONFIG_MAPPING[name](), _Tokens(processor, family), family.config)
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=SPREAD)
    tokenizer = processor.tokenizer
    model.generation_config.update(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, top_k=0
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


class _Tokens:
    """Ids of tokens by their role."""

    def __init__(self, processor: Any, family: Family):
        self.tokenizer = processor.tokenizer
        self.count = len(self.tokenizer) + 8
        image = family.patch or getattr(processor, "image_token", self.tokenizer.image_token)
        of_image = self.tokenizer.convert_tokens_to_ids(image)
        self.image = of_image if family.patch else getattr(processor, "image_token_id", None) or of_image

    def __getitem__(self, role: str) -> int:
        token = getattr(self.tokenizer, f"{role}_token", None)
        return self.image if role == "image" or token is None else self.tokenizer.convert_tokens_to_ids(token)


def _tiny(config: Any, tokens: _Tokens, overrides: Mapping[str, Any]) -> Any:
    """A configuration of the same class, small."""
    from transformers import CONFIG_MAPPING

    values = {}
    own = config.to_dict()
    nested = {part: getattr(config, part, None) for part in type(config).sub_configs}
    for key, value in own.items():
        if key in nested:
            continue
        if key in SIZES and isinstance(value, int) and not isinstance(value, bool):
            values[key] = SIZES[key]
        elif key == "vocab_size":
            values[key] = tokens.count
        elif key == "num_key_value_heads" and value is not None:
            values[key] = 2 if value < own.get("num_attention_heads", value) else SIZES["num_attention_heads"]
        elif key in ("layer_types", "mlp_layer_types", "layers_block_type") and value:
            kinds = sorted(set(value), key=lambda kind: (kind in ("full_attention", "sparse"), value.index(kind)))
            values[key] = [kinds[place % len(kinds)] for place in range(LAYERS)]
        elif key in IMAGE_KEYS or (key.endswith(("_token_id", "_token_index")) and value is not None):
            values[key] = tokens[key.rsplit("_token_", 1)[0]]
        elif key == "tie_word_embeddings":
            values[key] = False
    for part, value in nested.items():
        if value is not None and part not in overrides:
            values[part] = _tiny(value, tokens, {})
    for key, value in overrides.items():
        if key in nested and isinstance(value, Mapping):
            part = nested[key] if "model_type" not in value else CONFIG_MAPPING[value["model_type"]]()
            value = _tiny(part, tokens, {name: one for name, one in value.items() if name != "model_type"})
        values[key] = value
    return type(config)(**values)


def _tokenizer(family: Family, source: str) -> Any:
    """The field guide's, with the special tokens that the source text of a processor names."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "fieldguide", padding_side="left")
    asked = {role: f"<{role}>" for role in re.findall(r'tokenizer(?:\.|, ")(\w+)_token\b', source) if role not in KNOWN}
    tokenizer.bos_token = "<|im_start|>"
    names = {f"{role}_token": token for role, token in (asked | IMAGE | family.tokens).items()}
    literals = dict.fromkeys(re.findall(r"""["'](<[^"'\s]{1,40}>|\[[A-Z_]+\]|\]<\][a-z ]+\[>\[)["']""", source))
    tokenizer.add_special_tokens({"additional_special_tokens": [*names.values(), *literals, *family.more_tokens]})
    for name, token in names.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    tokenizer.init_kwargs |= names
    return tokenizer


def _processor(name: str, family: Family) -> Any:
    import transformers
    from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    from pipeline.engines.common.image_only import VideoSettings, image_only

    kind = family.processor or PROCESSOR_MAPPING_NAMES.get(name)
    if kind is None:
        raise ValueError("transformers has no processor for it")
    processor = getattr(transformers, kind)
    tokenizer = _tokenizer(family, inspect.getsource(import_module(processor.__module__)))
    parts = {
        "image_processor": _image_processor(name, family),
        "tokenizer": tokenizer,
        "video_processor": VideoSettings(**family.video),
        "chat_template": "",
    }
    wanted = inspect.signature(processor.__init__).parameters
    if "feature_extractor" in wanted and name in FEATURE_EXTRACTOR_MAPPING_NAMES:
        parts["feature_extractor"] = getattr(transformers, FEATURE_EXTRACTOR_MAPPING_NAMES[name])()
    parts |= {key: SIZES[key] for key in ("patch_size", "image_seq_length", "image_seq_len") if key in wanted}
    parts = {key: value for key, value in parts.items() if key in wanted} | family.processing
    with image_only():
        whole = processor(**parts)
    if "chat_template" in wanted:
        image = getattr(whole, "image_token", tokenizer.image_token)
        picture = family.picture or getattr(whole, "image_placeholder_token", image)
        whole.chat_template = TEMPLATE.format(image=picture)
    return whole


def _image_processor(name: str, family: Family) -> Any:
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    kinds = IMAGE_PROCESSOR_MAPPING_NAMES.get(family.images or name)
    if not kinds:
        raise ValueError("transformers has no image processor for it")
    kind = getattr(transformers, kinds.get("pil") or kinds["torchvision"])
    size = _size(getattr(kind, "size", None))
    values = {"size": size} if size else {}
    if getattr(kind, "crop_size", None):
        values["crop_size"] = {"height": SIZES["image_size"], "width": SIZES["image_size"]}
    if getattr(kind, "patch_size", None) is not None:
        values["patch_size"] = SIZES["patch_size"]
    images = kind(**(values | family.image_processing))
    for key, value in family.image_attributes.items():
        setattr(images, key, value)
    return images


def _size(size: Any) -> dict[str, int] | None:
    """A small picture in the terms of `size`: sides, or the fewest and the most pixels."""
    if size is None:
        return None
    pixels = SIZES["image_size"]
    return dict.fromkeys(size, pixels**2 if max(size.values()) > SIDE else pixels)


def outcome(name: str, folder: Path) -> tuple[str, str]:
    """How a small model of the family draws, or "no", and why not in a faster way.

    Its greedy answers are held against `generate`, and must depend on the picture.
    """
    try:
        tiny_family(folder, name)
    except Exception as error:  # of the family's own classes
        return "no", f"not tried: no small model of it is made ({one_line(error)})"
    engine = engine_of(folder)
    try:
        assert engine.reader, "the model is loaded and tried"
    except UserError as error:
        if error.__cause__ is None:
            return "no", str(error).removeprefix(f"{folder}: ").split("; expected")[0]
        return "no", f"not tried: its small model fails in `generate` as well ({one_line(error.__cause__)})"
    draws = texts(engine, REQUESTS)
    answers = [draws[request.image_id, GREEDY] for request in REQUESTS]
    assert answers == [reference(engine, request) for request in REQUESTS], "greedy is generate's"
    assert len(set(answers)) > 1, "the answer depends on the picture"
    needs = [f"its processor needs {package}" for package in packages(name)]
    return engine.way.name, "; ".join([*filter(None, [engine.way.reason]), *needs])


def one_line(error: BaseException) -> str:
    """The first line of an error that says something, without full stops and paths."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:110] if lines else ''}".rstrip(" :.")


def packages(name: str) -> list[str]:
    """What the family's processor needs beside this project's packages."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    family = OVERRIDES.get(name, Family())
    images = IMAGE_PROCESSOR_MAPPING_NAMES.get(family.images or name)
    kind = family.processor or PROCESSOR_MAPPING_NAMES.get(name)
    file = find_spec(getattr(transformers, kind).__module__).origin if kind else None
    source = Path(file).read_text(encoding="utf-8") if file else ""
    # Pixtral's takes a function of the image processor for torchvision.
    needs_vision = (images and "pil" not in images) or "import get_resize_output_image_size" in source
    return ["torchvision"] * bool(needs_vision) + ["num2words"] * ("num2words" in source)


def reference(engine: Any, request: Request) -> str:
    """The greedy answer by `generate`, placeholders of pictures aside, which the engine never samples."""
    never = engine._placeholders or None
    tokens = generate(engine, request, do_sample=False, top_k=50, suppress_tokens=never)
    return decode(engine, tokens)


def noise(seed: int) -> bytes:
    """A picture of noise, neither square nor of the model's size."""
    import numpy
    from PIL import Image

    file = io.BytesIO()
    pixels = numpy.random.default_rng(seed).integers(0, 256, (64, 60, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


REQUESTS = [
    Request(f"picture {n}", noise(n), "Which bird is this ?" + " bird" * (n % 2), [GREEDY, 0]) for n in range(3)
]
