"""Metrics against numbers worked out by hand and by simulation."""

import random

import polars as pl
import pytest
from support.scores import ROWS, clustered, frame

from pipeline.commands.summary import summary_lines
from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.evaluation import metrics
from pipeline.evaluation.comparison import accuracies
from pipeline.evaluation.results import details, headline
from pipeline.evaluation.scoring import require_same_images, score
from pipeline.evaluation.unmatched import unmatched
from pipeline.evaluation.ways import WAYS, prepare


@pytest.mark.parametrize(
    ("base", "novel", "expected"),
    [(0.808, 0.788, 0.7979), (0.840, 0.370, 0.5137), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_harmonic_mean(base, novel, expected):
    assert metrics.harmonic_mean(base, novel) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("n", "correct", "k", "expected"),
    [(20, 0, 20, 0.0), (20, 1, 20, 1.0), (20, 5, 1, 0.25), (4, 2, 2, 1 - 1 / 6), (3, 3, 1, 1.0), (5, 4, 2, 1.0)],
)
def test_pass_at_k(n, correct, k, expected):
    assert metrics.pass_at_k(n, correct, k) == pytest.approx(expected)


def test_pass_at_k_is_the_chance_of_a_hit():
    rng = random.Random(0)
    draws = [True] * 3 + [False] * 7
    hits = sum(any(rng.sample(draws, 4)) for _ in range(20_000))
    assert metrics.pass_at_k(10, 3, 4) == pytest.approx(hits / 20_000, abs=0.01)


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)])
def test_pass_at_k_of_nonsense(n, correct, k):
    with pytest.raises(ValueError, match="does not exist"):
        metrics.pass_at_k(n, correct, k)


def scores(predictions, **vote_thresholds):
    return metrics.scores(prepare(predictions, vote_thresholds))


def averages(predictions):
    return metrics.averages(scores(predictions))


def evaluate(predictions):
    return details(score(predictions))


def table_of(predictions):
    return accuracies(clustered(scores(predictions)))


def test_every_row_counts_and_failures_are_wrong():
    result = averages(frame(*ROWS))
    assert (result["pass@1"]["base"], result["pass@1"]["novel"]) == (0.25, 0.125)
    assert (result["pass@K"]["base"], result["pass@K"]["novel"]) == (0.5, 0.5)
    assert (result["one_step"]["base"], result["one_step"]["novel"]) == (0.5, 0.0)
    assert (result["two_step"]["base"], result["two_step"]["novel"], result["two_step"]["hm"]) == (0.5, 0.5, 0.5)
    assert {(m["n_base"], m["n_novel"]) for m in result.values()} == {(2, 2)}


def test_the_vote_is_taken_where_it_is_sure_enough():
    rows = frame(*ROWS)  # vote shares: none of a's options has more than one vote of four
    cascade = {share: scores(rows, base=share)["cascade"].to_list() for share in (0.0, 0.25, 0.3)}
    assert cascade[0.0] == cascade[0.25] == scores(rows)["vote"].to_list() == [1.0, 0.0, 0.0, 0.0]
    assert cascade[0.3] == scores(rows)["cascade"].to_list() == scores(rows)["two_step"].to_list()


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
    assert scores(frame(row))["rotated"].to_list() == [right]


def test_the_oracle_is_right_where_the_truth_is_offered():
    assert scores(frame(*ROWS))["oracle"].to_list() == [1.0, 1.0, 1.0, 0.0]


def test_mistakes_and_right_answers_are_all_there_is():
    lost = ROWS[0] | {"image_id": "e", "two_step": 1}
    result = metrics.mistakes(frame(*ROWS, lost))
    assert result["base"] == {"not_offered": 0.0, "wrong_letter": 0.3333, "unreadable": 0.3333, "n": 3}
    assert result["novel"] == {"not_offered": 0.5, "wrong_letter": 0.0, "unreadable": 0.0, "n": 2}
    assert result["total"] == {"not_offered": 0.2, "wrong_letter": 0.2, "unreadable": 0.2, "n": 5}
    nothing = ROWS[0] | {"options": [], "two_step": None}
    assert metrics.mistakes(frame(nothing))["base"]["not_offered"] == 1.0, "no letter would have been right"
    other = ROWS[0] | {"dataset": "y"}
    assert metrics.mistakes(frame(*ROWS, lost, other))["base"]["wrong_letter"] == 0.1667, "data sets count alike"


def test_flips_are_questions_that_the_order_decided():
    steady, flipped = ROWS[0] | {"rotated": [0, 0]}, ROWS[0] | {"image_id": "z", "rotated": [0, None]}
    result = metrics.letter_choice(frame(steady, flipped, *ROWS[2:]))
    assert result["flips"] == 0.5 and result["rotated"] == 2
    assert result["every_order"] == 0.8333, "five of six answers"


NOT_ROTATED = {"flips": 0.0, "every_order": 0.0, "rotated": 0}


def test_letter_choice_counts_only_questions_that_could_be_answered():
    result = metrics.letter_choice(frame(*ROWS))
    # a and c are right; b has the truth among its options and no readable letter; d was not asked a second question.
    assert result == {"accuracy": round(2 / 3, 4), "chance": 0.5, "n": 3, "questions": 3, **NOT_ROTATED}


def test_the_details_have_what_training_gained():
    after = [row | {"model": "trained", "two_step": row["class_id"]} for row in ROWS]
    both = frame(*ROWS, *after)
    result = evaluate(both)
    assert result["gain"]["two_step"] == {"base": 0.5, "novel": 0.5, "hm": 0.5}
    assert result["base"]["status"] == {"no_answer": 1, "ok": 3}
    assert result["base"]["status_greedy"] == {"ok": 4} and result["base"]["status_draws"] == {"off_list": 1, "ok": 15}
    table = table_of(both)
    assert table.height == 2 * len(WAYS) * len(metrics.AVERAGES)
    assert result["base"]["K"] == 4
    assert table.filter(model="trained", metric="two_step", subset="hm")["accuracy"].item() == 1.0


def test_the_headline_is_small_and_of_the_base_and_trained_models_alone():
    models = [row | {"model": model} for model in ("base", "trained", "further") for row in ROWS]
    both = evaluate(frame(*models))
    short = headline(both)
    assert list(short) == ["base", "trained", "gain"]
    assert list(short["base"]) == ["pass@1", "one_step", "vote", "two_step", "pass@K"]
    for way, values in short["trained"].items():
        assert values == {average: both["trained"][way][average] for average in ("base", "novel", "hm")}
    assert short["gain"] == both["gain"]


def test_a_subset_without_images_has_no_accuracy():
    result = averages(frame(*ROWS[:2]))
    assert result["two_step"]["base"] == 0.5
    assert result["two_step"]["novel"] is None and result["two_step"]["hm"] is None
    assert result["two_step"]["n_novel"] == 0
    after = [row | {"model": "trained", "two_step": row["class_id"]} for row in ROWS[:2]]
    both = evaluate(frame(*ROWS[:2], *after))
    assert both["gain"]["two_step"] == {"base": 0.5}
    table = table_of(frame(*ROWS[:2], *after))
    assert table.filter(subset="novel")["accuracy"].null_count() == 2 * len(WAYS)
    assert "–" in summary_lines(both)[1] and summary_lines(both)[-1].endswith("base +50.0")


def rows_of(dataset, subset, right, wrong):
    row = ROWS[0] | {"dataset": dataset, "subset": subset}
    return [
        row | {"image_id": f"{dataset} {subset} {n}", "two_step": row["class_id"] if n < right else None}
        for n in range(right + wrong)
    ]


def test_the_summary_shows_each_data_set_of_models_that_have_one_answer():
    two = [*rows_of("large", "base", 3, 1), *rows_of("small", "base", 1, 3)]
    no_draws = {"draws": [], "draw_statuses": [], "draw_texts": [], "draw_tokens": [], "choice_text": None}
    clip = [row | no_draws | {"model": "clip_x", "one_step": row["two_step"]} for row in two]
    lines = summary_lines(evaluate(frame(*two, *(row | {"model": "trained"} for row in two), *clip)))
    by_set = [line.split() for line in lines if line.endswith("   small")]
    assert [words[0] for words in by_set] == ["two-step", "two-step", "one-step"]
    assert [words[1] for words in by_set] == ["25.0"] * 3


def test_data_sets_count_alike_whatever_their_size():
    large = [*rows_of("large", "base", 90, 10), *rows_of("large", "novel", 60, 40)]
    small = [*rows_of("small", "base", 1, 3), *rows_of("small", "novel", 1, 1)]
    result = evaluate(frame(*large, *small))["base"]
    two_step = result["two_step"]
    assert (two_step["base"], two_step["novel"]) == (0.575, 0.55)  # (.9 + .25) / 2 and (.6 + .5) / 2
    assert two_step["hm"] == round(2 * 0.575 * 0.55 / 1.125, 4)
    assert two_step["mean_hm"] == round((2 * 0.9 * 0.6 / 1.5 + 2 * 0.25 * 0.5 / 0.75) / 2, 4)
    assert (two_step["n_base"], two_step["n_novel"]) == (104, 102)
    assert result["datasets"]["small"]["two_step"]["base"] == 0.25
    assert result["datasets"]["large"] == averages(frame(*large))
    table = table_of(frame(*large, *small))
    assert table.filter(dataset="small", metric="two_step", subset="novel")["accuracy"].to_list() == [0.5]
    assert table["dataset"].unique(maintain_order=True).to_list() == ["all", "large", "small"]


def test_a_data_set_without_novel_images_counts_for_base_classes_alone():
    result = averages(frame(*rows_of("a", "base", 1, 1), *rows_of("a", "novel", 1, 0), *rows_of("b", "base", 1, 0)))
    assert result["two_step"]["base"] == 0.75 and result["two_step"]["novel"] == 1.0
    assert result["two_step"]["mean_hm"] == round(2 * 0.5 / 1.5, 4)


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
    with pytest.raises(UserError, match="do not have the same images and draws"):
        require_same_images(models(base, trained))


def test_unmatched_answers_are_listed_with_their_counts():
    samples = pl.DataFrame(
        [
            {"image_id": "a", "draw": d, "text": "", "answer": a, "class_id": None, "status": s, "tokens": 1}
            for d, (a, s) in enumerate([("roc", "off_list"), ("roc", "off_list"), (None, "no_answer"), ("x", "ok")])
        ],
        schema=tables.SAMPLES.schema,
    )
    result = unmatched(samples, frame(*ROWS))
    assert result.rows() == [("test draws, base", "dodo", 1), ("training draws", "roc", 2)]
