"""Options: exact counts, a fixed tie rule, and the truth in the least frequent one's place."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import tables
from pipeline.method.options import questions, top_options
from pipeline.stages.options import OptionsParams, described, ranked, shuffled

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


@pytest.mark.parametrize(("drawn", "truth", "k", "wanted", "reason"), CASES)
def test_top_options(drawn, truth, k, wanted, reason):
    assert top_options(drawn, truth, k) == wanted, reason


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        top_options([1], None, 0)


@given(st.lists(st.none() | st.integers(0, 6), max_size=30), st.none() | st.integers(0, 8), st.integers(1, 6))
def test_top_options_always(drawn, truth, k):
    options = top_options(drawn, truth, k)
    votes = Counter(c for c in drawn if c is not None)
    assert len(options) == len(set(options)) <= k
    assert truth is None or truth in options
    kept = [c for c in options if c in votes and c != truth]
    assert [votes[c] for c in kept] == sorted((votes[c] for c in kept), reverse=True)
    # Nobody outside was named more often than anybody kept, the truth aside.
    outside = [votes[c] for c in votes if c not in options]
    assert not outside or not kept or max(outside) <= min(votes[c] for c in kept)


def test_order_shown_belongs_to_the_image():
    orders = {tuple(shuffled([1, 2, 3, 4, 5], 0, f"image {i}")) for i in range(200)}
    assert len(orders) > 50
    assert shuffled([1, 2, 3], 7, "a") == shuffled([1, 2, 3], 7, "a")
    firsts = Counter(shuffled([1, 2, 3, 4, 5], 0, f"image {i}")[0] for i in range(2000))
    assert all(320 < firsts[c] < 480 for c in range(1, 6)), "each class comes first in a fifth of the images"


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


def test_question_rows_tell_where_each_option_came_from():
    rows = questions(*make_tables({"a": [1, 1, 2, None]}), OptionsParams(2, 0, "topk", "", "", 1.0))
    row = rows.row(0, named=True)
    assert {(o["class_id"], o["votes"], o["rank"], o["source"]) for o in row["options"]} == {
        (1, 2, 1, "draws"),
        (0, 0, None, "truth"),
    }
    shown = [o["class_id"] for o in row["options"]]
    assert shown["AB".index(row["answer"])] == 0
    assert (row["truth_rank"], row["truth_votes"], row["valid_draws"], row["distinct"]) == (None, 0, 3, 2)


def test_samples_in_any_order_give_the_same_questions():
    samples, images, classes = make_tables({"a": [1, 2, 2, 0], "b": [3, 0, 3, None]})
    wanted = OptionsParams(3, 0, "topk", "", "", 1.0)
    mixed = samples.sample(fraction=1.0, shuffle=True, seed=1)
    assert questions(mixed, images, classes, wanted).equals(questions(samples, images, classes, wanted))


@given(
    st.lists(st.lists(st.none() | st.integers(0, 6), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(0, 8),
    st.integers(2, 7),
    st.sampled_from([0.3, 0.5, 0.7, 0.95, 1.0]),
)
def test_all_images_at_once_are_asked_as_each_by_itself(drawn, truth, k, mass):
    rows = questions(
        *make_tables({f"image {n}": draws for n, draws in enumerate(drawn)}, truth),
        OptionsParams(k, 0, "topk", "", "", mass),
    )
    assert rows["image_id"].to_list() == [f"image {n}" for n in range(len(drawn))]
    names = {c: f"class {c}" for c in range(10)}
    for draws, row in zip(drawn, rows.iter_rows(named=True), strict=True):
        order = shuffled(top_options(draws, truth, k, mass), 0, row["image_id"])
        assert row["options"] == described(order, draws, names)
        assert order["ABCDEFG".index(row["answer"])] == truth
        ranks = ranked(draws)
        assert row["truth_rank"] == (ranks.index(truth) + 1 if truth in ranks else None)
        counts = (draws.count(truth), sum(c is not None for c in draws), len(ranks))
        assert (row["truth_votes"], row["valid_draws"], row["distinct"]) == counts


@pytest.mark.parametrize(
    ("drawn", "truth", "mass", "wanted", "reason"),
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
def test_the_fewest_options_that_hold_the_votes(drawn, truth, mass, wanted, reason):
    assert top_options(drawn, truth, 3, mass) == wanted, reason
