"""The rows of a decode in a model's memory: over one copy of their prompt, or each with a copy of its own."""

from typing import Any

from pipeline.engines.local.prefill import Prefill
from pipeline.engines.local.reading import Reading
from pipeline.engines.local.shared_prefix import Prefix, completion_cache, shared_prefix_attention


class SharedRows:
    """Rows whose layers attend to one copy of their prompt.

    Args:
        owner: the prompt of each row, int64 of shape (rows,), ascending.
    """

    def __init__(self, model: Any, prefill: Prefill, owner: Any):
        self.model = model
        self.logits, self.positions = prefill.logits[owner], prefill.positions[..., owner, -1:]
        self.prefix, self.cache = Prefix(prefill.layers, prefill.mask, owner), completion_cache()

    def select(self, places: Any) -> None:
        self.positions = self.positions[..., places, :]
        self.prefix.select(places)
        self.cache.batch_select_indices(places)

    def forward(self, tokens: Any) -> None:
        self.positions = self.positions + 1
        with shared_prefix_attention(self.model):
            self.logits = self.model(
                input_ids=tokens[:, None],
                position_ids=self.positions,
                past_key_values=self.cache,
                use_cache=True,
                prefix=self.prefix,
            ).logits[:, -1]


class RepeatedRows:
    """Rows with a copy of their prompt's cache each, decoded as the family itself does in `generate`.

    Args:
        reading: prompts of one length, which this takes over.
        owner: the prompt of each row, int64 of shape (rows,).
    """

    def __init__(self, reading: Reading, owner: Any):
        self.reading = reading
        self.select(owner)

    def select(self, places: Any) -> None:
        self.reading.select(places)
        self.logits = self.reading.logits

    def forward(self, tokens: Any) -> None:
        self.reading.continue_with(tokens)
        self.logits = self.reading.logits
