"""Draws in this process, with a vision-language model of transformers; a prompt is read once for all of its draws.

A batch of prompts is read with the model's ordinary forward pass and then decoded, a row for each (image, draw): the
prompts' keys and values stay where they are (`shared_prefix`), finished rows leave, and every token is chosen with its
draw's own noise (`tokens`). A second question about the same picture goes on from what was read of the first.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

from pipeline.engines import Completion, Request, Sampler
from pipeline.loading import content, load_model, load_processor
from pipeline.params import UserError
from pipeline.pictures import picture, size
from pipeline.prompts import chat

# Raised when the same request and sampler give other draws than before: draws are kept under it.
VERSION = 1


@dataclass(frozen=True)
class Reading:
    """Prompts that the model has read.

    Args:
        ids: token ids, (images, length), padded on the left.
        mask: which of them count, bool of the same shape.
        positions: (…, images, length), as the family counts them (Qwen2.5-VL: text, time, height, width).
        layers: keys and values of each layer, (images, key-value heads, length, head size).
        logits: after the last token, (images, vocabulary).
    """

    ids: Any
    mask: Any
    positions: Any
    layers: list[tuple[Any, Any]]
    logits: Any

    def unpadded(self) -> Any:
        """`ids` with every padding token replaced by one of the prompt's own."""
        return self.ids.where(self.mask, self.ids[:, -1:])


@dataclass(frozen=True)
class Kept:
    """A reading whose pictures will be asked about again; by image, its place and the slot behind its picture."""

    reading: Reading
    ends: list[int]
    places: dict[str, int]


class TransformersEngine:
    """Any image-text-to-text model of transformers that takes one picture and a chat. It is loaded when first needed.

    Args:
        source: model folder or hub id.
        dtype: `float32`, `bfloat16` or `float16`.
        attention: how prompts are read: `eager`, `sdpa` or `flash_attention_2`.
        max_rows: draws that are decoded side by side.
        max_tokens: tokens whose keys and values are held at once, completions counted at their full length; half as
            many again for pictures that will be asked about again. Shrinks when memory runs out.
        threads: CPU threads; 0 leaves torch's choice.
    """

    def __init__(self, source: str, dtype: str, attention: str, max_rows: int, max_tokens: int, threads: int):
        self.source, self.dtype, self.attention = source, dtype, attention
        self.max_rows, self.max_tokens, self.threads = max_rows, max_tokens, threads
        self.kept: list[Kept] = []
        self._prompts: dict[str, str] = {}
        self._questions: dict[str, list[int]] = {}
        self._picture_lengths: dict[tuple[int, int], int] = {}

    @cached_property
    def processor(self) -> Any:
        return load_processor(self.source)

    @cached_property
    def model(self) -> Any:
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        return load_model(self.source, self.dtype, self.attention)

    def fingerprint(self) -> dict[str, str]:
        return {
            "engine": f"transformers/{VERSION}",
            "transformers": version("transformers"),
            "dtype": self.dtype,
            "model": content(self.source),
        }

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        # The longest first: what does not fit shows at once, and what is left after a stop is batched as before.
        todo = sorted(requests, key=lambda request: (self._kept_for(request), -self._length(request)))
        while todo:
            batch, rest = self._take(todo, sampler)
            try:
                done = self._batch(batch, sampler)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                done = None
            # Outside of the handler, where nothing refers to the batch's tensors any more.
            if done is None:
                self._shrink(batch, sampler)
            else:
                todo = rest
                yield done

    def _take(self, todo: list[Request], sampler: Sampler) -> tuple[list[Request], list[Request]]:
        """The next batch and what is left: as many draws as both limits allow, at least one."""
        batch: list[Request] = []
        rows, longest = 0, 0
        for place, request in enumerate(todo):
            longest = max(longest, self._length(request))
            room = (self.max_tokens - (len(batch) + 1) * longest) // sampler.max_new_tokens
            room = min(self.max_rows, room) - rows
            if batch and (room < len(request.draws) or self._kept_for(request) != self._kept_for(batch[0])):
                return batch, todo[place:]
            room = max(1, room)
            if room < len(request.draws):
                later = replace(request, draws=request.draws[room:])
                return [replace(request, draws=request.draws[:room])], [later, *todo[place + 1 :]]
            batch.append(request)
            rows += len(request.draws)
        return batch, []

    def _shrink(self, batch: list[Request], sampler: Sampler) -> None:
        """Makes room after memory ran out over `batch`. Raises UserError where a single draw is too much."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rows = sum(len(request.draws) for request in batch)
        if self.kept:
            self.kept = []
        elif rows == 1:
            raise UserError(
                f"{self.source}: out of memory with a single draw of at most {sampler.max_new_tokens} tokens; "
                "take a smaller model, dtype or max_new_tokens, or draw from a server (docs/scale.md)"
            )
        else:
            self.max_rows = rows // 2
        print(f"out of memory with {rows} draws side by side; going on with {self.max_rows}", file=sys.stderr)

    def _batch(self, requests: Sequence[Request], sampler: Sampler) -> list[Completion]:
        """All draws of one batch; a picture that cannot be opened is an error, draw by draw."""
        import torch

        readable, pictures, done = [], [], []
        for request in requests:
            try:
                pictures.append(picture(request.image))
                readable.append(request)
            except (OSError, ValueError, SyntaxError) as error:
                reason = f"picture cannot be opened: {error}"
                done += [Completion(request.image_id, draw, "", 0, False, reason) for draw in request.draws]
        if not readable:
            return done
        with torch.inference_mode():
            reading = self._read(readable, pictures)
            return done + self._decode(readable, reading, sampler)

    def _read(self, requests: Sequence[Request], pictures: Sequence[Any]) -> Reading:
        known = self._kept_for(requests[0])
        if known >= 0:
            return self._read_on(self.kept[known], requests)
        reading = self._read_all(self.inputs(requests, pictures))
        ends = self._ends(reading.ids, requests) if any(request.followed for request in requests) else []
        # A sliding window that has moved on no longer holds the whole picture.
        if ends and all(keys.shape[2] == reading.ids.shape[1] for keys, _ in reading.layers):
            self._keep(Kept(reading, ends, {request.image_id: place for place, request in enumerate(requests)}))
        return reading

    def inputs(self, requests: Sequence[Request], pictures: Sequence[Any]) -> Any:
        """What the model reads: token ids and attention mask of shape (images, longest prompt), pixels by patch."""
        prompts = [self._prompt(request.question) for request in requests]
        return self.processor(text=prompts, images=list(pictures), padding=True, return_tensors="pt")

    def _read_all(self, inputs: Any) -> Reading:
        """One forward pass over whole prompts."""
        from transformers import DynamicCache

        inputs = dict(inputs.to(self.model.device, dtype=self.model.dtype))
        ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        positions = self.model._prepare_position_ids_for_generation(ids, {"attention_mask": mask, **inputs})
        cache = DynamicCache(config=self.model.config.get_text_config())
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
        return Reading(ids, mask.bool(), positions, _layers(cache), logits)

    def _read_on(self, kept: Kept, requests: Sequence[Request]) -> Reading:
        """One forward pass over what follows the picture, which was read with another question."""
        import torch
        from transformers import DynamicCache

        first, device = kept.reading, self.model.device
        places = [kept.places[request.image_id] for request in requests]
        rows = torch.tensor(places, device=device)
        ends = torch.tensor([kept.ends[place] for place in places], device=device)[:, None]
        rest = self.processor.tokenizer.pad(
            {"input_ids": [self._after_picture(request.question) for request in requests]},
            padding_side="left",
            return_tensors="pt",
        ).to(device)
        # The first question stays in its slots, out of sight.
        before = first.mask[rows] & (torch.arange(first.mask.shape[1], device=device) < ends)
        mask = torch.cat([before, rest["attention_mask"].bool()], dim=1)
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
        return Reading(ids, mask, after, _layers(cache), logits)

    def _decode(self, requests: Sequence[Request], reading: Reading, sampler: Sampler) -> list[Completion]:
        """Draws token after token until every row has ended."""
        import torch

        from pipeline.engines.shared_prefix import Prefix, completion_cache, shared_prefix_attention
        from pipeline.engines.tokens import Chooser

        device = self.model.device
        draws = [(request.image_id, draw) for request in requests for draw in request.draws]
        owner = torch.tensor([place for place, request in enumerate(requests) for _ in request.draws], device=device)
        prefix = Prefix(reading.layers, reading.mask, owner)
        choose = Chooser(sampler, draws, reading.unpadded()[owner])
        has_ended = self._endings(sampler.stop)
        cache = completion_cache()
        logits, positions = reading.logits[owner], reading.positions[..., owner, -1:]
        drawn = torch.zeros(len(draws), sampler.max_new_tokens, dtype=torch.int64, device=device)
        lengths = torch.zeros(len(draws), dtype=torch.int64, device=device)  # 0 while a draw goes on
        rows = torch.arange(len(draws), device=device)  # those still decoded
        with shared_prefix_attention(self.model):
            for step in range(sampler.max_new_tokens):
                token = choose(logits, step)
                drawn[rows, step] = token
                ended = has_ended(drawn[rows, : step + 1]) & (lengths[rows] == 0)
                lengths[rows] += ended * (step + 1)
                left = (lengths[rows] == 0).nonzero()[:, 0]
                if not len(left) or step + 1 == sampler.max_new_tokens:
                    break
                # Letting rows go copies what the others hold, so it waits until it saves a quarter.
                if len(left) <= 0.75 * len(rows):
                    rows, token, positions = rows[left], token[left], positions[..., left, :]
                    choose.keep(left)
                    prefix.keep(left)
                    cache.batch_select_indices(left)
                positions = positions + 1
                logits = self.model(
                    input_ids=token[:, None],
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    prefix=prefix,
                ).logits[:, -1]
        ids = zip(draws, drawn.tolist(), lengths.tolist(), strict=True)
        return [self._completion(*draw, tokens, length, sampler.stop) for draw, tokens, length in ids]

    def _completion(
        self, image_id: str, draw: int, tokens: list[int], length: int, stop: tuple[str, ...]
    ) -> Completion:
        """`length` tokens were drawn, the one that ended the completion included; 0 where none did."""
        finished = length > 0
        tokens = tokens[:length] if finished else tokens
        text = self._decoded(tokens[:-1] if tokens[-1] in self._end_tokens else tokens)
        cuts = [text.index(mark) + len(mark) for mark in stop if mark in text]
        return Completion(image_id, draw, text[: min(cuts, default=len(text))], len(tokens), finished)

    @property
    def _end_tokens(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [ends]

    def _endings(self, stop: tuple[str, ...]) -> Callable[[Any], Any]:
        """Tells which rows of token ids end with their last token, bool of shape (rows,)."""
        import torch

        ends = torch.tensor(self._end_tokens, device=self.model.device)
        # transformers' StopStringCriteria fails on vocabularies of words. A text has no more tokens than bytes.
        reach = max((len(mark.encode()) for mark in stop), default=0)

        def has_ended(ids: Any) -> Any:
            by_token = torch.isin(ids[:, -1], ends)
            if not stop:
                return by_token
            recent = [self._decoded(row) for row in ids[:, -reach:].tolist()]
            return by_token | torch.tensor([any(mark in text for mark in stop) for text in recent], device=ids.device)

        return has_ended

    def _decoded(self, tokens: list[int]) -> str:
        return self.processor.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _prompt(self, question: str) -> str:
        if question not in self._prompts:
            self._prompts[question] = self.processor.apply_chat_template(
                chat(question), add_generation_prompt=True, tokenize=False
            )
        return self._prompts[question]

    def _length(self, request: Request) -> int:
        """Tokens of a prompt, all but exactly; 0 for a picture that cannot be opened."""
        try:
            pixels = size(request.image)
        except (OSError, ValueError, SyntaxError):
            return 0
        if pixels not in self._picture_lengths:
            counted = self.processor._get_num_multimodal_tokens(image_sizes=[pixels])
            self._picture_lengths[pixels] = counted["num_image_tokens"][0]
        return self._picture_lengths[pixels] + len(self._after_picture(request.question))

    def _after_picture(self, question: str) -> list[int]:
        """Token ids of the prompt behind the picture."""
        if question not in self._questions:
            _, _, text = self._prompt(question).rpartition(self.processor.image_token)
            self._questions[question] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._questions[question]

    def _kept_for(self, request: Request) -> int:
        """The number of the kept reading that has this request's picture; -1 for none."""
        held = (number for number, kept in enumerate(self.kept) if request.image_id in kept.places)
        return next(held, -1)

    def _keep(self, kept: Kept) -> None:
        """Keeps a reading, and lets the oldest go where there are too many."""
        self.kept.append(kept)
        while sum(held.reading.ids.numel() for held in self.kept) > self.max_tokens // 2:
            self.kept.pop(0)

    def _ends(self, ids: Any, requests: Sequence[Request]) -> list[int]:
        """The slot behind each picture. Empty where what follows it is not tokenized apart from it."""
        ends = []
        for row, request in zip(ids.tolist(), requests, strict=True):
            rest = self._after_picture(request.question)
            if row[len(row) - len(rest) :] != rest:
                return []
            ends.append(len(row) - len(rest))
        return ends


def _layers(cache: Any) -> list[tuple[Any, Any]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "DefaultCPUAllocator" in str(error)  # memory of the CPU has no exception of its own
