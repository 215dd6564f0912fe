"""Loads a model folder or hub id: processor, model, device, number type. Nothing else loads models."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core import timings
from pipeline.core.params import UserError, first_line

T = TypeVar("T")

OWN_CODE = {"trust_remote_code": False}
"""For every `from_pretrained`: code that a model brings along is never run; unset, transformers would ask on stdin."""

SHOWN = 3  # missing weights that a message names


def load_processor(source: str) -> Any:
    """The processor of `source`, a folder or hub id.

    The stock Qwen2.5-VL processor requires a video processor, and that requires torchvision. Where torchvision is
    absent, or the folder was written without it, the processor is built without video; elsewhere the stock class is
    used.
    """
    _require_folder(source)
    return _open(source, lambda: _processor(source))


def _processor(source: str) -> Any:
    from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer

    image_only = find_spec("torchvision") is None or _lacks_video_processor(Path(source))
    if image_only and AutoConfig.from_pretrained(source, **OWN_CODE).model_type == "qwen2_5_vl":
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **OWN_CODE)
        images = AutoImageProcessor.from_pretrained(source, **OWN_CODE)
        return image_only_processor(images, tokenizer, tokenizer.chat_template)
    return AutoProcessor.from_pretrained(source, padding_side="left", **OWN_CODE)


def image_only_processor(image_processor: Any, tokenizer: Any, chat_template: str | None) -> Any:
    """A `Qwen2_5_VLProcessor` without video processor."""
    from transformers import Qwen2_5_VLProcessor
    from transformers.processing_utils import ProcessorMixin

    class ImageOnlyQwenProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None):
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    # Saved under the stock name, so that a machine with torchvision opens the folder with the stock class.
    ImageOnlyQwenProcessor.__name__ = Qwen2_5_VLProcessor.__name__
    return ImageOnlyQwenProcessor(image_processor, tokenizer, chat_template)


def _lacks_video_processor(folder: Path) -> bool:
    settings = folder / "processor_config.json"
    return settings.is_file() and "video_processor" not in json.loads(settings.read_text(encoding="utf-8"))


def load_model(source: str, dtype: str, attention: str) -> Any:
    """The image-text-to-text model of `source` on this machine's best device, in `dtype`, for inference."""
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    if not sys.stderr.isatty():  # bars are noise in a log
        logging.disable_progress_bar()
    _require_folder(source)
    model, report = _open(
        source,
        lambda: AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,  # pickled weights could run code
            output_loading_info=True,
            **OWN_CODE,
        ),
    )
    _require_all_weights(source, report)
    model = model.to(device()).eval()
    timings.mark_ready()
    return model


def load_clip(source: str) -> tuple[Any, Any, Any]:
    """The CLIPModel of `source` on this machine's best device, in float32, with its tokenizer and image processor."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPModel
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    _require_folder(source)
    if (kind := _open(source, lambda: AutoConfig.from_pretrained(source, **OWN_CODE)).model_type) != "clip":
        raise UserError(f"{source}: the model is of type {kind}, not clip; remove it from evaluate.models")
    model, report = _open(
        source, lambda: CLIPModel.from_pretrained(source, use_safetensors=True, output_loading_info=True)
    )
    _require_all_weights(source, report)
    model = model.float().to(device()).eval()
    kinds = (AutoTokenizer, AutoImageProcessor)
    others = _open(source, lambda: [kind.from_pretrained(source, **OWN_CODE) for kind in kinds])
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


def content(source: str) -> str:
    """A hash of the model folder's files, or the revision of a hub id: whatever its answers depend on.

    Raises UserError where there is no such folder or hub id.
    """
    _require_folder(source)
    folder = Path(source)
    if not folder.is_dir():
        return _open(source, lambda: _revision(source))
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder)} {inner}\n".encode())
    return digest.hexdigest()[:32]


def local_folder(source: str) -> Path:
    """The model folder itself, or where the hub's copy of it is on this machine. Raises UserError."""
    _require_folder(source)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(_open(source, lambda: str(snapshot_download(source))))


def _revision(hub_id: str) -> str:
    from huggingface_hub import hf_hub_download

    # …/snapshots/<commit>/config.json
    return f"{hub_id}@{Path(hf_hub_download(hub_id, 'config.json')).parent.name}"


def device() -> str:
    """`cuda`, `mps` or `cpu`: the first that this machine has; with several GPUs, the one of this process."""
    import torch

    if torch.cuda.is_available():
        # Set by accelerate and torchrun. Without it all processes would load their models onto the first GPU.
        return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def computes_in_bfloat16() -> bool:
    """Whether this machine does. A CPU without the instructions emulates them, up to fifty times as slow."""
    import torch

    return device() != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_of_slow_bfloat16(precision: str) -> None:
    """Prints a warning if training is to compute in bfloat16 on a CPU that emulates it."""
    if precision == "bfloat16" and not computes_in_bfloat16():
        print(
            "params.yaml: train.precision is bfloat16, which this CPU emulates, many times slower than float32; stop "
            "the run and `dvc exp run -S train.precision=float32`",
            file=sys.stderr,
        )


def _require_folder(source: str) -> None:
    """A path differs from a hub id (`owner/name`) in that it exists, or looks like a path."""
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{source}: not a model folder, it has no config.json; `git status {source}` shows the missing files"
            )
    elif source.startswith((".", "/", "~", "models/")) or source.count("/") != 1:
        raise UserError(f"{source}: no such folder; expected {EXPECTED}")


EXPECTED = "a model folder or a hub id; set it with `dvc exp run -S model=…`, or make it with `dvc repro`"


def _open(source: str, load: Callable[[], T]) -> T:
    """Calls `load`. An incomplete folder, damaged weights or an unknown hub id is a UserError."""
    from safetensors import SafetensorError

    try:
        return load()
    except (OSError, ValueError, SafetensorError) as error:
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            raise UserError(
                f"{source}: the model brings code of its own, which is never run here; expected a model of "
                "transformers' own classes; set it with `dvc exp run -S model=…`"
            ) from error
        raise UserError(f"{source}: cannot be loaded ({first_line(error)}); expected {EXPECTED}") from error
