"""Drawing through `generate`, one draw at a time: for models whose memory of a prompt cannot be copied."""

from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria

from pipeline.engines.local.decoding import Choices


class _Choice(LogitsProcessor):  # type: ignore[misc]
    """Leaves the token that `draws` chooses for one draw, until `ended`."""

    def __init__(self, draws: Choices):
        self.draws, self.step, self.ended = draws, 0, False

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        _, token = self.draws.choose(scores, self.step)
        self.step, self.ended = self.step + 1, not len(token)
        return scores if self.ended else torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)


class _End(StoppingCriteria):  # type: ignore[misc]
    """Ends with the draw."""

    def __init__(self, choice: _Choice):
        self.choice = choice

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((len(input_ids),), self.choice.ended, device=input_ids.device)


def generate(model: Any, inputs: dict[str, Any], draws: Choices) -> None:
    """Draws by the model's `generate`.

    Args:
        inputs: what the processor returned for one prompt, on the model's device.
        draws: one draw.
    """
    choice = _Choice(draws)

    def sample(
        model: Any, input_ids: Any, logits_processor: Any, stopping_criteria: Any, generation_config: Any, **more: Any
    ) -> None:
        """The loop over tokens of `generate`, without the penalties and cut-offs of the model's own settings."""
        stopping_criteria.append(_End(choice))
        type(model)._sample(
            model, input_ids, LogitsProcessorList([choice]), stopping_criteria, generation_config, **more
        )

    model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=draws.max_tokens, custom_generate=sample)
