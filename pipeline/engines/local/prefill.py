"""Prefills prompts: one forward pass for all draws of an image; a second question reuses the prefill of its picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.engine import Request
from pipeline.engines.common.prompt_lengths import PromptLengths, process
from pipeline.engines.local.text_attention import require_no_encoder
from pipeline.method.chat import Chat


@dataclass(frozen=True)
class Prefill:
    """Prompts that the model has read.

    Args:
        ids: token ids, (images, length), padded on the left.
        mask: which of them count, bool of the same shape.
        positions: (…, images, length), as the family counts them (Qwen2.5-VL: text, time, height, width).
        layers: keys and values of each layer, (images, key-value heads, length, head size).
        logits: after the last token, (images, vocabulary).
        windowed: whether a layer sees the last tokens only.
    """

    ids: Any
    mask: Any
    positions: Any
    layers: list[tuple[Any, Any]]
    logits: Any
    windowed: bool

    def unpadded(self) -> Any:
        """`ids` with every padding token replaced by one of the prompt's own."""
        return self.ids.where(self.mask, self.ids[:, -1:])


@dataclass(frozen=True)
class PicturePrefill:
    """A prefill to reuse for other questions about its pictures.

    Args:
        ends: of each row, the slot behind its picture.
        places: the row of each image.
    """

    prefill: Prefill
    ends: list[int]
    places: dict[str, int]


class PromptReader:
    """Reads prompts with a model.

    Args:
        model: an image-text-to-text model of transformers.
        processor: its processor.
        max_reuse_tokens: tokens of prompts whose prefill is kept for another question.
        chat: what stands around every question.
    """

    def __init__(self, model: Any, processor: Any, max_reuse_tokens: int, chat: Chat):
        self.model, self.processor, self.max_reuse_tokens, self.chat = model, processor, max_reuse_tokens, chat
        self.picture_prefills: list[PicturePrefill] = []
        self.lengths = PromptLengths(processor, chat)
        self._prompts: dict[str, str] = {}
        self._texts: dict[str, list[int]] = {}

    def read(self, requests: Sequence[Request], pictures: Sequence[Any]) -> Prefill:
        """Reads the prompts of all requests, whose pictures are in one stored prefill (`place_of`) or in none."""
        place = self.place_of(requests[0])
        if place >= 0:
            return self._read_on(self.picture_prefills[place], requests)
        prefill = self._read_all(self.inputs(requests, pictures))
        if any(request.keep_prefill for request in requests):
            self._store(prefill, requests)
        return prefill

    def place_of(self, request: Request) -> int:
        """The place of the stored prefill with this request's picture; -1 if there is none."""
        places = (n for n, prefill in enumerate(self.picture_prefills) if request.image_id in prefill.places)
        return next(places, -1)

    def length(self, request: Request) -> int:
        """Tokens of a prompt, nearly exact. Raises ValueError for a picture that cannot be read."""
        return self.lengths.of(request)

    def inputs(self, requests: Sequence[Request], pictures: Sequence[Any]) -> dict[str, Any]:
        """What the model reads: token ids and attention mask of shape (images, longest prompt), pixels by patch."""
        prompts = [f"{self.prompt(request.question)}{request.prefix}" for request in requests]
        return dict(process(self.processor, prompts, pictures).to(self.model.device, dtype=self.model.dtype))

    def prompt(self, question: str) -> str:
        """The chat template around `question`."""
        if question not in self._prompts:
            self._prompts[question] = self.chat.prompt(self.processor, question)
        return self._prompts[question]

    def _read_all(self, inputs: dict[str, Any]) -> Prefill:
        """One forward pass over whole prompts.

        Raises NotImplementedError where the layers remember more of them than keys and values of their own.
        """
        from transformers import DynamicCache

        require_no_encoder(self.model)
        config = self.model.config.get_text_config()
        if "chunked_attention" in (getattr(config, "layer_types", None) or ()):  # its cache looks like a window's
            raise NotImplementedError("chunked attention cannot share a prompt")
        ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        positions = self.model._prepare_position_ids_for_generation(ids, {"attention_mask": mask, **inputs})
        cache = DynamicCache(config=config)
        prepared = self.model.prepare_inputs_for_generation(
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            is_first_iteration=True,
            use_cache=True,
            logits_to_keep=1,
            **inputs,
        )
        logits = self.model(**prepared).logits[:, -1]
        if fault := next(filter(None, map(_fault, cache.layers)), ""):
            raise NotImplementedError(f"{fault} cannot share a prompt")
        windowed = any(layer.is_sliding for layer in cache.layers)
        return Prefill(ids, mask.bool(), positions, _layers(cache), logits, windowed)

    def _read_on(self, before: PicturePrefill, requests: Sequence[Request]) -> Prefill:
        """One forward pass over the text after the picture, whose prefill comes from another question."""
        import torch
        from transformers import DynamicCache

        first, device = before.prefill, self.model.device
        places = [before.places[request.image_id] for request in requests]
        rows = torch.tensor(places, device=device)
        ends = torch.tensor([before.ends[place] for place in places], device=device)[:, None]
        rest = self.processor.tokenizer.pad(
            {"input_ids": [self._after_picture(request) for request in requests]},
            padding_side="left",
            return_tensors="pt",
        ).to(device)
        # The first question keeps its slots, masked.
        visible = first.mask[rows] & (torch.arange(first.mask.shape[1], device=device) < ends)
        mask = torch.cat([visible, rest["attention_mask"].bool()], dim=1)
        count = rest["attention_mask"].cumsum(-1).sub(1).clamp(min=0)
        after = first.positions[..., rows, :].gather(-1, ends.expand(*first.positions.shape[:-2], -1, -1)) + count
        cache = DynamicCache()
        for number, (keys, values) in enumerate(first.layers):
            cache.update(keys[rows], values[rows], number)
        logits = self.model(
            input_ids=rest["input_ids"],
            attention_mask=mask.long(),
            position_ids=after,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        ids = torch.cat([first.ids[rows], rest["input_ids"]], dim=1)
        return Prefill(ids, mask, after, _layers(cache), logits, windowed=False)

    def _store(self, prefill: Prefill, requests: Sequence[Request]) -> None:
        """Stores a prefill, and drops the oldest if there are too many."""
        ends = self._ends(prefill.ids, requests)
        # A window counts slots, and the first question's stay between the picture and the second.
        if ends and not prefill.windowed:
            self.picture_prefills.append(
                PicturePrefill(prefill, ends, {request.image_id: place for place, request in enumerate(requests)})
            )
        while sum(one.prefill.ids.numel() for one in self.picture_prefills) > self.max_reuse_tokens:
            self.picture_prefills.pop(0)

    def _ends(self, ids: Any, requests: Sequence[Request]) -> list[int]:
        """The slot behind each picture. Empty where what follows it is not tokenized apart from it."""
        ends: list[int] = []
        if not hasattr(self.processor, "image_token"):
            return ends
        for row, request in zip(ids.tolist(), requests, strict=True):
            rest = self._after_picture(request)
            if row[len(row) - len(rest) :] != rest:
                return []
            ends.append(len(row) - len(rest))
        return ends

    def _after_picture(self, request: Request) -> list[int]:
        """Token ids of the prompt behind the picture."""
        _, _, text = self.prompt(request.question).rpartition(self.processor.image_token)
        text += request.prefix
        if text not in self._texts:
            self._texts[text] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._texts[text]


def _fault(layer: Any) -> str:
    """Why draws cannot share what a layer remembers of their prompt; "" if they can."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized:
        return ""
    # By name, since transformers 5.20, beside which vLLM 0.33 installs, has no such class.
    if type(layer).__name__ == "DummyLayer" or getattr(layer, "keys", layer) is None:
        return "layers with the keys and values of another"
    states = getattr(layer, "recurrent_states", None)
    if states is None:
        return f"layers with a {type(layer).__name__}"
    return "convolutions" if all(state is None for state in states.values()) else "linear attention layers"


def _layers(cache: Any) -> list[tuple[Any, Any]]:
    return [(layer.keys, layer.values) for layer in cache.layers]
