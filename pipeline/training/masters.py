"""AdamW for weights of 16 bits: their updates are added up in float32.

A bfloat16 weight has 8 significant bits. An update below half a unit in its last place is rounded away, and at the
paper's rate of 1e-6 AdamW hardly makes others: added to the weights themselves, they move 2 % of them (docs/log.md).
"""

from collections.abc import Iterable
from typing import Any

import torch

CHUNK = 2**28  # weights of one call of AdamW, whose float32 gradients take 1 GiB


class MasterAdamW(torch.optim.AdamW):  # type: ignore[misc]
    """torch's AdamW over a float32 copy, the master, of every weight, as in DeepSpeed's ZeRO.

    After a step each weight is its master, rounded. A float32 weight is its own master. The state holds the masters,
    so that training from a checkpoint continues exactly. Per weight of 16 bits, master and moments take 12 bytes.

    Args:
        groups: groups of parameters, as torch's optimisers take them.
        settings: of torch's AdamW.

    Attributes:
        pairs: weights and their master.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **settings: Any):
        groups = list(groups)
        # `float` does not copy what is float32: such a master shares the memory of its weights.
        masters = {w: torch.nn.Parameter(w.detach().float()) for group in groups for w in group["params"]}
        self.pairs = list(masters.items())
        super().__init__([{**group, "params": [masters[w] for w in group["params"]]} for group in groups], **settings)

    def step(self, closure: Any = None) -> Any:
        """One step with the gradients of the weights."""
        loss = None if closure is None else closure()
        chunk: list[Any] = []
        with torch.no_grad():
            for weights, master in self.pairs:
                if weights.grad is not None:
                    master.grad = weights.grad.float()
                    chunk.append(master)
                if sum(of.numel() for of in chunk) >= CHUNK:
                    self._step(chunk)
            self._step(chunk)
            for weights, master in self.pairs:
                weights.copy_(master)
        return loss

    def _step(self, chunk: list[Any]) -> None:
        """Steps these masters, the only ones with a gradient, and empties the list."""
        super().step()
        while chunk:
            chunk.pop().grad = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of the weights."""
        for weights, _ in self.pairs:
            weights.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The state of AdamW, and the masters in the order of the parameters."""
        return {**super().state_dict(), "masters": [master.detach() for _, master in self.pairs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state of `state_dict`, masters included."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "masters"})
        with torch.no_grad():
            for (_, master), value in zip(self.pairs, state_dict["masters"], strict=True):
                master.copy_(value)


def needs_masters(trainer: Any) -> bool:
    """Whether the trainer's optimiser must keep masters: DeepSpeed and FSDP keep their own."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return False
    return any(w.requires_grad and w.dtype != torch.float32 for w in trainer.model.parameters())
