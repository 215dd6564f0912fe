"""How many completions may fail: checked while they are drawn, and at the end."""

from collections.abc import Iterable, Sequence

from pipeline.core.params import UserError
from pipeline.method.class_lists import ParsedAnswer


class FailureLimit:
    """Counts failed completions, and ends a stage as soon as no further success could save it.

    Args:
        stage: to run again once the cause is mended.
        limit: share of the completions that may fail.
        most: completions that the stage makes, or an upper bound of them.
    """

    def __init__(self, stage: str, limit: float, most: int):
        self.stage, self.limit, self.most = stage, limit, most
        self.errors: list[str] = []

    def count(self, answers: Iterable[ParsedAnswer]) -> None:
        """Raises UserError where more have failed than the limit can allow, whatever comes."""
        self.errors += [answer.text for answer in answers if answer.status == "error"]
        if len(self.errors) > self.limit * self.most:
            raise _error(self.stage, self.errors, self.most, self.limit)


def require_few_errors(answers: Sequence[ParsedAnswer], limit: float, stage: str) -> None:
    """Raises UserError if more than the share `limit` of the completions failed."""
    errors = [answer.text for answer in answers if answer.status == "error"]
    if len(errors) > limit * len(answers):
        raise _error(stage, errors, len(answers), limit)


def _error(stage: str, errors: Sequence[str], most: int, limit: float) -> UserError:
    return UserError(
        f"{stage}: {len(errors)} of {most} completions failed (limit {100 * limit:g} %), the first with "
        f"{errors[0]!r}: fix the cause and `dvc repro {stage}`, or raise max_error_rate"
    )
