"""Metrics against numbers worked out by hand and by simulation."""

import random

import polars as pl
import pytest
from support.scores import ROWS, frame

from pipeline.commands.summary import lines
from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.evaluation import metrics
from pipeline.evaluation.comparison import Resampled, arms
from pipeline.evaluation.results import evaluate, require_same_images, unmatched


@pytest.mark.parametrize(
    ("base", "novel", "wanted"),
    [(0.808, 0.788, 0.7979), (0.840, 0.370, 0.5137), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_harmonic_mean(base, novel, wanted):
    assert metrics.harmonic_mean(base, novel) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("n", "correct", "k", "wanted"),
    [(20, 0, 20, 0.0), (20, 1, 20, 1.0), (20, 5, 1, 0.25), (4, 2, 2, 1 - 1 / 6), (3, 3, 1, 1.0), (5, 4, 2, 1.0)],
)
def test_pass_at_k(n, correct, k, wanted):
    assert metrics.pass_at_k(n, correct, k) == pytest.approx(wanted)


def test_pass_at_k_is_the_chance_of_a_hit():
    rng = random.Random(0)
    draws = [True] * 3 + [False] * 7
    hits = sum(any(rng.sample(draws, 4)) for _ in range(20_000))
    assert metrics.pass_at_k(10, 3, 4) == pytest.approx(hits / 20_000, abs=0.01)


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)])
def test_pass_at_k_of_nonsense(n, correct, k):
    with pytest.raises(ValueError, match="does not exist"):
        metrics.pass_at_k(n, correct, k)


def by_part(predictions):
    return metrics.by_part(metrics.scores(predictions))


def table_of(predictions):
    return arms(Resampled(metrics.scores(predictions)))


def test_every_row_counts_and_failures_are_wrong():
    found = by_part(frame(*ROWS))
    assert (found["pass@1"]["base"], found["pass@1"]["novel"]) == (0.25, 0.125)
    assert (found["pass@K"]["base"], found["pass@K"]["novel"]) == (0.5, 0.5)
    assert (found["one_step"]["base"], found["one_step"]["novel"]) == (0.5, 0.0)
    assert (found["two_step"]["base"], found["two_step"]["novel"], found["two_step"]["hm"]) == (0.5, 0.5, 0.5)
    assert {(m["n_base"], m["n_novel"]) for m in found.values()} == {(2, 2)}


def test_the_vote_is_taken_where_it_is_sure_enough():
    rows = frame(*ROWS)  # vote shares: none of a's options has more than one vote of four
    cascade = {gate: metrics.scores(rows, {"base": gate})["cascade"].to_list() for gate in (0.0, 0.25, 0.3)}
    assert cascade[0.0] == cascade[0.25] == metrics.scores(rows)["vote"].to_list() == [1.0, 0.0, 0.0, 0.0]
    assert cascade[0.3] == metrics.scores(rows)["cascade"].to_list() == metrics.scores(rows)["two_step"].to_list()


@pytest.mark.parametrize(
    ("two_step", "rotated", "right"),
    [
        (0, [1, 1], 0.0),
        (1, [0, 0], 1.0),
        (1, [0], 0.0),
        (0, [1], 1.0),
        (None, [0], 1.0),
        (None, [None], 0.0),
        (0, [], 1.0),
    ],
)
def test_several_orders_are_a_vote_in_which_the_first_settles_a_tie(two_step, rotated, right):
    row = ROWS[0] | {"two_step": two_step, "rotated": rotated}
    assert metrics.scores(frame(row))["rotated"].to_list() == [right]


def test_the_oracle_is_right_where_the_truth_is_offered():
    assert metrics.scores(frame(*ROWS))["oracle"].to_list() == [1.0, 1.0, 1.0, 0.0]


def test_mistakes_and_right_answers_are_all_there_is():
    lost = ROWS[0] | {"image_id": "e", "two_step": 1}
    found = metrics.mistakes(frame(*ROWS, lost))
    assert found["base"] == {"not_offered": 0.0, "wrong_letter": 0.3333, "unreadable": 0.3333, "n": 3}
    assert found["novel"] == {"not_offered": 0.5, "wrong_letter": 0.0, "unreadable": 0.0, "n": 2}
    assert found["total"] == {"not_offered": 0.2, "wrong_letter": 0.2, "unreadable": 0.2, "n": 5}
    nothing = ROWS[0] | {"options": [], "two_step": None}
    assert metrics.mistakes(frame(nothing))["base"]["not_offered"] == 1.0, "no letter would have been right"
    other = ROWS[0] | {"dataset": "y"}
    assert metrics.mistakes(frame(*ROWS, lost, other))["base"]["wrong_letter"] == 0.1667, "data sets count alike"


def test_flips_are_questions_that_the_order_decided():
    steady, flipped = ROWS[0] | {"rotated": [0, 0]}, ROWS[0] | {"image_id": "z", "rotated": [0, None]}
    found = metrics.letter_choice(frame(steady, flipped, *ROWS[2:]))
    assert found["flips"] == 0.5 and found["rotated"] == 2
    assert found["every_order"] == 0.8333, "five of six answers"


NOT_TURNED = {"flips": 0.0, "every_order": 0.0, "rotated": 0}


def test_letter_choice_counts_only_questions_that_could_be_answered():
    found = metrics.letter_choice(frame(*ROWS))
    # a and c are right; b has the truth among its options and no readable letter; d was never asked.
    assert found == {"accuracy": round(2 / 3, 4), "chance": 0.5, "n": 3, "asked": 3, **NOT_TURNED}


def test_evaluate_says_what_training_gained():
    after = [row | {"model": "trained", "two_step": row["class_id"]} for row in ROWS]
    both = frame(*ROWS, *after)
    found = evaluate(both)
    assert found["gain"]["two_step"] == {"base": 0.5, "novel": 0.5, "hm": 0.5}
    assert found["base"]["status"] == {"no_answer": 1, "ok": 3}
    assert found["base"]["status_greedy"] == {"ok": 4} and found["base"]["status_draws"] == {"off_list": 1, "ok": 15}
    table = table_of(both)
    assert table.height == 2 * len(metrics.METRICS) * len(metrics.PARTS)
    assert found["base"]["K"] == 4
    assert table.filter(model="trained", metric="two_step", part="hm")["accuracy"].item() == 1.0


def test_a_half_without_images_has_no_accuracy():
    found = by_part(frame(*ROWS[:2]))
    assert found["two_step"]["base"] == 0.5
    assert found["two_step"]["novel"] is None and found["two_step"]["hm"] is None
    assert found["two_step"]["n_novel"] == 0
    after = [row | {"model": "trained", "two_step": row["class_id"]} for row in ROWS[:2]]
    both = evaluate(frame(*ROWS[:2], *after))
    assert both["gain"]["two_step"] == {"base": 0.5}
    table = table_of(frame(*ROWS[:2], *after))
    assert table.filter(part="novel")["accuracy"].null_count() == 2 * len(metrics.METRICS)
    assert "–" in lines(both)[1] and lines(both)[-1].endswith("base +50.0")


def answered(dataset, subset, right, wrong):
    row = ROWS[0] | {"dataset": dataset, "subset": subset}
    return [
        row | {"image_id": f"{dataset} {subset} {n}", "two_step": row["class_id"] if n < right else None}
        for n in range(right + wrong)
    ]


def test_the_summary_shows_each_data_set_of_models_that_have_one_answer():
    two = [*answered("large", "base", 3, 1), *answered("small", "base", 1, 3)]
    no_draws = {"draws": [], "draw_statuses": [], "draw_texts": [], "draw_tokens": [], "choice_text": None}
    clip = [row | no_draws | {"model": "clip_x", "one_step": row["two_step"]} for row in two]
    said = lines(evaluate(frame(*two, *(row | {"model": "trained"} for row in two), *clip)))
    by_set = [line.split() for line in said if line.endswith("   small")]
    assert [words[0] for words in by_set] == ["two-step", "two-step", "one-step"]
    assert [words[1] for words in by_set] == ["25.0"] * 3


def test_data_sets_count_alike_whatever_their_size():
    large = [*answered("large", "base", 90, 10), *answered("large", "novel", 60, 40)]
    small = [*answered("small", "base", 1, 3), *answered("small", "novel", 1, 1)]
    found = evaluate(frame(*large, *small))["base"]
    two_step = found["two_step"]
    assert (two_step["base"], two_step["novel"]) == (0.575, 0.55)  # (.9 + .25) / 2 and (.6 + .5) / 2
    assert two_step["hm"] == round(2 * 0.575 * 0.55 / 1.125, 4)
    assert two_step["mean_hm"] == round((2 * 0.9 * 0.6 / 1.5 + 2 * 0.25 * 0.5 / 0.75) / 2, 4)
    assert (two_step["n_base"], two_step["n_novel"]) == (104, 102)
    assert found["datasets"]["small"]["two_step"]["base"] == 0.25
    assert found["datasets"]["large"] == by_part(frame(*large))
    table = table_of(frame(*large, *small))
    assert table.filter(dataset="small", metric="two_step", part="novel")["accuracy"].to_list() == [0.5]
    assert table["dataset"].unique(maintain_order=True).to_list() == ["all", "large", "small"]


def test_a_data_set_without_novel_images_counts_for_the_base_half_alone():
    found = by_part(frame(*answered("a", "base", 1, 1), *answered("a", "novel", 1, 0), *answered("b", "base", 1, 0)))
    assert found["two_step"]["base"] == 0.75 and found["two_step"]["novel"] == 1.0
    assert found["two_step"]["mean_hm"] == round(2 * 0.5 / 1.5, 4)


def models(base, trained):
    return frame(*(row | {"model": model} for model, rows in (("base", base), ("trained", trained)) for row in rows))


def test_models_that_answered_the_same_images_pass():
    require_same_images(models(ROWS, ROWS[::-1]))


@pytest.mark.parametrize(
    ("base", "trained", "reason"),
    [
        (ROWS, ROWS[:3], "an image is missing"),
        (ROWS, (*ROWS[:3], ROWS[3] | {"image_id": "e"}), "another image"),
        ((*ROWS, ROWS[0]), (*ROWS, ROWS[0]), "an image twice"),
        (ROWS, tuple(row | {"draws": [0]} for row in ROWS), "another number of draws"),
    ],
)
def test_models_that_answered_others_are_not_compared(base, trained, reason):
    with pytest.raises(UserError, match="same images"):
        require_same_images(models(base, trained))


def test_unmatched_answers_are_listed_with_their_counts():
    samples = pl.DataFrame(
        [
            {"image_id": "a", "draw": d, "text": "", "answer": a, "class_id": None, "status": s, "tokens": 1}
            for d, (a, s) in enumerate([("roc", "off_list"), ("roc", "off_list"), (None, "no_answer"), ("x", "ok")])
        ],
        schema=tables.SAMPLES.schema,
    )
    found = unmatched(samples, frame(*ROWS))
    assert found.rows() == [("test draws, base", "dodo", 1), ("training draws", "roc", 2)]
