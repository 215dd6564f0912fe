"""The engine protocol: pictures and questions in, completions out. The engines are in `pipeline/engines/`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.core.errors import UserError

# The number of the greedy answer among an image's draws: no noise, no temperature, no cut-off.
GREEDY = -1


@dataclass(frozen=True)
class Request:
    """One picture with one question, and the numbers of the draws to make: GREEDY, 0, 1, 2, …"""

    image_id: str
    image: bytes | None  # JPEG or PNG; None for a question about no picture, which only servers take
    question: str
    draws: Sequence[int]
    # Another question about the same picture comes next: the engine should keep its prefill.
    keep_prefill: bool = False
    # Text that every completion begins with; the model goes on from it. Servers take none.
    prefix: str = ""

    @property
    def prompt(self) -> str:
        """All that the model is given beside the picture, as one text: the question, and how the completion begins."""
        return f"{self.question}\n\n{self.prefix}" if self.prefix else self.question


@dataclass(frozen=True)
class Sampler:
    """How tokens are drawn; every setting explicit."""

    temperature: float  # above 0
    top_p: float  # 1 = off
    top_k: int  # 0 = off
    repetition_penalty: float  # 1 = off
    penalize_prompt: bool  # the penalty counts the prompt's tokens too, not the completion's alone
    max_new_tokens: int
    stop: tuple[str, ...]  # a completion ends with the first of these texts that it contains
    seed: int


def plain_sampler(max_new_tokens: int) -> Sampler:
    """A sampler that cuts nothing off and penalises nothing; for the greedy answer alone, its temperature is unused."""
    return Sampler(
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        penalize_prompt=True,
        max_new_tokens=max_new_tokens,
        stop=(),
        seed=0,
    )


@dataclass(frozen=True)
class Completion:
    """One draw, verbatim. `finished` is False where the length limit cut it off; `error` says why there is no text."""

    image_id: str
    draw: int
    text: str
    tokens: int
    finished: bool
    error: str | None = None
    # Token ids, the end mark included, where the engine reports them.
    ids: tuple[int, ...] = ()
    # Of the greedy one, where the engine reports it: probability of its answer, given the text before it.
    probability: float | None = None


def failed(request: Request, draw: int, reason: str, tokens: int = 0) -> Completion:
    """A draw that has no text, and why."""
    return Completion(request.image_id, draw, "", tokens, False, reason)


class FingerprintError(UserError):
    """The fingerprint is not what it was: draws under the former one must not stand beside those that come now."""


class Engine(Protocol):
    def fingerprint(self) -> dict[str, str]:
        """What the draws depend on beside request and sampler: the model's content, the engine and its version."""

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        """Every draw of every request exactly once, in any order, a list as soon as some are done.

        There is at most one request for an image. Raises UserError where no further draw can succeed; the
        completions before it are valid. Raises FingerprintError before the first completion, and not twice.
        """

    def close(self) -> None:
        """Releases what the engine has loaded or started. It may draw again afterwards."""
