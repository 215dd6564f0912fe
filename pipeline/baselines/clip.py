"""CLIP (Radford et al. 2021, arXiv 2103.00020): pictures and texts as vectors of the same space."""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.core.pictures import picture
from pipeline.engines.common.loading import device, load_clip

BATCH = 64  # pictures or texts at once


class Clip:
    """A CLIPModel in float32. All vectors have length 1 and lie on its device.

    Args:
        source: model folder or hub id.
        threads: CPU threads, 0 leaves the choice to torch.
    """

    def __init__(self, source: str, threads: int = 0):
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.model, self.tokenizer, self.image_processor = load_clip(source)
        self.model.requires_grad_(False)
        self.scale = float(self.model.logit_scale.exp())
        self._texts: dict[str, Any] = {}

    def images(self, images: Sequence[bytes]) -> Any:
        """(images, width): JPEG or PNG files as vectors. Raises PictureError."""
        import torch

        with torch.inference_mode():
            pixels = self.image_processor([picture(image) for image in images], return_tensors="pt")["pixel_values"]
            return unit(self.model.get_image_features(pixel_values=pixels.to(device())).pooler_output)

    def texts(self, texts: Sequence[str]) -> Any:
        """(texts, width): each text is encoded once."""
        import torch

        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        with torch.inference_mode():
            for start in range(0, len(new), BATCH):
                batch = new[start : start + BATCH]
                vectors = unit(self.model.get_text_features(**self.tokens(batch)).pooler_output)
                self._texts |= zip(batch, vectors, strict=True)
        return torch.stack([self._texts[text] for text in texts])

    def tokens(self, texts: Sequence[str]) -> Any:
        """input_ids and attention_mask, (texts, longest); texts that are too long are cut off."""
        return self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(device())

    def probabilities(self, images: Any, classes: Any) -> Any:
        """(images, classes): softmax of the scaled similarities, summing to 1 over the classes."""
        return (self.scale * images @ classes.T).softmax(dim=-1)

    @contextmanager
    def token_vectors(self, vectors: Any) -> Any:
        """Replaces the embeddings of the tokens behind the first of every text by `vectors`, (tokens, width)."""

        def replace(module: Any, inputs: Any, embeddings: Any) -> Any:
            import torch

            first, rest = embeddings[:, :1], embeddings[:, 1 + len(vectors) :]
            return torch.cat([first, vectors.expand(len(embeddings), -1, -1), rest], dim=1)

        hook = self.model.text_model.embeddings.token_embedding.register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()


def unit(vectors: Any) -> Any:
    """The vectors, (n, width), at length 1."""
    return vectors / vectors.norm(dim=-1, keepdim=True)
