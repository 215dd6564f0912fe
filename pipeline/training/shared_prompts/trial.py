"""Whether the completions of a group can share their prompt: tried once, on the first data of a run."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import gather_object

# Differences of log-probabilities, in nats and on average, beyond those of rounding. A wrong mask or position makes
# larger ones.
LIMITS = {"float64": 1e-3, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}

Pass = Callable[[], Any]
"""Returns log-probabilities of shape (completions, tokens) first."""


class Trial:
    """Compares the shared pass with the repeated one when it is first asked, and keeps to the outcome.

    Args:
        sharing: False is an outcome without a trial.
        precision: data type of the computation.
    """

    def __init__(self, sharing: bool, precision: str):
        self.outcome: bool | None = None if sharing else False
        self.precision = precision

    def allows(self, shared: Pass, repeated: Pass, counts: Any) -> bool:
        """Whether both give the same log-probabilities where `counts` is not 0, in every process; warns if not."""
        if self.outcome is None:
            with torch.no_grad():
                faults = gather_object([self._fault(shared, repeated, counts.bool())])
            fault = next(filter(None, faults), "")
            if fault:
                warnings.warn(f"train.share_prompts: {fault}; every completion reads its own prompt", stacklevel=2)
            self.outcome = not fault
        return self.outcome

    def _fault(self, shared: Pass, repeated: Pass, counts: Any) -> str:
        reference = repeated()[0]
        try:
            differences = (shared()[0] - reference)[counts].abs()
        except Exception as error:  # the code of a family met a layout that it does not expect
            return f"{type(error).__name__}: {error}"
        mean = differences.sum().item() / max(len(differences), 1)
        # Not a number is a fault as well.
        return "" if mean <= LIMITS[self.precision] else f"the log-probabilities differ by {mean:.3g} nats on average"
