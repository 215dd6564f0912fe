"""The trial of a model before a run: what its files did not show when they were loaded shows now, as one sentence."""

import base64
from collections.abc import Callable
from typing import Any

from pipeline.core.engine import GREEDY, Request, Sampler
from pipeline.core.params import UserError, first_line

# A picture of one colour, 112 × 112: four by four of the fields that Qwen2.5-VL makes a token of.
TRIAL = Request(
    "trial",
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAHAAAABwCAIAAABJgmMcAAAApUlEQVR42u3QIQEAMAgAsPPAaDTJKYFji7Cozseer0CoUKEIFSoU"
        "oUKFIlSoUKEIFSoUoUKFIlSoUIQKFSoUoUKFIlSoUIQKFYpQoUKFIlSoUIQKFYpQoUIRKlSoUIQKFYpQoUIRKlSoUIQKFYpQoUIR"
        "KlQoQoUKFYpQoUIRKlQoQoUKRahQoUIRKlQoQoUKRahQoQgVKlQoQoUKRahQoQgVKvS2AXcaAkhWpF3xAAAAAElFTkSuQmCC"
    ),
    "What is this?",
    [GREEDY, 0],
)
SHORT = Sampler(
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    repetition_penalty=1.0,
    penalize_prompt=True,
    max_new_tokens=2,
    stop=(),
    seed=0,
)


def require_success(source: str, answer: Callable[[], Any]) -> None:
    """Calls `answer`, the draws of TRIAL from the model of `source`. Raises UserError where it fails."""
    try:
        answer()
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error):  # the engine makes room for it
            return
        raise UserError(
            f"{source}: the model cannot answer a question about a picture ({type(error).__name__}: "
            f"{first_line(error)[:200]}); copy or download it again, or set another with `dvc exp run -S model=…`"
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether the processor's or the GPU's memory did not suffice."""
    import torch  # the CPU's allocator and the GPU's libraries have no exception of their own

    phrases = ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in phrases)
