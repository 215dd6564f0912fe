"""The rows of a decode in a model's memory: over one copy of their prompt, or each with a copy of its own."""

from typing import Any

from pipeline.engines.local.prefill import Prefill
from pipeline.engines.local.reading import Reading
from pipeline.engines.local.shared_prefix import Prefix, completion_cache, shared_prefix_attention


class SharedRows:
    """Rows whose layers attend to one copy of their prompt; at first one for each prompt."""

    def __init__(self, model: Any, prefill: Prefill):
        self.model = model
        self.logits, self.positions = prefill.logits, prefill.positions[..., -1:]
        self.prefix, self.cache = Prefix(prefill.layers, prefill.mask), completion_cache()

    def select(self, parents: Any) -> None:
        self.positions = self.positions[..., parents, :]
        self.prefix.select(parents)
        self.cache.batch_select_indices(parents)

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
        reading: prompts of one length, the first rows, which this takes over.
    """

    def __init__(self, reading: Reading):
        self.reading, self.logits = reading, reading.logits

    def select(self, parents: Any) -> None:
        self.reading.select(parents)

    def forward(self, tokens: Any) -> None:
        self.reading.continue_with(tokens)
        self.logits = self.reading.logits
