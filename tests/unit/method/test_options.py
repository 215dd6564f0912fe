"""Options: exact counts, a fixed tie rule, and the truth in the least frequent one's place."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import oracles

from pipeline.core import tables
from pipeline.method.options import insert_truth, own_options, questions, shuffle, top_options
from pipeline.method.votes import NONE, matrix, ranking

DRAWS = st.lists(st.lists(st.none() | st.integers(0, 6), max_size=8), min_size=1, max_size=5)


def options(drawn, truth, k, mass=1.0):
    """Options of one image, by the code for all images."""
    rows = top_options(*ranking(matrix(pl.Series([drawn], dtype=pl.List(pl.Int64)))), k, mass)
    rows = rows if truth is None else insert_truth(rows, np.array([truth]))
    return [int(c) for c in rows[0] if c != NONE]


CASES = [
    ([1, 2, 2, 3, 3, 3], None, 2, [3, 2], "most frequent first"),
    ([5, 4, 4, 5], None, 2, [5, 4], "a tie goes to the lower first draw, not to the lower class id"),
    ([None, None, 7], None, 5, [7], "draws that name nothing do not count"),
    ([], None, 5, [], "no draws, no options"),
    ([], 4, 5, [4], "no draws: the truth alone"),
    ([1, 1, 1, 2, 2, 3], 9, 3, [1, 2, 9], "the truth replaces the least frequent"),
    ([3, 1, 2], 9, 3, [3, 1, 9], "all tied: the one drawn last gives way"),
    ([1, 1, 2, 9], 9, 2, [1, 9], "drawn, but cut at k: back in the last place"),
    ([9, 1, 1], 9, 2, [1, 9], "already among them: its rank stays"),
    ([1, 1, 2], 9, 5, [1, 2, 9], "room left: nothing is pushed out"),
    ([2, 2], 9, 1, [9], "k = 1"),
]


@pytest.mark.parametrize(("drawn", "truth", "k", "expected", "reason"), CASES)
def test_the_most_frequent_answers_with_the_truth(drawn, truth, k, expected, reason):
    assert options(drawn, truth, k) == expected, reason


@given(DRAWS, st.none() | st.integers(0, 8), st.integers(1, 6), st.sampled_from([0.3, 0.5, 0.7, 0.95, 1.0]))
def test_all_images_at_once_are_as_each_by_itself(drawn, truth, k, mass):
    rows = top_options(*ranking(matrix(pl.Series(drawn, dtype=pl.List(pl.Int64)))), k, mass)
    if truth is not None:
        rows = insert_truth(rows, np.full(len(drawn), truth))
    for own, row in zip(drawn, rows.tolist(), strict=True):
        assert [c for c in row if c != NONE] == oracles.top_options(own, truth, k, mass)


@given(st.lists(st.none() | st.integers(0, 6), max_size=30), st.none() | st.integers(0, 8), st.integers(1, 6))
def test_nobody_outside_has_more_votes(drawn, truth, k):
    own = options(drawn, truth, k)
    votes = Counter(c for c in drawn if c is not None)
    assert len(own) == len(set(own)) <= k
    assert truth is None or truth in own
    inside = [votes[c] for c in own if c in votes and c != truth]
    outside = [votes[c] for c in votes if c not in own]
    assert inside == sorted(inside, reverse=True)
    assert not outside or not inside or max(outside) <= min(inside)


def test_order_shown_belongs_to_the_image():
    five = np.tile(np.arange(1, 6), (2000, 1))
    rows = shuffle(five, [f"image {i}" for i in range(2000)], 0).tolist()
    assert len({tuple(row) for row in rows[:200]}) > 50
    assert rows[:1] == shuffle(five[:1], ["image 0"], 0).tolist() == [oracles.shuffled([1, 2, 3, 4, 5], 0, "image 0")]
    firsts = Counter(row[0] for row in rows)
    assert all(320 < firsts[c] < 480 for c in range(1, 6)), "each class comes first in a fifth of the images"


def test_empty_places_stay_behind():
    assert shuffle(np.array([[3, NONE, NONE]]), ["x"], 0).tolist() == [[3, NONE, NONE]]


def make_tables(drawn: dict[str, list[int | None]], truth: int = 0):
    samples = pl.DataFrame(
        [
            {"image_id": i, "draw": d, "text": "", "answer": None, "class_id": c, "status": "ok", "tokens": 1}
            for i, named in drawn.items()
            for d, c in enumerate(named)
        ],
        schema=tables.SAMPLES.schema,
    )
    images = pl.DataFrame([{"image_id": i, "dataset": "x", "class_id": truth} for i in drawn])
    classes = pl.DataFrame([{"dataset": "x", "class_id": c, "name": f"class {c}"} for c in range(10)])
    return samples, images, classes


def test_question_rows_say_where_each_option_came_from():
    table = questions(*make_tables({"a": [1, 1, 2, None]}), k=2, seed=0)
    assert table.schema == tables.QUESTIONS.schema
    row = table.row(0, named=True)
    assert row["draws"] == 4
    assert {(o["class_id"], o["votes"], o["rank"], o["source"]) for o in row["options"]} == {
        (1, 2, 1, "draws"),
        (0, 0, None, "truth"),
    }
    shown = [o["class_id"] for o in row["options"]]
    assert shown["AB".index(row["answer"])] == 0
    assert (row["truth_rank"], row["truth_votes"], row["valid_draws"], row["distinct"]) == (None, 0, 3, 2)


def test_filler_joins_the_options_of_images_with_one_name_at_most():
    drawn = {"none": [None] * 4, "truth": [0, 0, None, 0], "one wrong": [4, 4, 4, 4], "two": [4, 4, 0, 0]}
    samples, images, classes = make_tables(drawn)
    classes = classes.with_columns(
        subset=pl.when(pl.col("class_id") < 6).then(pl.lit("base")).otherwise(pl.lit("novel"))
    )
    rows = {row["image_id"]: row for row in questions(samples, images, classes, 5, 0, filler=2).iter_rows(named=True)}
    sources = {name: sorted(option["source"] for option in row["options"]) for name, row in rows.items()}
    assert sources == {
        "none": ["random", "random", "truth"],
        "truth": ["draws", "random", "random"],
        "one wrong": ["draws", "random", "random", "truth"],
        "two": ["draws", "draws"],
    }
    for row in rows.values():
        ids = [option["class_id"] for option in row["options"]]
        assert len(set(ids)) == len(ids) and max(ids) < 6, "each once, and no novel class"
        assert ids["ABCDE".index(row["answer"])] == 0
    few = questions(samples, images, classes, 2, 0, filler=2)
    assert few["options"].list.len().max() == 2, "never more than k"
    again = questions(samples, images, classes, 5, 0, filler=2)
    assert list(again.iter_rows(named=True)) == list(rows.values()), "the same seed, the same filler"


def test_samples_in_any_order_give_the_same_questions():
    samples, images, classes = make_tables({"a": [1, 2, 2, 0], "b": [3, 0, 3, None]})
    mixed = samples.sample(fraction=1.0, shuffle=True, seed=1)
    assert questions(mixed, images, classes, 3, 0).equals(questions(samples, images, classes, 3, 0))


NAMES = {c: f"class {c}" for c in range(10)}


@pytest.mark.slow
@given(
    st.lists(st.lists(st.none() | st.integers(0, 6), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(0, 8),
    st.integers(2, 7),
    st.sampled_from([0.3, 0.5, 0.7, 0.95, 1.0]),
)
def test_questions_and_test_options_are_those_of_the_oracle(drawn, truth, k, mass):
    samples, images, classes = make_tables({f"image {n}": draws for n, draws in enumerate(drawn)}, truth)
    rows = questions(samples, images, classes, k, 0, mass)
    assert rows["image_id"].to_list() == [f"image {n}" for n in range(len(drawn))]
    at_test = own_options(matrix(pl.Series(drawn)), rows["image_id"], rows["dataset"], classes, k, 0, mass).to_list()
    for draws, row, own in zip(drawn, rows.iter_rows(named=True), at_test, strict=True):
        order = oracles.shuffled(oracles.top_options(draws, truth, k, mass), 0, row["image_id"])
        assert row["options"] == oracles.option_rows(order, draws, NAMES)
        assert order["ABCDEFG".index(row["answer"])] == truth
        ranks = oracles.ranked(draws)
        assert row["truth_rank"] == (ranks.index(truth) + 1 if truth in ranks else None)
        counts = (draws.count(truth), sum(c is not None for c in draws), len(ranks))
        assert (row["truth_votes"], row["valid_draws"], row["distinct"]) == counts
        order = oracles.shuffled(oracles.top_options(draws, None, k, mass), 0, row["image_id"])
        assert own == oracles.option_rows(order, draws, NAMES), "no truth at test time"


@pytest.mark.parametrize(
    ("drawn", "truth", "mass", "expected", "reason"),
    [
        ([1, 1, 1, 2], None, 0.75, [1], "three of four votes are enough"),
        ([1, 1, 1, 2], None, 0.76, [1, 2], "one class holds too little"),
        ([1, 1, 2, 3], None, 1.0, [1, 2, 3], "off"),
        ([1, 1, None, None, 2], None, 0.6, [1], "draws that name nothing have no vote"),
        ([1, 1, 1, 2], 3, 0.75, [1, 3], "the truth takes a free place"),
        ([1, 2, 3, 4], 5, 0.9, [1, 2, 5], "or the last"),
        ([None, None], None, 0.5, [], "nothing was named"),
        ([0] * 7 + [1] * 3, None, 0.7, [0], "0.7 of 10 is 7"),
    ],
)
def test_the_fewest_options_that_hold_the_votes(drawn, truth, mass, expected, reason):
    assert options(drawn, truth, 3, mass) == expected, reason
