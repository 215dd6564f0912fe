"""Loads a model folder or hub id: processor, model, device, number type. Nothing else loads models."""

import os
import platform
import sys
from importlib.util import find_spec
from typing import Any

from pipeline.core import timings
from pipeline.core.gpus import claim
from pipeline.core.params import UserError
from pipeline.engines.common.adapters import base_of, with_adapter
from pipeline.engines.common.model_folder import EXPECTED, open_model, require_folder
from pipeline.method.prompts import chat

OWN_CODE = {"trust_remote_code": False}
"""For every `from_pretrained`: code that a model brings along is never run; unset, transformers would ask on stdin."""

NF4 = "nf4"  # 4-bit weights as in QLoRA, by bitsandbytes
SHOWN = 3  # missing weights that a message names


def load_processor(source: str) -> Any:
    """The processor of `source`, a folder or hub id, without its video part; for an adapter that of its base."""
    require_folder(source)
    source = base_of(source) or source
    processor = open_model(source, lambda: _processor(source))
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise UserError(f"{source}: its files describe no processor of text and pictures; expected {EXPECTED}")
    if not getattr(processor, "chat_template", None):
        raise UserError(f"{source}: its processor has no chat template, and takes no questions; expected {EXPECTED}")
    # Its template and tokenizer are put to use now, and not when the first prompt is read.
    text = open_model(source, lambda: processor.apply_chat_template(chat("What?"), tokenize=False))
    if not (isinstance(text, str) and open_model(source, lambda: processor.tokenizer(text)["input_ids"])):
        raise UserError(f"{source}: its tokenizer or chat template gives no prompt; copy or download it again")
    return processor


def require_vocabulary(model: Any, processor: Any, source: str) -> None:
    """Raises UserError where the tokenizer has tokens that the model does not know."""
    tokens = len(processor.tokenizer)
    embeddings = open_model(source, model.get_input_embeddings).weight.shape[0]
    if tokens > embeddings:
        raise UserError(
            f"{source}: its tokenizer has {tokens:,} tokens, and the model {embeddings:,}; copy or download it again"
        )


def _processor(source: str) -> Any:
    from transformers import AutoProcessor

    from pipeline.engines.common.image_only import image_only

    with image_only():
        return AutoProcessor.from_pretrained(source, padding_side="left", **OWN_CODE)


def load_model(source: str, dtype: str, attention: str) -> Any:
    """The image-text-to-text model of `source` on this machine's best device, for inference.

    Args:
        source: folder or hub id. Of the folder of an adapter, its base is opened with the additions, unmerged.
        dtype: of the weights; NF4 quantises those of linear layers to 4 bits.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    from pipeline.engines.common.patch_embedding import use_patch_products

    if not sys.stderr.isatty():  # bars are noise in a log
        logging.disable_progress_bar()
    require_folder(source)
    base = base_of(source)
    if base is not None:
        return open_model(source, lambda: with_adapter(load_model(base, dtype, attention), source).eval())
    model, report = open_model(
        source,
        lambda: AutoModelForImageTextToText.from_pretrained(
            source,
            **precision_of(dtype),
            attn_implementation=attention,
            use_safetensors=True,  # pickled weights could run code
            output_loading_info=True,
            **OWN_CODE,
        ),
    )
    _require_all_weights(source, report)
    use_patch_products(model)
    model = open_model(source, lambda: (model if dtype == NF4 else model.to(device())).eval())
    timings.mark_ready()
    return model


def precision_of(dtype: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` for weights of this type. Raises UserError without bitsandbytes."""
    import torch

    if dtype != NF4:
        return {"dtype": getattr(torch, dtype)}
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"params.yaml: train.weights is {NF4}, which needs bitsandbytes; install it with "
            "`python -m pip install bitsandbytes`, or set `dvc exp run -S train.weights=bfloat16`"
        )
    from transformers import BitsAndBytesConfig

    computed = torch.bfloat16 if computes_in_bfloat16() else torch.float32
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=NF4,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computed,
    )
    return {"dtype": computed, "quantization_config": quantised, "device_map": {"": device()}}


def load_clip(source: str) -> tuple[Any, Any, Any]:
    """The CLIPModel of `source` on this machine's best device, in float32, with its tokenizer and image processor."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPModel
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    require_folder(source)
    if (kind := open_model(source, lambda: AutoConfig.from_pretrained(source, **OWN_CODE)).model_type) != "clip":
        raise UserError(f"{source}: the model is of type {kind}, not clip; remove it from evaluate.models")
    model, report = open_model(
        source, lambda: CLIPModel.from_pretrained(source, use_safetensors=True, output_loading_info=True)
    )
    _require_all_weights(source, report)
    model = model.float().to(device()).eval()
    kinds = (AutoTokenizer, AutoImageProcessor)
    others = open_model(source, lambda: [kind.from_pretrained(source, **OWN_CODE) for kind in kinds])
    timings.mark_ready()
    return model, *others


def _require_all_weights(source: str, report: dict[str, Any]) -> None:
    """Raises UserError where a model lacks weights, which transformers would make up at random."""
    if missing := sorted(report["missing_keys"]):
        names = ", ".join(missing[:SHOWN]) + (" …" if len(missing) > SHOWN else "")
        raise UserError(
            f"{source}: its files lack {len(missing)} of the model's weights ({names}); copy or download it again"
        )
    if misfits := sorted(str(one[0] if isinstance(one, tuple) else one) for one in report["mismatched_keys"]):
        raise UserError(f"{source}: {misfits[0]} has another shape than config.json says; download the folder again")


def device() -> str:
    """`cuda`, `mps` or `cpu`: the first that this machine has; with several GPUs, the one of this process."""
    import torch

    if torch.version.cuda and "LOCAL_RANK" not in os.environ:  # whoever starts several processes has claimed
        claim(1)

    if torch.cuda.is_available():
        # Set by accelerate and torchrun. Without it all processes would load their models onto the first GPU.
        return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def computes_in_bfloat16() -> bool:
    """Whether this machine does. A CPU or GPU without the instructions emulates them, up to fifty times as slow."""
    import torch

    place = device()
    if place.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if place == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())  # oneDNN calls AVX512 enough, and emulates the rest
    return place != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def training_precision(precision: str) -> str:
    """float32 or bfloat16: what a setting of train.precision is on this machine."""
    if precision != "auto":
        return precision
    # Autocast of MPS has not been tried.
    return "bfloat16" if device() != "mps" and computes_in_bfloat16() else "float32"


def warn_of_slow_bfloat16(precision: str) -> None:
    """Prints a warning if training is to compute in bfloat16 on a machine that emulates it."""
    if precision == "bfloat16" and not computes_in_bfloat16():
        print(
            "params.yaml: train.precision is bfloat16, which this machine emulates, many times slower than float32; "
            "stop the run and `dvc exp run -S train.precision=auto`",
            file=sys.stderr,
        )
