"""Which requests are answered side by side: as many draws as rows and tokens allow, of prompts that fit together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.core.engine import Completion, Request, failed


@dataclass(frozen=True)
class Batches:
    """How batches are formed, the same in one process and in several.

    Args:
        length: tokens of a request's prompt. Raises ValueError for a picture that the model does not take.
        place: which stored prefill has the request's picture; -1 where none has. A batch has one place.
        same_length: whether the prompts of a batch must have one length.
        max_tokens: prompts and completions at their full length, in one batch.
        max_new_tokens: of a completion.
    """

    length: Callable[[Request], int]
    place: Callable[[Request], int]
    same_length: bool
    max_tokens: int
    max_new_tokens: int

    def order(self, requests: Sequence[Request]) -> tuple[list[Request], list[Completion]]:
        """The requests as batches take them, and the failed draws of those whose pictures cannot be read."""
        readable, unreadable = [], []
        for request in requests:
            try:
                readable.append((self.place(request), -self.length(request), request))
            except ValueError as error:  # no picture, or one of a shape that the model does not take
                unreadable += [failed(request, draw, str(error)) for draw in request.draws]
        # The longest first: what does not fit fails at once, and a resumed run forms the same batches.
        return [request for *_, request in sorted(readable, key=lambda item: item[:2])], unreadable

    def take(self, todo: list[Request], max_rows: int) -> tuple[list[Request], list[Request]]:
        """The next batch and the rest: as many draws as both limits allow, at least one."""
        batch: list[Request] = []
        rows, longest = 0, 0
        for number, request in enumerate(todo):
            longest = max(longest, self.length(request))
            room = (self.max_tokens - (len(batch) + 1) * longest) // self.max_new_tokens
            room = min(max_rows, room) - rows
            if batch and (room < len(request.draws) or not self._fit_together(request, batch[0])):
                return batch, todo[number:]
            room = max(1, room)
            if room < len(request.draws):
                later = replace(request, draws=request.draws[room:])
                return [replace(request, draws=request.draws[:room])], [later, *todo[number + 1 :]]
            batch.append(request)
            rows += len(request.draws)
        return batch, []

    def _fit_together(self, one: Request, other: Request) -> bool:
        same_length = not self.same_length or self.length(one) == self.length(other)
        return same_length and self.place(one) == self.place(other)
