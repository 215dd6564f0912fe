"""Whether a model understands the prompts, and can write the class names: checked before anything is drawn.

The field guide's models have a closed vocabulary, the words of its own prompts and of its 48 birds. Any other word is
one unknown token to them, so they can neither read nor write the names of other classes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.params import UserError, key, load_params
from pipeline.core.presets import preset_for

PRESET = "qwen2.5-vl-7b"  # where no other fits
BRIEF = ("brief", "brief_answer_only")  # styles in the field guide's language
LARGEST_TOKENIZER = 2**20  # bytes; the field guide's has 4 kB, a general one several MB


def closed_vocabulary(model: str) -> frozenset[str] | None:
    """The words of a model in a folder whose tokenizer knows whole words alone; None for any other model."""
    file = Path(model) / "tokenizer.json"
    try:
        if file.stat().st_size > LARGEST_TOKENIZER:
            return None
        tokenizer = json.loads(file.read_bytes())["model"]
        return frozenset(tokenizer["vocab"]) if tokenizer["type"] == "WordLevel" else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # loading the model says what is wrong with it
        return None


def require_prompt_for(model: str, prompt: str) -> None:
    """Raises UserError where a prompt in the field guide's language would be used with a model of any other."""
    if prompt not in BRIEF or closed_vocabulary(model) is not None:
        return
    is_path = model.startswith((".", "/", "~", "models/")) or model.count("/") != 1
    if Path(model).is_dir():
        what, end = "of another kind", ""
    elif not is_path:
        what, end = "a model of the hub", " (a field guide model from the hub: download it and set model to its folder)"
    else:
        return  # a folder that is not there, as loading the model says, or the name of a model that is served
    preset = preset_for(model)
    command = f"`python -m pipeline preset {preset or PRESET}`"
    advice = f"{command} sets the prompt and the lengths that it needs"
    if preset is None:
        advice = f"there is no preset for it, so take {command} and set model again"
    raise UserError(
        f"params.yaml: prompt is {prompt}, which the field guide's own models alone were trained on, and "
        f"{model} is {what}; {advice}{end}"
    )


def require_names_for(model: str, dataset: str, names: Iterable[str]) -> None:
    """Raises UserError where a class name has a word that is not in the model's closed vocabulary."""
    words, names = closed_vocabulary(model), list(names)
    unknown = [] if words is None else [name for name in names if not words.issuperset(name.split())]
    if unknown:
        raise UserError(
            f"{dataset}: {model} cannot write {len(unknown)} of {len(names)} class names, such as {unknown[0]!r}: it "
            f"knows the words of the field guide's birds alone; `python -m pipeline preset {PRESET}` sets a model that "
            "knows more, and its prompt and lengths"
        )


@dataclass(frozen=True)
class ModelParams:
    """What decides whether a model can be used at all."""

    model: str = key("model")
    prompt: str = key("prompt")


def model_faults(names_of: Mapping[str, Iterable[str]]) -> list[UserError]:
    """What speaks against the model of params.yaml, with the class names of these data sets.

    For a stage that does not depend on the model: nothing that it writes changes with it.
    """
    params = load_params(ModelParams)
    try:
        require_prompt_for(params.model, params.prompt)
        for dataset, names in names_of.items():
            require_names_for(params.model, dataset, names)
    except UserError as error:
        return [error]
    return []
