"""The transformers engine on the field guide's model: a draw belongs to its image and its number, to nothing else."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from pipeline.engines import GREEDY, Request, Sampler
from pipeline.engines.transformers import TransformersEngine
from pipeline.prompts import chat, open_question

SAMPLER = Sampler(temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0, max_new_tokens=16, seed=0)


@pytest.fixture(scope="module")
def engine(base_model):
    return TransformersEngine(base_model, "float32", "eager", max_rows=400, max_images=50, threads=2)


@pytest.fixture(scope="module")
def asked(birds):
    _, images = birds
    test = images.filter(pl.col("split") == "test")
    question = open_question("brief", "bird")
    return [Request(i, image, question) for i, image in test.select("image_id", "image").iter_rows()]


def texts(engine, asked, count, sampler=SAMPLER):
    return {(d.image_id, d.draw): d.text for batch in engine.draw(asked, count, sampler) for d in batch}


def test_draws_do_not_depend_on_batch_or_order(engine, base_model, asked):
    together = texts(engine, asked, 10)
    alone = texts(
        TransformersEngine(base_model, "float32", "eager", max_rows=10, max_images=50, threads=2), asked[::-1], 10
    )
    assert together.keys() == alone.keys()
    # Rounding differs with the batch, and can tip a draw whose noise is very near a tie.
    same = sum(together[key] == alone[key] for key in together) / len(together)
    assert same >= 0.99


def test_more_draws_keep_the_first_ones(engine, asked):
    few, many = texts(engine, asked[:4], 5), texts(engine, asked[:4], 12)
    assert sum(many[key] == text for key, text in few.items()) >= 19, "of 20, rounding aside"


def test_another_seed_draws_other_answers(engine, asked):
    assert texts(engine, asked, 10) != texts(engine, asked, 10, replace(SAMPLER, seed=1))


def test_greedy_is_generate_without_sampling(engine, asked):
    greedy = texts(engine, asked, 1, replace(SAMPLER, temperature=GREEDY))
    import io

    from PIL import Image

    prompt = engine.processor.apply_chat_template(chat(asked[0].question), add_generation_prompt=True, tokenize=False)
    for request in asked[:3]:
        inputs = engine.processor(text=[prompt], images=[Image.open(io.BytesIO(request.image))], return_tensors="pt")
        out = engine.model.generate(**inputs, do_sample=False, max_new_tokens=16)[0, inputs["input_ids"].shape[1] :]
        assert engine.processor.tokenizer.decode(out, skip_special_tokens=True) == greedy[request.image_id, 0]


@pytest.mark.parametrize(("top_p", "top_k", "temperature"), [(1.0, 0, 1.0), (0.9, 0, 1.0), (1.0, 3, 0.7)])
def test_tokens_are_drawn_from_the_models_own_distribution(engine, asked, top_p, top_k, temperature):
    # The first word of the name, after a thought that is all but certain.
    import io

    from PIL import Image

    request = asked[1]
    sampler = replace(SAMPLER, top_p=top_p, top_k=top_k, temperature=temperature)
    drawn = [t for _, t in sorted(texts(engine, [request], 2000, sampler).items())]
    prefix = drawn[0].split("<answer>")[0] + "<answer>"
    first = [t[len(prefix) :].split()[0] for t in drawn if t.startswith(prefix)]

    prompt = engine.processor.apply_chat_template(chat(request.question), add_generation_prompt=True, tokenize=False)
    inputs = engine.processor(
        text=[prompt + prefix], images=[Image.open(io.BytesIO(request.image))], return_tensors="pt"
    )
    with torch.inference_mode():
        p = (engine.model(**inputs).logits[0, -1] / temperature).softmax(-1)
    p, order = p.sort(descending=True)
    keep = p.cumsum(-1) - p < top_p
    if top_k:
        keep &= torch.arange(len(p)) < top_k
    p = torch.where(keep, p, 0.0) / p[keep].sum()
    words = engine.processor.tokenizer.convert_ids_to_tokens(order.tolist())
    wanted = {word: q * len(first) for word, q in zip(words, p.tolist(), strict=True) if q * len(first) >= 5}
    rest = len(first) - sum(wanted.values())
    chi_square = sum((first.count(word) - n) ** 2 / n for word, n in wanted.items())
    assert len(first) > 1500
    assert rest < 0.02 * len(first) + 5
    # 0.1 % critical values of chi-square for 1 to 7 degrees of freedom.
    assert 2 <= len(wanted) <= 8, "several words compete, or there is nothing to compare"
    assert chi_square < [10.8, 13.8, 16.3, 18.5, 20.5, 22.5, 24.3][len(wanted) - 2]


def test_a_cut_off_answer_says_so(engine, asked):
    done = next(engine.draw(asked[:1], 3, replace(SAMPLER, max_new_tokens=4)))
    assert [(d.finished, d.tokens) for d in done] == [(False, 4)] * 3


def test_the_length_counts_the_end_mark(engine, asked):
    done = next(engine.draw(asked[:1], 1, SAMPLER))[0]
    assert done.finished
    assert done.tokens == len(engine.processor.tokenizer(done.text).input_ids) + 1


def test_a_picture_that_cannot_be_opened_is_an_error_and_the_others_go_on(engine, asked):
    broken = [
        asked[0],
        replace(asked[1], image=b"not a picture"),
        replace(asked[2], image=asked[2].image[:300]),
        asked[3],
    ]
    done = [d for batch in engine.draw(broken, 2, SAMPLER) for d in batch]
    assert [(d.image_id, d.draw) for d in done] == [(r.image_id, d) for r in broken for d in range(2)]
    assert [d.error is not None for d in done] == [False] * 2 + [True] * 4 + [False] * 2
    assert {d.text for d in done if d.error} == {""}
    whole = texts(engine, asked[:4], 2)
    assert all(whole[d.image_id, d.draw] == d.text for d in done if not d.error)
