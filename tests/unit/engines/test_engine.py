"""The transformers engine: a draw belongs to its image and number, a prompt is read once, greedy is generate's."""

import io
import subprocess
import sys
from dataclasses import replace

import polars as pl
import pytest
import torch
from PIL import Image
from support.engines import SAMPLER, agreement, decode, engine_of, forward_calls, generate, texts
from support.project import ROOT
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from pipeline.core.engine import GREEDY, Request
from pipeline.core.params import UserError
from pipeline.core.pictures import picture
from pipeline.engines.local import decoding
from pipeline.engines.local.decoding import Step
from pipeline.method.prompts import choice_question, open_question

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(base_model):
    return engine_of(base_model)


@pytest.fixture(scope="module")
def pictures(birds):
    _, images = birds
    return images.filter(pl.col("split") == "test")["image_id", "image"].rows()


@pytest.fixture(scope="module")
def ask(pictures):
    """Requests for the first so many pictures, by default with the open question."""

    def requests(draws, images=None, question=None, keep_prefill=False):
        question = question or open_question("brief", "bird")
        return [Request(i, image, question, draws, keep_prefill) for i, image in pictures[:images]]

    return requests


# Draws and their numbers


def test_draws_do_not_depend_on_batch_or_order(engine, base_model, ask):
    together = texts(engine, ask(range(10)))
    alone = texts(engine_of(base_model, max_rows=1), ask(range(10), images=4)[::-1])
    assert agreement(alone, {key: together[key] for key in alone}) >= 0.97, "40 draws, rounding aside"
    others = texts(engine_of(base_model, max_rows=33), ask([7, 3, 0, 9, 1, 2, 8, 5, 4, 6])[::-1])
    assert agreement(together, others) >= 0.99


def test_more_draws_keep_the_first_ones(engine, ask):
    few, many = texts(engine, ask(range(5), images=4)), texts(engine, ask(range(12), images=4))
    assert sum(many[key] == text for key, text in few.items()) >= 19, "of 20, rounding aside"


def test_another_seed_draws_other_answers(engine, ask):
    assert texts(engine, ask(range(10))) != texts(engine, ask(range(10)), replace(SAMPLER, seed=1))


def test_greedy_stands_beside_the_draws_and_changes_none(engine, ask):
    without, beside = texts(engine, ask(range(5))), texts(engine, ask([GREEDY, *range(5)]))
    assert agreement(without, {key: text for key, text in beside.items() if key[1] != GREEDY}) >= 0.98
    hot = texts(engine, ask([GREEDY]), replace(SAMPLER, temperature=5.0, top_p=0.5, top_k=2, seed=9))
    assert agreement(hot, {key: text for key, text in beside.items() if key[1] == GREEDY}) == 1


# Distribution and length


def test_greedy_is_generates_token_for_token(engine, ask):
    greedy = texts(engine, ask([GREEDY]))
    for request in ask([GREEDY], images=6):
        assert decode(engine, generate(engine, request, do_sample=False)) == greedy[request.image_id, GREEDY]


def test_a_completion_begins_with_its_prefix_and_goes_on_from_it(base_model, ask):
    """A beginning of its own changes nothing; another is continued, from a stored prefill too."""
    engine = engine_of(base_model)
    open_requests = ask([GREEDY], images=6, keep_prefill=True)
    greedy = texts(engine, open_requests)
    begun = [replace(one, prefix=" ".join(greedy[one.image_id, GREEDY].split()[:3])) for one in open_requests]
    assert texts(engine_of(base_model), begun) == greedy
    names = ["bar-winged ring-eyed finch", "plain-winged mask-eyed finch", "hook-billed bar-winged oriole"]
    requests = ask([GREEDY], images=6, question=choice_question("brief", "bird", names))
    plain, prefix = texts(engine, requests), "<think> A"
    requests = [replace(one, prefix=prefix) for one in requests]
    forced = texts(engine, requests)
    for request in requests:
        rest = decode(engine, generate(engine, request, do_sample=False))
        assert forced[request.image_id, GREEDY] == f"{prefix} {rest}"
    assert any(not text.startswith(prefix) for text in plain.values()), "or nothing was forced"


@pytest.mark.parametrize("prompt_too", [True, False])
def test_the_repetition_penalty_counts_the_prompt_or_not(engine, ask, prompt_too):
    """Over prompt and completion it is generate's own; over the completion, its processor's without the prompt."""
    question = choice_question("brief", "bird", ["hook-billed thick-billed wren", "plain-winged low-crested oriole"])
    requests = ask([GREEDY], images=6, question=question)
    sampler = replace(SAMPLER, repetition_penalty=1.5, penalize_prompt=prompt_too)
    drawn, plain = texts(engine, requests, sampler), texts(engine, requests)
    length = engine.reader.inputs(requests[:1], [picture(requests[0].image)])["input_ids"].shape[1]
    processor = RepetitionPenaltyLogitsProcessor(1.5, prompt_ignore_length=None if prompt_too else length)
    for request in requests:
        expected = generate(engine, request, do_sample=False, logits_processor=LogitsProcessorList([processor]))
        assert decode(engine, expected) == drawn[request.image_id, GREEDY]
    assert drawn != plain, "or the penalty had no effect"


@pytest.mark.parametrize(
    ("top_p", "top_k", "temperature"), [(1.0, 0, 1.0), (0.9, 0, 1.0), (1.0, 3, 0.7), (0.8, 5, 1.5)]
)
def test_tokens_are_drawn_from_the_models_own_distribution(engine, ask, top_p, top_k, temperature):
    # The first word of the name, after a thought that is all but certain.
    request = ask(range(2000), images=2)[1]
    sampler = replace(SAMPLER, top_p=top_p, top_k=top_k, temperature=temperature)
    drawn = [t for _, t in sorted(texts(engine, [request], sampler).items())]
    prefix = max(set(t.split("<answer>")[0] for t in drawn), key=[t.split("<answer>")[0] for t in drawn].count)
    prefix += "<answer>"
    first = [t[len(prefix) :].split()[0] for t in drawn if t.startswith(prefix) and t[len(prefix) :].split()]

    inputs = engine.processor(
        text=[engine.reader.prompt(request.question) + prefix], images=[picture(request.image)], return_tensors="pt"
    )
    with torch.inference_mode():
        p = (engine.model(**inputs).logits[0, -1] / temperature).softmax(-1)
    p, order = p.sort(descending=True)
    if top_k:
        p = torch.where(torch.arange(len(p)) < top_k, p, 0.0)
        p = p / p.sum()
    p = torch.where(p.cumsum(-1) - p < top_p, p, 0.0)
    p = p / p.sum()
    words = engine.processor.tokenizer.convert_ids_to_tokens(order.tolist())
    expected = {word: q * len(first) for word, q in zip(words, p.tolist(), strict=True) if q * len(first) >= 5}
    rest = len(first) - sum(expected.values())
    chi_square = sum((first.count(word) - n) ** 2 / n for word, n in expected.items())
    assert len(first) > 800
    assert rest < 0.02 * len(first) + 5
    # 0.1 % critical values of chi-square for 1 to 11 degrees of freedom.
    assert 2 <= len(expected) <= 12, "several words compete, or there is nothing to compare"
    critical = [10.8, 13.8, 16.3, 18.5, 20.5, 22.5, 24.3, 26.1, 27.9, 29.6, 31.3]
    assert chi_square < critical[len(expected) - 2]


def test_a_completion_never_holds_a_picture(base_model, ask):
    """Training reads completions back: a placeholder in one would be of a picture that is not there."""
    engine = engine_of(base_model)
    places = [engine.model.config.image_token_id, engine.model.config.video_token_id]

    def likeliest(module, args, logits):
        logits[..., places] += 1000.0
        return logits

    engine.model.lm_head.register_forward_hook(likeliest)
    done = [one for batch in engine.draw(ask([GREEDY, *range(20)], images=2), SAMPLER) for one in batch]
    assert len(done) == 42 and not any(set(places) & set(one.ids) for one in done)


def test_a_truncated_answer_is_not_finished(engine, ask):
    done = next(engine.draw(ask(range(3), images=1), replace(SAMPLER, max_new_tokens=4)))
    assert [(d.finished, d.tokens) for d in done] == [(False, 4)] * 3


def test_the_length_counts_the_end_mark(engine, ask):
    done = next(engine.draw(ask([GREEDY], images=1), SAMPLER))[0]
    assert done.finished
    assert done.tokens == len(engine.processor.tokenizer(done.text).input_ids) + 1


def test_a_stop_text_ends_a_completion_and_stays(engine, ask):
    whole = texts(engine, ask(range(6), images=4))
    completions = [
        d for b in engine.draw(ask(range(6), images=4), replace(SAMPLER, stop=("<answer>", "zzz"))) for d in b
    ]
    for done in completions:
        before, mark, _ = whole[done.image_id, done.draw].partition("<answer>")
        assert mark
        assert done.text == before + mark
        assert done.finished
        assert done.tokens == len(engine.processor.tokenizer(done.text).input_ids)


# Batches and prefills


def test_every_prompt_is_read_once(engine, ask, monkeypatch):
    calls = forward_calls(engine, monkeypatch)
    texts(engine, ask([GREEDY, *range(20)]))
    read = [shape for shape, pixels in calls if pixels]
    assert sum(images for images, _ in read) == 12
    assert all(shape[1] == 1 for shape, pixels in calls if not pixels)


def test_draws_that_are_alike_so_far_are_decoded_once(engine, ask, monkeypatch):
    calls = forward_calls(engine, monkeypatch)
    draws = [one for batch in engine.draw(ask(range(20)), SAMPLER) for one in batch]
    rows = [shape[0] for shape, pixels in calls if not pixels]
    for step, count in enumerate(rows, start=1):
        histories = {(one.image_id, one.ids[:step]) for one in draws if one.tokens > step}
        assert len(histories) <= count <= max(len(histories) / 0.75 + 1, rows[step - 2] if step > 1 else 0)
    assert sum(rows) < sum(one.tokens - 1 for one in draws) / 3


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_draws_are_the_same_with_a_row_each(base_model, ask, monkeypatch, penalty):
    sampler = replace(SAMPLER, repetition_penalty=penalty)
    shared = texts(engine_of(base_model), ask([GREEDY, *range(10)]), sampler)
    monkeypatch.setattr(decoding, "next_rows", lambda row, token, _: (Step(row, token), torch.arange(len(row))))
    assert agreement(texts(engine_of(base_model), ask([GREEDY, *range(10)]), sampler), shared) >= 0.99


def test_finished_rows_are_removed(engine, ask, monkeypatch):
    calls = forward_calls(engine, monkeypatch)
    # Half of the draws are stopped at their first token, the others go on.
    texts(engine, ask(range(20)), replace(SAMPLER, temperature=3.0))
    rows = [shape[0] for shape, pixels in calls if not pixels]
    last = rows.index(max(rows))
    assert rows[: last + 1] == sorted(rows[: last + 1]), "while draws part"
    assert rows[last:] == sorted(rows[last:], reverse=True)
    assert rows[-1] < rows[last]


def test_a_second_question_reuses_the_prefill_of_the_picture(base_model, ask, monkeypatch):
    engine, fresh = engine_of(base_model), engine_of(base_model)
    names = ["hook-billed thick-billed wren", "plain-winged low-crested oriole", "spot-breasted high-crested tanager"]
    second = [
        replace(request, question=choice_question("brief", "bird", names[: 2 + place % 2]), draws=[GREEDY, 0, 1])
        for place, request in enumerate(ask([]))
    ]
    long = replace(SAMPLER, max_new_tokens=50)
    expected = texts(fresh, second, long)
    texts(engine, ask(range(4), keep_prefill=True))
    calls = forward_calls(engine, monkeypatch)
    actual = texts(engine, second, long)
    assert not any(pixels for _, pixels in calls), "no picture is read again"
    assert calls[0][0][1] < 40, "only what follows the picture is"
    assert agreement(expected, actual) >= 0.97


def test_prefills_for_reuse_stay_within_their_limit(base_model, ask):
    engine = engine_of(base_model, max_tokens=400)
    texts(engine, ask(range(4), keep_prefill=True))
    tokens = sum(one.prefill.ids.numel() for one in engine.reader.picture_prefills)
    assert 0 < tokens <= 200


def test_tokens_in_flight_are_limited(base_model, ask, monkeypatch):
    engine = engine_of(base_model, max_tokens=1000)
    calls = forward_calls(engine, monkeypatch)
    texts(engine, ask(range(20)))
    for (images, length), pixels in calls:
        if pixels:
            assert images * length + images * 20 * SAMPLER.max_new_tokens <= 1000
    assert sum(pixels for _, pixels in calls) > 1


def test_the_longest_come_first_and_a_resumed_run_forms_the_same_batches(base_model, ask):
    """So that a resumed run draws the same bytes."""
    engine = engine_of(base_model, max_rows=60)
    requests = [replace(r, question=r.question + " bird" * (n % 5)) for n, r in enumerate(ask(range(20)))]
    batches = [{done.image_id for done in batch} for batch in engine.draw(requests, SAMPLER)]
    lengths = {request.image_id: len(request.question) for request in requests}
    order = [lengths[image] for batch in batches for image in sorted(batch, key=lengths.get, reverse=True)]
    assert order == sorted(order, reverse=True)
    left = [request for request in requests if request.image_id not in batches[0]]
    assert [{done.image_id for done in batch} for batch in engine.draw(left, SAMPLER)] == batches[1:]


# Errors


def test_a_picture_that_cannot_be_opened_is_an_error_and_the_others_are_drawn(engine, ask):
    requests = ask(range(2), images=4)
    thin = io.BytesIO()
    Image.new("RGB", (1, 400)).save(thin, "PNG")
    broken = [
        requests[0],
        replace(requests[1], image=b"not a picture"),
        replace(requests[2], image=requests[2].image[:300]),
        replace(requests[3], image=thin.getvalue()),
    ]
    done = {(d.image_id, d.draw): d for batch in engine.draw(broken, SAMPLER) for d in batch}
    assert len(done) == 8
    assert {key for key, d in done.items() if d.error} == {(r.image_id, d) for r in broken[1:] for d in range(2)}
    assert {d.text for d in done.values() if d.error} == {""}
    whole = texts(engine, requests)
    assert all(whole[key] == d.text for key, d in done.items() if not d.error)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(base_model, ask, monkeypatch, capsys):
    engine = engine_of(base_model)
    read = engine.reader._read_all

    def limited(inputs):
        if inputs["input_ids"].shape[0] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(inputs)

    monkeypatch.setattr(engine.reader, "_read_all", limited)
    assert agreement(texts(engine, ask(range(10))), texts(engine_of(base_model), ask(range(10)))) >= 0.99
    assert "out of memory with 120 draws side by side: continuing with 60" in capsys.readouterr().err
    assert engine.max_rows <= 30


def test_a_single_draw_that_does_not_fit_is_the_users_to_solve(base_model, ask, monkeypatch):
    engine = engine_of(base_model)

    def full(inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.reader, "_read_all", full)
    with pytest.raises(UserError, match="single draw"):
        texts(engine, ask(range(10)))


def test_another_runtime_error_is_not_taken_for_lack_of_memory(base_model, ask, monkeypatch):
    engine = engine_of(base_model)
    monkeypatch.setattr(engine.reader, "_read_all", lambda inputs: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        texts(engine, ask(range(2)))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_memory_that_really_runs_out(base_model):
    """In a process whose address space is limited, 4,800 rows side by side do not fit."""
    script = f"""
import resource, sys
from dataclasses import replace
sys.path.insert(0, {str(ROOT)!r}); sys.path.insert(0, {str(ROOT / "tests")!r})
from support.engines import SAMPLER, engine_of
from pipeline.fieldguide.rendering import render_tables
from pipeline.core.engine import Request
images = render_tables(1, 1, 1)[1].filter(split="test")["image_id", "image"].rows()
engine = engine_of({base_model!r}, max_rows=4_800, max_tokens=10**9)
requests = [Request(i, image, "Which bird is this ?", range(100)) for i, image in images]
sampler = replace(SAMPLER, temperature=3.0)  # so that nearly every draw is a row of its own
next(engine.draw([Request(*images[0], "Which bird is this ?", range(2))], SAMPLER))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20,) * 2)
print(sum(len(batch) for batch in engine.draw(requests, sampler)), engine.max_rows)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    draws, rows = map(int, done.stdout.split()[-2:])
    assert draws == 4_800
    assert rows < 4_800
    assert "out of memory" in done.stderr
