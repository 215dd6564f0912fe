"""How many tokens a prompt with a picture has, before it is read."""

from collections.abc import Sequence
from typing import Any

from pipeline.core.engine import Request
from pipeline.core.pictures import size
from pipeline.method.chat import Chat


def process(processor: Any, prompts: Sequence[str], pictures: Sequence[Any]) -> Any:
    """What a model reads: token ids of shape (prompts, longest), pixels and more, of one picture a prompt."""
    settings = {"text": list(prompts), "padding": True, "return_tensors": "pt"}
    try:
        return processor(images=[[one] for one in pictures], **settings)
    except ValueError:  # GOT-OCR2 takes a list in a list for pages; Gemma 3 takes a flat list for one prompt's pictures
        return processor(images=list(pictures), **settings)


class PromptLengths:
    """Counts the tokens of prompts, nearly exactly; each question and each size of picture is counted once."""

    def __init__(self, processor: Any, chat: Chat):
        self.processor, self.chat = processor, chat
        self._texts: dict[str, int] = {}
        self._pictures: dict[tuple[int, int], int] = {}

    def __call__(self, question: str, pixels: tuple[int, int]) -> int:
        """Tokens of the prompt of `question` with a picture of `pixels`, (height, width).

        Raises ValueError for a picture of a shape that the model does not take.
        """
        if question not in self._texts:
            self._texts[question] = self._count(self.chat.prompt(self.processor, question))
        if pixels not in self._pictures:
            self._pictures[pixels] = self._picture(pixels)
        return self._texts[question] + self._pictures[pixels]

    def of(self, request: Request) -> int:
        """Tokens of a request's prompt. Raises ValueError for a picture that cannot be read, too."""
        prefix = self._count(request.prefix) if request.prefix else 0
        return self(request.question, size(request.image or b"")) + prefix

    def _picture(self, pixels: tuple[int, int]) -> int:
        """Tokens of a picture: by the processor's count or, where it has none, from a prompt with a blank one."""
        if hasattr(self.processor, "_get_num_multimodal_tokens"):
            count: int = self.processor._get_num_multimodal_tokens(image_sizes=[pixels])["num_image_tokens"][0]
            return count
        from PIL import Image

        prompt, blank = self.chat.prompt(self.processor, ""), Image.new("RGB", pixels[::-1])
        return int(process(self.processor, [prompt], [blank])["input_ids"].shape[1]) - self._count(prompt)

    def _count(self, text: str) -> int:
        return len(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
