"""Low-rank adapters: folders of additions to the weights of a base model, opened without merging them."""

import json
import warnings
from pathlib import Path
from typing import Any

from pipeline.core.params import UserError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def base_of(source: str) -> str | None:
    """The base model of the adapter in a folder, a folder or hub id itself; None for a whole model, with config.json.

    Raises:
        UserError: the folder's adapter is damaged, not a low-rank one, or of a base that is an adapter itself.
    """
    file = Path(source) / CONFIG
    if not file.is_file() or file.with_name("config.json").exists():
        return None
    try:
        config = json.loads(file.read_bytes())
        kind, base = config["peft_type"], config["base_model_name_or_path"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: cannot be read ({type(error).__name__}); `dvc repro train` writes it again") from None
    if kind != "LORA" or not isinstance(base, str) or not base:
        raise UserError(f"{source}: its adapter is {kind} of {base!r}; expected LORA, of a model folder or a hub id")
    if not Path(base, "config.json").exists() and Path(base, CONFIG).is_file():
        raise UserError(f"{source}: its base {base} is an adapter itself; expected a whole model")
    return base


def with_adapter(base: Any, source: str) -> Any:
    """The base model with the additions of the adapter in `source` in its layers, in float32, for inference."""
    from peft import PeftModel

    if not (Path(source) / WEIGHTS).is_file():  # peft would take pickled weights instead, which could run code
        raise UserError(f"{source}: it has no {WEIGHTS}; `dvc repro train` writes it again")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        return PeftModel.from_pretrained(base, source).get_base_model()
