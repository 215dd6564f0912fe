"""Draws in this process, with a vision-language model of transformers; a prompt is read once for all of its draws.

Prompts are read with the model's ordinary forward pass and then decoded, a row for all draws of an image that are alike
so far (`decoding`). Rows attend to one copy of their prompt (`shared_prefix`), and every token has its draw's own noise
(`tokens`). A second question about a picture continues from the first one's prefill. Models that cannot do that draw in
a slower way (`ways`), with the same noise.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

from pipeline.core import timings
from pipeline.core.engine import Completion, Request, Sampler, failed
from pipeline.core.params import UserError
from pipeline.core.pictures import PictureError, picture
from pipeline.engines.common.loading import load_model, load_processor, require_vocabulary
from pipeline.engines.common.model_folder import content, out_of_memory
from pipeline.engines.local.batches import Batches
from pipeline.engines.local.completions import completions_of, continued, text_of
from pipeline.engines.local.prefill import PromptReader
from pipeline.engines.local.trial import SHORT, require_answers, trial
from pipeline.method.chat import PLAIN, Chat
from pipeline.method.thoughts import complete_thought

VERSION = 4  # Part of the cache key: raise it when the same request and sampler give different draws than before.
# Names in the configurations of the model families.
PLACEHOLDERS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


class TransformersEngine:
    """Any image-text-to-text model of transformers that takes one picture and a chat. It is loaded when first needed.

    Args:
        source: model folder or hub id.
        dtype: `float32`, `bfloat16` or `float16`.
        attention: how prompts are read: `eager`, `sdpa` or `flash_attention_2`.
        max_rows: draws that are decoded side by side.
        max_tokens: tokens whose keys and values are in memory at once, completions counted at their full length, plus
            half as many for pictures that get another question. `max_rows` shrinks when memory runs out.
        threads: CPU threads; 0 leaves torch's choice.
        chat: what stands around every question.
    """

    announces = True  # the way in which it draws

    def __init__(
        self, source: str, dtype: str, attention: str, max_rows: int, max_tokens: int, threads: int, chat: Chat = PLAIN
    ):
        self.source, self.dtype, self.attention, self.chat = source, dtype, attention, chat
        self.max_rows, self.max_tokens, self.threads = max_rows, max_tokens, threads

    @classmethod
    def of_model(cls, model: Any, processor: Any, max_rows: int, max_tokens: int, chat: Chat) -> "TransformersEngine":
        """An engine that draws from a model that is loaded already, and may change between two calls of `draw`."""
        engine = cls("", str(model.dtype).removeprefix("torch."), "", max_rows, max_tokens, 0, chat)
        engine.model, engine.processor = model, processor
        return engine

    def clear(self) -> None:
        """Drops the prefills of pictures, after a change of the weights. It makes no reader: that tries the model."""
        if "reader" in self.__dict__:
            self.reader.picture_prefills = []

    def close(self) -> None:
        """Releases the model's memory, for the next one."""
        import gc

        for name in ("reader", "way", "model"):
            self.__dict__.pop(name, None)
        gc.collect()

    @cached_property
    def processor(self) -> Any:
        return load_processor(self.source)

    @cached_property
    def model(self) -> Any:
        import torch

        from pipeline.engines.local.weight_layout import use_column_major

        if self.threads:
            torch.set_num_threads(self.threads)
        model = load_model(self.source, self.dtype, self.attention)
        use_column_major(model)
        return model

    @cached_property
    def reader(self) -> PromptReader:
        require_vocabulary(self.model, self.processor, self.source)
        self.reader = PromptReader(self.model, self.processor, self.max_tokens // 2, self.chat)  # which the trial needs
        if self.source:  # a model that is loaded elsewhere has been tried there
            require_answers(self.source, lambda request, picture: self._answer([request], [picture], SHORT))
        if self.announces:
            self.way.announce(self.model)
        return self.reader

    @cached_property
    def way(self) -> Any:
        """How the model draws: a `ways.Way`."""
        from pipeline.engines.local.ways import find_way

        with trial(self.source or self.model.config.model_type):
            return find_way(self.reader)

    def fingerprint(self) -> dict[str, str]:
        return {
            "engine": f"transformers/{VERSION}",
            "transformers": version("transformers"),
            "dtype": self.dtype,
            "model": content(self.source),
            **self.chat.fingerprint(),
        }

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        batches = Batches(
            self.reader.length,
            self.reader.place_of,
            self.way.name != "shared",  # which alone bears prompts of several lengths
            self.max_tokens,
            sampler.max_new_tokens,
        )
        todo, unreadable = batches.order(requests)
        if unreadable:
            yield unreadable
        while todo:
            batch, rest = batches.take(todo, self.max_rows)
            try:
                completions = self._batch(batch, sampler)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                completions = None
            # Outside the handler, where nothing refers to the batch's tensors any more.
            if completions is None:
                self._shrink(batch, sampler)
            else:
                todo = rest
                yield completions

    def _shrink(self, batch: list[Request], sampler: Sampler) -> None:
        """Makes room after memory ran out over `batch`. Raises UserError where a single draw is too much."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rows = sum(len(request.draws) for request in batch)
        if self.reader.picture_prefills:
            self.reader.picture_prefills = []
        elif rows == 1:
            raise UserError(
                f"{self.source}: out of memory with a single draw of at most {sampler.max_new_tokens} tokens; "
                "take a smaller model, dtype or max_new_tokens, or draw from a server (docs/scale.md)"
            )
        else:
            self.max_rows = rows // 2
        print(f"out of memory with {rows} draws side by side: continuing with {self.max_rows}", file=sys.stderr)

    def _batch(self, requests: Sequence[Request], sampler: Sampler) -> list[Completion]:
        """All draws of one batch; a picture that cannot be opened is an error, draw by draw."""
        readable, pictures, completions = [], [], []
        for request in requests:
            try:
                pictures.append(picture(request.image or b""))
                readable.append(request)
            except PictureError as error:
                completions += [failed(request, draw, str(error)) for draw in request.draws]
        timings.record(prompt_tokens=sum(self.reader.length(request) for request in readable))
        begins = {one.image_id: (one.prefix, self.reader.prompt(one.question)) for one in readable}
        for one in self._answer(readable, pictures, sampler) if readable else []:
            prefix, prompt = begins[one.image_id]
            completions.append(replace(one, text=complete_thought(continued(self.processor, prefix, one), prompt)))
        return completions

    def _answer(self, requests: Sequence[Request], pictures: Sequence[Any], sampler: Sampler) -> list[Completion]:
        import torch

        from pipeline.engines.local.decoding import Draws

        has_ended = self._endings(sampler.stop)

        def new(requests: Sequence[Request], prompts: Any) -> Draws:
            return Draws(requests, prompts, sampler, self._placeholders, has_ended)

        with torch.inference_mode():
            drawn = self.way.draw(self.reader, requests, pictures, new)
        tokenizer, ends = self.processor.tokenizer, self._end_tokens
        return [one for draws in drawn for one in completions_of(draws, tokenizer, ends, sampler.stop)]

    @property
    def _placeholders(self) -> list[int]:
        """Tokens that stand for a picture; a completion must not contain them."""
        tokens = (getattr(self.model.config, name, None) for name in PLACEHOLDERS)
        return sorted({token for token in tokens if isinstance(token, int) and token >= 0})

    @property
    def _end_tokens(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [ends]

    def _endings(self, stop: tuple[str, ...]) -> Callable[[Any], Any]:
        """The test for rows of token ids that end with their last token: (rows, tokens) → bool of shape (rows,)."""
        import torch

        ends = torch.tensor(self._end_tokens, device=self.model.device)
        # transformers' StopStringCriteria fails on vocabularies of words. A text has no more tokens than bytes.
        reach = max((len(mark.encode()) for mark in stop), default=0)

        def has_ended(ids: Any) -> Any:
            by_token = torch.isin(ids[:, -1], ends)
            if not stop:
                return by_token
            recent = [text_of(self.processor.tokenizer, row) for row in ids[:, -reach:].tolist()]
            return by_token | torch.tensor([any(mark in text for mark in stop) for text in recent], device=ids.device)

        return has_ended
