"""The trial of a model before a run: what its files did not show when they were loaded shows now, as one sentence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.core.engine import GREEDY, Request, plain_sampler
from pipeline.core.params import UserError, first_line
from pipeline.engines.common.model_folder import out_of_memory

SIDES = (56, 224)  # pixels: of a small and of an ordinary picture, since models scale both
SHORT = plain_sampler(max_new_tokens=2)


def require_answers(source: str, answer: Callable[[Request, Any], Any]) -> None:
    """Asks the model of `source` about pictures of one colour. Raises UserError where it fails.

    Args:
        answer: draws of a request about a picture, with SHORT.
    """
    from PIL import Image

    for side in SIDES:
        picture = Image.new("RGB", (side, side), (120, 130, 110))
        with trial(source, f"one picture of {side} × {side} pixels"):
            answer(Request(f"trial {side}", picture.tobytes(), "What is this?", [GREEDY, 0]), picture)


@contextmanager
def trial(source: str, what: str = "two small pictures") -> Iterator[None]:
    """Raises UserError where the model of `source` fails within."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise UserError(
                f"{source}: out of memory with {what}; take a smaller model or dtype, or draw from a server "
                "(docs/scale.md)"
            ) from None
        raise UserError(
            f"{source}: the model cannot answer a question about a picture ({type(error).__name__}: "
            f"{first_line(error)[:200]}); copy or download it again, or set another with `dvc exp run -S model=…`"
        ) from error
