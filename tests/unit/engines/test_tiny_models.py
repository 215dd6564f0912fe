"""The tiny models of other families: a prompt's answer is the same in a batch, and it depends on the picture."""

import pytest
import torch
from PIL import Image
from support.tiny_models import PIXELS, tiny_model

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.method.prompts import chat

pytestmark = pytest.mark.slow

SHORT, LONG = "what is this ?", "what is this bird ? a finch or a jay ?"


@pytest.fixture(scope="module", params=["gemma3", "idefics3", "llava"])
def processor_and_model(request, tmp_path_factory):
    """Processor and model, read from the folder."""
    folder = tiny_model(tmp_path_factory.mktemp(request.param), request.param)
    return load_processor(str(folder)), load_model(str(folder), "float32", "eager")


@pytest.fixture(scope="module")
def pictures():
    """Six of noise, neither square nor of the model's size."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (6, PIXELS + 14, PIXELS + 4, 3), dtype=torch.uint8, generator=generator)
    return [Image.fromarray(pixels.numpy()) for pixels in noise]


def greedy(processor_and_model, questions, pictures):
    """Eight tokens a question with the logits of each, and the attention mask of the prompts."""
    processor, model = processor_and_model
    prompts = [processor.apply_chat_template(chat(q), add_generation_prompt=True, tokenize=False) for q in questions]
    # One list a prompt: Gemma 3 takes a flat list for the pictures of a single one.
    inputs = processor(text=prompts, images=[[p] for p in pictures], padding=True, return_tensors="pt").to(model.device)
    out = model.generate(
        **inputs,
        do_sample=False,
        min_new_tokens=8,
        max_new_tokens=8,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[:, -8:], torch.stack(out.logits, dim=1), inputs["attention_mask"]


def test_a_prompt_has_the_same_answer_alone_and_in_a_batch(processor_and_model, pictures):
    tokens, logits, mask = greedy(processor_and_model, [SHORT, LONG], pictures[:2])
    assert (mask[0, 0], mask[0, -1], mask[1].min()) == (0, 1, 1), "the short prompt is padded, on the left"
    for row, question in enumerate([SHORT, LONG]):
        alone, alone_logits, _ = greedy(processor_and_model, [question], [pictures[row]])
        assert alone[0].tolist() == tokens[row].tolist()
        torch.testing.assert_close(alone_logits[0], logits[row], atol=1e-4, rtol=1e-4)


def test_the_answer_depends_on_the_picture(processor_and_model, pictures):
    tokens, logits, _ = greedy(processor_and_model, [SHORT] * 6, pictures)
    assert len(set(map(tuple, tokens.tolist()))) >= 5, "of 6"
    assert all(len(set(answer)) > 1 for answer in tokens.tolist()), "no answer is one token over and over"
    assert logits[:, 0].std(dim=0).mean() > 0.5, "from the first token on"
