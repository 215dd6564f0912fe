"""The findings of a rehearsal, from tables that a model of each kind leaves."""

import polars as pl
import pytest

from pipeline.commands.rehearsal_findings import LONGEST, SHOWN, advice, answers, memory, readability
from pipeline.core import tables


def samples(*texts, status="ok"):
    rows = [
        {"image_id": f"{number:02}", "draw": 0, "text": text, "status": status, "tokens": 5}
        for number, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=tables.SAMPLES.schema)


def choices(*statuses):
    rows = [
        {"image_id": str(number), "choice_text": "<answer> A", "status": one} for number, one in enumerate(statuses)
    ]
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema)


def rollouts(*rewards):
    rows = [{"step": 1, "image_id": "a", "format_reward": one, "answer_reward": 0.0} for one in rewards]
    return pl.DataFrame(rows, schema=tables.ROLLOUTS.schema)


def sentences(drawn, chosen=(), rewards=(1.0,), timings=None, questions=5, failure=""):
    return "\n".join(advice(drawn, choices(*chosen), rollouts(*rewards), timings or {}, questions, failure))


def test_answers_are_verbatim_one_line_each_and_of_limited_length():
    lines = answers(samples("two\nlines", "x" * 1000, *"abcdefghijklmn"), choices("ok"))
    assert lines[0] == "draw, ok: two\\nlines"
    assert len(lines[1]) < LONGEST + 20 and len(lines) == SHOWN + 1
    assert lines[-1] == "choice, ok: <answer> A"


def test_shares_of_what_was_read():
    lines = readability(samples("a", "b"), choices("ok", "ok", "truncated", "ok"), rollouts(1.0, 0.0))
    assert lines == [
        "draws: ok 100%",
        "choices: ok 75%, truncated 25%",
        "completions in training: 50% in the right form, 0% right",
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"drawn": samples("a")}, "nothing was found"),
        ({"drawn": samples("a", status="truncated")}, "set sample.max_new_tokens higher"),
        ({"drawn": samples("a", status="no_answer")}, "enable_thinking: false"),
        ({"drawn": samples("a", status="error")}, "100% of the draws failed"),
        ({"drawn": samples("a"), "chosen": ["truncated"]}, "set predict.choice_max_new_tokens higher"),
        ({"drawn": samples("a"), "questions": 0}, "no question is left to train on"),
        ({"drawn": samples("a"), "rewards": (0.0, 0.0)}, "no completion in training had the right form"),
        ({"drawn": samples("a"), "failure": "train"}, "the stage train failed"),
        (
            {"drawn": samples("a"), "timings": {"train": [{"mib": 1, "gpu_mib": 95, "gpu_total_mib": 100}]}},
            "train takes 95% of the GPU's memory: set train.prompts_per_device lower",
        ),
    ],
)
def test_each_fault_has_a_sentence_with_what_to_change(settings, words):
    assert words in sentences(**settings)


def test_memory_is_shown_beside_what_the_gpu_has():
    lines = memory({"sample": [{"mib": 900, "gpu_mib": 2000, "gpu_total_mib": 80_000}], "options": [{"mib": 100}]})
    assert lines == ["sample          900 MiB, GPU 2,000 of 80,000 MiB", "options         100 MiB"]
