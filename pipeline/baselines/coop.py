"""Prompt learning: the words around the class names become vectors that training images of base classes fit.

CoOp (Zhou et al. 2022, arXiv 2109.01134), unified context, class name at the end, with the optimiser and the first
words of CoCoOp's base-to-novel runs (arXiv 2203.05557). One departure: pictures are not cropped or mirrored at random,
so that each is read once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.baselines.clip import Clip, unit
from pipeline.core.params import UserError

BATCH = 32
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
FIRST_RATE = 1e-5  # of the first epoch, in which the rate does not follow the cosine yet


class Context:
    """Vectors that stand in front of every class name, first those of `words`.

    Raises UserError if the tokenizer splits these words differently in front of a class name.
    """

    def __init__(self, clip: Clip, words: str):
        self.clip, self.words = clip, words
        ids = clip.tokenizer(words, add_special_tokens=False, return_tensors="pt").input_ids[0].to(clip.model.device)
        with_name = clip.tokens([f"{words} name."]).input_ids[0]
        if not len(ids) or with_name[1 : 1 + len(ids)].tolist() != ids.tolist():
            raise UserError(
                f"params.yaml: coop.context is {words!r}, but the tokenizer splits these words differently in front of "
                "a class name; set other words with `dvc exp run -S coop.context=…`"
            )
        embeddings = clip.model.text_model.embeddings.token_embedding
        self.vectors = embeddings(ids).detach().clone().requires_grad_()

    def classes(self, names: Sequence[str]) -> Any:
        """(names, width): the vectors of the class names behind this context."""
        with self.clip.token_vectors(self.vectors):
            features = self.clip.model.get_text_features(
                **self.clip.tokens([f"{self.words} {name}." for name in names])
            )
        return unit(features.pooler_output)

    def learn(
        self,
        images: Any,
        labels: Any,
        names: Sequence[str],
        epochs: int,
        rate: float,
        seed: int,
        advance: Callable[[], None] = lambda: None,
    ) -> list[float]:
        """Fits the vectors by cross-entropy: SGD with momentum, a cosine from `rate` to nothing.

        Args:
            images: (n, width), vectors of the training images.
            labels: (n,), place of each image's class in `names`.
            advance: called after every epoch.

        Returns:
            The mean loss of every epoch.
        """
        import torch

        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.SGD([self.vectors], lr=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        losses = []
        for epoch in range(epochs):
            epoch_rate = rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs)) if epoch else FIRST_RATE
            optimizer.param_groups[0]["lr"] = epoch_rate
            batch_losses = []
            for batch in torch.randperm(len(images), generator=generator).split(BATCH):
                logits = self.clip.scale * images[batch] @ self.classes(names).T
                loss = torch.nn.functional.cross_entropy(logits, labels[batch])
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                batch_losses.append(loss.item())
            losses.append(sum(batch_losses) / len(batch_losses))
            advance()
        return losses
