"""Where prompts and completions stand in the sequences of a shared pass, one for each group."""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Layout:
    """Where the tokens of all groups stand.

    A sequence begins with the prompt of its group. Behind the prompts stand the tokens of all completions, one
    completion after the other and without padding. So a completion may stand in the sequence of another group:
    attention looks tokens up by their slots, and the other layers treat every slot alike.

    Args:
        prompt: tokens of the longest prompt; shorter ones are padded on the left.
        completion: tokens of the longest completion.
        reach: the slots of each completion's prompt and own tokens, among the slots of all sequences, int64 of shape
            (completions, prompt + completion); padding takes the slot of the completion's last token.
        tokens: the other way round, of each slot behind the prompts the token in a table of (completions · completion),
            int64 of shape (groups, slots behind the prompt); the last slots may repeat a token.
        masks: the attention masks of completions, by those of the sequences.
    """

    prompt: int
    completion: int
    reach: Any
    tokens: Any
    masks: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def generations(self) -> int:
        return len(self.reach) // len(self.tokens)

    @property
    def slots(self) -> Any:
        """Of the completions' own tokens, (completions, completion)."""
        return self.reach[:, self.prompt :]

    @property
    def before(self) -> Any:
        """The slot before each token of each completion, like `slots`: before its first token the prompt's last."""
        return self.reach[:, self.prompt - 1 : -1]

    def by_completion(self, sequences: Any, slots: Any) -> Any:
        """(groups, heads, all slots, size) → (completions, heads, slots, size)."""
        heads, size = sequences.shape[1], sequences.shape[3]
        table = sequences.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, slots.flatten())
        return table.view(*slots.shape, heads, size).transpose(1, 2)

    def by_slot(self, completions: Any) -> Any:
        """(completions, completion, …) → (groups, slots behind the prompt, …)."""
        table = completions.flatten(0, 1).index_select(0, self.tokens.flatten())
        return table.view(*self.tokens.shape, *table.shape[1:])

    def mask_of_completions(self, mask: Any) -> Any:
        """(groups, 1, slots, slots) → (completions, 1, completion, prompt + completion).

        A sequence's mask treats what stands behind its prompt as one text. Its first part is what each completion may
        see of its prompt and itself, since each would stand there, were it alone: windows count from there.
        """
        if id(mask) not in self.masks:
            end = self.prompt + self.completion
            # Once for all layers, since the backward pass keeps it; with the mask itself, lest another takes its id.
            self.masks[id(mask)] = mask, mask[:, :, self.prompt : end, :end].repeat_interleave(self.generations, dim=0)
        return self.masks[id(mask)][1]


def layout_of(prompt: int, lengths: Any, generations: int) -> Layout:
    """The layout of completions with these lengths, each at least 1, int64 of shape (completions,)."""
    device, longest, total = lengths.device, int(lengths.max()), int(lengths.sum())
    groups = len(lengths) // generations
    # As wide as the longest completion at least, for the mask of a completion.
    width = max(-(-total // groups), longest)
    sequences = torch.arange(groups, device=device)[:, None] * (prompt + width)
    behind = (sequences + prompt + torch.arange(width, device=device)).flatten()

    count = torch.arange(longest, device=device)
    place = (lengths.cumsum(0) - lengths)[:, None] + count.minimum(lengths[:, None] - 1)
    prompts = (sequences + torch.arange(prompt, device=device)).repeat_interleave(generations, dim=0)
    tokens = torch.zeros(groups * width, dtype=torch.int64, device=device)
    tokens[:total] = (count < lengths[:, None]).flatten().nonzero()[:, 0]
    return Layout(prompt, longest, torch.cat([prompts, behind[place]], dim=1), tokens.view(groups, width))
