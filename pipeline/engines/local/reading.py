"""Reading prompts as `generate` does, with the family's own masks, positions and cache, and continuing from there."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from transformers.generation.utils import MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL as PICTURE_ARGUMENTS


@dataclass
class Reading:
    """Prompts that a model has read, and whatever it needs to continue them.

    Args:
        model: whose forward pass reads them: the language model in the families that hand over to one.
        ids: token ids so far, (prompts, length).
        logits: after the last token, (prompts, vocabulary).
        arguments: of the next forward pass, the cache included.
    """

    model: Any
    ids: Any
    logits: Any
    arguments: dict[str, Any]

    @property
    def cache(self) -> Any:
        """Raises NotImplementedError where there is none that can be copied."""
        cache = self.arguments.get("past_key_values")
        if not isinstance(cache, Cache):
            raise NotImplementedError("its memory of a prompt cannot be copied")
        return cache

    def select(self, places: Any) -> None:
        """Continues with these prompts only; a prompt may be named many times, and is copied then."""
        rows = len(self.ids)
        self.cache.reorder_cache(places)
        self.arguments = {name: _select(name, value, rows, places) for name, value in self.arguments.items()}
        self.ids, self.logits = self.ids[places], self.logits[places]

    def continue_with(self, tokens: Any) -> None:
        """One forward pass over the next token of every prompt, int64 of shape (prompts,)."""
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        inputs = self.model.prepare_inputs_for_generation(self.ids, next_sequence_length=1, **self.arguments)
        self._take(self.model(**inputs, return_dict=True))

    def _take(self, outputs: Any) -> None:
        self.logits = outputs.logits[:, -1]
        self.arguments = self.model._update_model_kwargs_for_generation(
            outputs, self.arguments, is_encoder_decoder=self.model.config.is_encoder_decoder
        )


def read(model: Any, inputs: dict[str, Any]) -> Reading:
    """One forward pass over whole prompts, prepared by the family's own `generate`.

    Args:
        inputs: what the processor returned, on the model's device.
    """
    result: Reading = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=1, custom_generate=_prefill)
    return result


def _prefill(
    model: Any, input_ids: Any, logits_processor: Any, stopping_criteria: Any, generation_config: Any, **arguments: Any
) -> Reading:
    """Stands in for transformers' loop over tokens."""
    inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **arguments)
    kept = {name: value for name, value in arguments.items() if name not in PICTURE_ARGUMENTS}
    reading = Reading(model, input_ids, None, kept)
    reading._take(model(**inputs, return_dict=True))
    return reading


def _select(name: str, value: Any, rows: int, places: Any) -> Any:
    """`value` for these places, if it has an entry for each of `rows`."""
    if isinstance(value, torch.Tensor):
        if name.endswith("position_ids") and value.ndim > 2:  # (axes, rows, length)
            return value[..., places, :]
        return value[places] if value.ndim and len(value) == rows else value
    if name == "encoder_outputs":
        return type(value)(**{key: _select(key, part, rows, places) for key, part in value.items()})
    return value
