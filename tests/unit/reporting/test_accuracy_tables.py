"""The tables of accuracies, bounds and gains, from the registry of the ways to answer."""

import polars as pl
import pytest
from support.report_runs import CLASSES, predictions, report_page, results_of, row, save

from pipeline.evaluation.ways import WAYS, Way
from pipeline.reporting.accuracy_tables import accuracies, bounds, gains
from pipeline.reporting.cards import accuracy_table
from pipeline.reporting.gallery import Gallery

ROWS = [row(model, n, n < k) for model, k in (("base", 10), ("trained", 20)) for n in range(40)]


@pytest.fixture
def made_up():
    """A way to answer that nothing but the registry has."""
    before = list(WAYS)
    way = Way("first", "The first draw", "first draw", "draws", answer=pl.col("draws").list.first(), meaning="by haste")
    WAYS.append(way)
    yield way
    WAYS[:] = before


def test_ways_stand_in_the_order_of_the_registry():
    results = results_of(ROWS)
    for groups, is_bound in ((accuracies(results), False), (bounds(results), True)):
        assert [group["title"] for group in groups] == ["Before training", "After training"]
        for group in groups:
            rows = [(name, title) for name, title, _ in group["rows"]]
            assert rows == [(way.name, way.title) for way in WAYS if way.is_bound is is_bound]
            assert group["counts"] == {"base": 20, "novel": 20}


def test_a_way_of_the_registry_is_on_the_page_and_on_the_card(run_folder, made_up):
    save([one for one in ROWS if one["model"] == "base"], [one for one in ROWS if one["model"] == "trained"])
    html = report_page()
    assert html.count(">The first draw</th>") == 2 and "<dd>by haste</dd>" in html
    card = accuracy_table(pl.read_csv("reports/tables/accuracies.csv"))
    lines = [line for line in card.splitlines() if "| first draw |" in line]
    assert len(lines) == 2 and lines[0].startswith("| base | first draw | 100.0 (")


def test_answers_of_an_image_are_those_of_the_headline(made_up):
    gallery = Gallery(predictions(ROWS), CLASSES, images(), {"base": "B", "trained": "T"})
    assert [name for name, _ in gallery.ways] == ["one_step", "vote", "two_step"]
    WAYS[-1] = Way("first", "The first draw", "first", "draws", answer=pl.col("draws").list.last(), headline=True)
    gallery = Gallery(predictions(ROWS), CLASSES, images(), {"base": "B", "trained": "T"})
    assert gallery.ways[-1] == ("first", "The first draw") and gallery.answers[0][0]["first"] is None


def images() -> pl.DataFrame:
    return pl.DataFrame({"image_id": [f"{n:016x}" for n in range(40)], "image": [b""] * 40})


def test_further_models_have_the_ways_that_they_can_answer_by():
    plain = {"draws": [], "draw_statuses": [], "draw_texts": [], "draw_tokens": [], "choice_text": None}
    more = [row("clip_small", n, False, **plain, one_step=n % 4 if n < 8 else None) for n in range(40)]
    (group,) = [group for group in accuracies(results_of(ROWS + more)) if group["title"] == "clip_small"]
    ((name, title, cells),) = group["rows"]
    assert (name, title) == ("one_step", "One-step") and [cell["accuracy"] for cell in cells] == [0.2, 0.2, 0.2]


def test_gains_are_those_that_were_compared():
    titles = [title for title, _ in gains(results_of(ROWS))]
    assert titles == [
        *("Training, two-step", "Training, one-step", "Second step, before training", "Second step, after training"),
    ]
    alone = gains(results_of([one for one in ROWS if one["model"] == "base"]))
    assert [title for title, _ in alone] == ["Second step, base model"]
    first = gains(results_of(ROWS))[0][1]
    assert [round(cell["difference"], 4) for cell in first] == [0.2, 0.3, 0.26]
