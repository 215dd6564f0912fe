"""Draws with `generate` of transformers, in this process, many images in one batch."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.engines import GREEDY, Completion, Request, Sampler
from pipeline.engines.noise import gumbel, stream
from pipeline.loading import load_model, load_processor
from pipeline.prompts import chat


def picture(image: bytes) -> Any:
    """The RGB picture in `image`. Raises OSError, ValueError or SyntaxError, as Pillow does, where there is none."""
    from PIL import Image

    return Image.open(io.BytesIO(image)).convert("RGB")


class TransformersEngine:
    """Any image-text-to-text model of transformers that takes one picture and a chat.

    Args:
        source: model folder or hub id.
        dtype: `float32`, `bfloat16` or `float16`.
        attention: `eager`, `sdpa` or `flash_attention_2`.
        max_rows: draws that are decoded side by side.
        max_images: images that are read side by side; a batch holds as many as both limits allow, at least one.
        threads: CPU threads; 0 leaves torch's choice.
    """

    def __init__(self, source: str, dtype: str, attention: str, max_rows: int, max_images: int, threads: int):
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.processor = load_processor(source)
        self.model = load_model(source, dtype, attention)
        self.max_rows, self.max_images = max_rows, max_images

    def draw(self, requests: Sequence[Request], count: int, sampler: Sampler) -> Iterator[list[Completion]]:
        size = max(1, min(self.max_images, self.max_rows // count))
        for start in range(0, len(requests), size):
            yield self._batch(requests[start : start + size], count, sampler)

    def _batch(self, requests: Sequence[Request], count: int, sampler: Sampler) -> list[Completion]:
        """One batch in the order of `requests`; a picture that cannot be opened is an error, draw by draw."""
        readable, broken = [], {}
        for place, request in enumerate(requests):
            try:
                readable.append((request, picture(request.image)))
            except (OSError, ValueError, SyntaxError) as error:
                broken[place] = f"picture cannot be opened: {error}"
        drawn = iter(self._completions(readable, count, sampler) if readable else [])
        done = []
        for place, request in enumerate(requests):
            for draw in range(count):
                failed = Completion(request.image_id, draw, "", 0, False, broken.get(place))
                done.append(failed if place in broken else next(drawn))
        return done

    def inputs(self, readable: Sequence[tuple[Request, Any]]) -> Any:
        """What the model reads: token ids and attention mask of shape (images, longest prompt), pixels by patch."""
        prompts = [
            self.processor.apply_chat_template(chat(request.question), add_generation_prompt=True, tokenize=False)
            for request, _ in readable
        ]
        return self.processor(text=prompts, images=[image for _, image in readable], padding=True, return_tensors="pt")

    def _completions(
        self, readable: Sequence[tuple[Request, Any]], count: int, sampler: Sampler
    ) -> Iterator[Completion]:
        import torch

        inputs = self.inputs(readable).to(self.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        prompt_length = inputs["input_ids"].shape[1]
        draws = [(request.image_id, draw) for request, _ in readable for draw in range(count)]
        with torch.inference_mode():
            sequences = self.model.generate(**inputs, **self._settings(sampler, draws, count, prompt_length))
        for (image_id, draw), row in zip(draws, sequences, strict=True):
            yield self._completion(image_id, draw, row[prompt_length:].tolist())

    def _settings(
        self, sampler: Sampler, draws: list[tuple[str, int]], count: int, prompt_length: int
    ) -> dict[str, Any]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        sampling = sampler.temperature != GREEDY
        # Written out, since what is left open is taken from the model folder's own generation_config.json. Temperature,
        # top-k and top-p are applied by _CountedDraw.
        own = self.model.generation_config
        config = GenerationConfig(
            do_sample=sampling,
            temperature=1.0,
            top_p=1.0,
            top_k=0 if sampling else 50,
            repetition_penalty=sampler.repetition_penalty,
            num_return_sequences=count,
            max_new_tokens=sampler.max_new_tokens,
            eos_token_id=own.eos_token_id,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        processors = LogitsProcessorList()
        if sampling:
            keys = [stream(sampler.seed, image_id, draw) for image_id, draw in draws]
            processors.append(_CountedDraw(sampler, torch.tensor(keys, device=self.model.device), prompt_length))
        return {"generation_config": config, "logits_processor": processors}

    def _completion(self, image_id: str, draw: int, tokens: list[int]) -> Completion:
        ends = self.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        length = next((i for i, token in enumerate(tokens) if token in ends), None)
        finished = length is not None
        text = self.processor.tokenizer.decode(
            tokens[:length], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return Completion(image_id, draw, text, len(tokens) if length is None else length + 1, finished)


class _CountedDraw:
    """A logits processor that makes the draw itself: temperature, top-k, top-p, then counter-based noise."""

    def __init__(self, sampler: Sampler, streams: Any, prompt_length: int):
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self.streams, self.prompt_length = streams, prompt_length
        self.warpers = LogitsProcessorList([TemperatureLogitsWarper(sampler.temperature)])
        if sampler.top_k:
            self.warpers.append(TopKLogitsWarper(sampler.top_k))
        if sampler.top_p < 1:
            self.warpers.append(TopPLogitsWarper(sampler.top_p))

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        warped = self.warpers(input_ids, scores.float())
        position = torch.full_like(self.streams, input_ids.shape[1] - self.prompt_length)
        chosen = (warped + gumbel(self.streams, position, scores.shape[1])).argmax(-1, keepdim=True)
        # Everything but the chosen token is ruled out, so that generate's own sampling has nothing left to decide.
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)
