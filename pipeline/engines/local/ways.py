"""The three ways of drawing, and which of them a model can: shared, repeated or generate.

shared: a prompt is read once, and its draws attend to one copy of its keys and values.
repeated: a prompt is read once, and what the model remembers of it is copied where its draws part.
generate: `generate` reads the prompt for every draw.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipeline.core import timings
from pipeline.core.engine import Request
from pipeline.core.errors import first_line
from pipeline.engines.common.model_folder import out_of_memory
from pipeline.engines.local.decoding import Step, decode, owners
from pipeline.engines.local.generation import generate
from pipeline.engines.local.prefill import PromptReader
from pipeline.engines.local.reading import read
from pipeline.engines.local.rows import RepeatedRows, SharedRows

NewChoices = Callable[[Sequence[Request], Any], Any]
"""Makes the choices of the draws of requests, whose prompts are token ids of shape (requests, length)."""

_announced: set[str] = set()


@dataclass(frozen=True)
class Way:
    """How a model draws, and why not in a faster way: "" for the fastest."""

    name: str
    reason: str

    def draw(
        self, reader: PromptReader, requests: Sequence[Request], pictures: Sequence[Any], new: NewChoices
    ) -> list[Any]:
        """Draws all completions of `requests`. Returns the choices of one batch of rows after the other."""
        return _DRAW[self.name](reader, requests, pictures, new)

    def announce(self, model: Any) -> None:
        """Prints and records the way, once in a process."""
        why = f" ({self.reason})" if self.reason else ""
        line = f"{model.config.model_type}: draws with `{self.name}`{why}"
        if line not in _announced:
            print(line, file=sys.stderr)
        _announced.add(line)
        timings.label(way=self.name)


def _shared(reader: PromptReader, requests: Sequence[Request], pictures: Sequence[Any], new: NewChoices) -> list[Any]:
    prefill = reader.read(requests, pictures)
    choices = new(requests, prefill.unpadded())
    decode(SharedRows(reader.model, prefill), choices)
    return [choices]


def _repeated(reader: PromptReader, requests: Sequence[Request], pictures: Sequence[Any], new: NewChoices) -> list[Any]:
    inputs = reader.inputs(requests, pictures)
    if not inputs["attention_mask"].all():  # padding would go through convolutions and recurrent states
        pairs = zip(requests, pictures, strict=True)
        return [choices for one, picture in pairs for choices in _repeated(reader, [one], [picture], new)]
    choices = new(requests, inputs["input_ids"])
    decode(RepeatedRows(read(reader.model, inputs)), choices)
    return [choices]


def _generate(reader: PromptReader, requests: Sequence[Request], pictures: Sequence[Any], new: NewChoices) -> list[Any]:
    drawn = []
    for request, picture in zip(requests, pictures, strict=True):
        inputs = reader.inputs([request], [picture])
        for draw in request.draws:
            choices = new([replace(request, draws=[draw])], inputs["input_ids"])
            generate(reader.model, inputs, choices)
            drawn.append(choices)
    return drawn


_DRAW = {"shared": _shared, "repeated": _repeated, "generate": _generate}


class _Record:
    """Chooses given tokens for every draw, in a row of its own, and records the logits before all but the first."""

    def __init__(self, tokens: Any, owner: Any):
        """`owner`: the prompt of each draw, int64 of shape (draws,)."""
        self.tokens, self.max_tokens, self.owner = tokens, len(tokens), owner
        self.logits: list[Any] = []

    def choose(self, logits: Any, step: int) -> Step:
        if step:
            self.logits.append(logits.float())
        return Step(None if step else self.owner, self.tokens[step].expand(len(self.owner)))


def find_way(reader: PromptReader) -> Way:
    """The fastest way whose logits are those of `generate`, tried on small pictures and a few tokens.

    Raises whatever `generate` raises where the model does not answer at all.
    """
    from PIL import Image

    pictures = [draw("L").resize((56, 56)).convert("RGB") for draw in (Image.linear_gradient, Image.radial_gradient)]
    requests = [Request("first", None, "What is this?", [0, 1]), Request("second", None, "What is this?", [0])]
    # The others are padded beside it where the way reads prompts of several lengths.
    longer = [Request("third", None, "What is this, and what is that?", [0])]
    ids = reader.processor.tokenizer("What is this?", add_special_tokens=False)["input_ids"][:3]
    tokens = torch.tensor(ids, device=reader.model.device)

    def new(requests: Sequence[Request], _: Any) -> _Record:
        return _Record(tokens, owners(requests, tokens.device))

    def logits(way: Way, more: Sequence[Request]) -> Any:
        """Of every row after the first token and further ones, (rows, tokens, vocabulary)."""
        batch = [*requests, *more]
        records = way.draw(reader, batch, [*pictures, pictures[0]][: len(batch)], new)
        return torch.cat([torch.stack(record.logits, dim=1) for record in records])

    reason, expected = "", None
    with torch.inference_mode():
        for name in ("shared", "repeated"):
            try:
                actual = logits(Way(name, reason), longer if name == "shared" else [])
            except Exception as error:  # layers of others raise nearly anything
                if out_of_memory(error):
                    raise
                known = isinstance(error, NotImplementedError)
                reason = first_line(error) if known else f"{type(error).__name__}: {first_line(error)[:100]}"
                continue
            # Not before: where weights are sharded, the first forward pass has to be the whole model's.
            expected = logits(Way("generate", ""), longer) if expected is None else expected
            if _agree(actual, expected[: len(actual)], reader.model.dtype):
                return Way(name, reason)
            reason = f"the logits of `{name}` are not those of `generate`"
        if expected is None:
            logits(Way("generate", ""), [])
    return Way("generate", reason)


def _agree(actual: Any, expected: Any, dtype: Any) -> bool:
    """Whether logits, (rows, tokens, vocabulary), agree to half of the digits of `dtype` in most places of a row."""
    visible = torch.isfinite(expected)
    centre = expected.where(visible, 0).mean(-1, keepdim=True)
    error = (actual - expected).where(visible, 0).norm(dim=-1)
    size = (expected - centre).where(visible, 0).norm(dim=-1)
    near = error <= torch.finfo(dtype).eps ** 0.5 * size  # not all: experts may be chosen differently by rounding
    return bool((near.float().mean(dim=1) >= 0.5).all())
