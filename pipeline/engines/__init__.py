"""Engines draw answers: images and questions in, text out. One file each; stages know only what stands here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One picture with one question."""

    image_id: str
    image: bytes  # JPEG or PNG
    question: str


@dataclass(frozen=True)
class Sampler:
    """How tokens are drawn; every setting explicit. A temperature of 0 is greedy decoding."""

    temperature: float
    top_p: float  # 1 = off
    top_k: int  # 0 = off
    repetition_penalty: float  # 1 = off
    max_new_tokens: int
    seed: int


GREEDY = 0.0


@dataclass(frozen=True)
class Completion:
    """One draw, verbatim. `finished` is False where the length limit cut it off; `error` says why there is no text."""

    image_id: str
    draw: int
    text: str
    tokens: int
    finished: bool
    error: str | None = None


class Engine(Protocol):
    def draw(self, requests: Sequence[Request], count: int, sampler: Sampler) -> Iterator[list[Completion]]:
        """Draws 0 … count − 1 for each request, in the order of the requests, a batch of images at a time."""
