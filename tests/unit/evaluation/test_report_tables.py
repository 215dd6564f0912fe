"""The tables of costs, letters, confidences and classes, against counts by hand."""

import numpy as np
import polars as pl
import pytest
from support.scores import BENCH, ROWS, frame, random_scores

from pipeline.evaluation.calibration import calibration, risks
from pipeline.evaluation.class_tables import WORST, by_class, confusion
from pipeline.evaluation.cost import cost
from pipeline.evaluation.letters import letters
from pipeline.evaluation.results import details
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import VOTE_SHARE


def test_tokens_are_counted_for_what_was_generated():
    scored = random_scores()
    rows, threshold = scored.test.filter(model="base"), scored.vote_thresholds["base"]
    table = {row["answer"]: row for row in cost(scored).filter(model="base").iter_rows(named=True)}
    is_question = rows["choice_text"].is_not_null()
    assert table["one_step"]["generated_tokens"] == 12 and table["vote"]["generated_tokens"] == 240
    assert table["two_step"]["generated_tokens"] == pytest.approx(240 + 40 * is_question.mean(), abs=6e-5)
    share = rows.select(VOTE_SHARE.alias("share"))["share"]
    expected = (is_question & (share < threshold)).mean()
    assert table["cascade"]["second_questions"] == pytest.approx(expected, abs=6e-5) and 0 < expected < 1
    orders = rows["options"].list.len().filter(is_question).sum() / rows.height
    assert table["rotated"]["second_questions"] == pytest.approx(orders, abs=6e-5)
    vote = table["vote"]
    assert vote["right_per_1000_tokens"] == pytest.approx(1000 * vote["accuracy"] / 240, abs=1e-3)


def test_letters_are_counted_where_they_were_shown():
    rows = random_scores().test.filter(model="base")
    table = letters(rows)
    questions = rows.filter(pl.col("choice_text").is_not_null())
    first = table.row(0, named=True)
    assert first == {
        "model": "base",
        "letter": "A",
        "shown": questions.height,
        "chosen": questions.filter(letter="A").height,
        "truth": sum(row["options"][0]["class_id"] == row["class_id"] for row in questions.iter_rows(named=True)),
        "right": questions.filter(pl.col("letter") == "A", pl.col("two_step") == pl.col("class_id")).height,
        **counts_over_orders(questions, 0),
    }
    assert {key: table.row(3, named=True)[key] for key in counts_over_orders(questions, 3)} == counts_over_orders(
        questions, 3
    )
    assert table["truth"].sum() == details(random_scores())["base"]["letter_choice"]["n"]


def counts_over_orders(questions, place):
    """How often a letter was shown, chosen, true and right, counted order by order."""
    counts = dict.fromkeys(("shown_rotated", "chosen_rotated", "truth_rotated", "right_rotated"), 0)
    for row in questions.iter_rows(named=True):
        ids = [option["class_id"] for option in row["options"]]
        for rotation, answer in enumerate([row["two_step"], *row["rotated"]]):
            if place >= len(ids):
                continue
            option = (ids[rotation:] + ids[:rotation])[place]
            counts["shown_rotated"] += 1
            counts["chosen_rotated"] += answer == option
            counts["truth_rotated"] += option == row["class_id"]
            counts["right_rotated"] += answer == option == row["class_id"]
    return counts


@pytest.fixture(scope="module")
def calibrated():
    """Votes that are right as often as they agree."""
    rng, rows = np.random.default_rng(0), []
    for number in range(600):
        votes = int(rng.integers(1, 5))
        truth = 0 if rng.random() < votes / 4 else 1
        row = ROWS[0] | {
            "image_id": f"{number}",
            "class_id": truth,
            "vote": 0,
            "split": "val" if number < 300 else "test",
        }
        rows.append(row | {"options": [{"class_id": 0, "name": "0", "votes": votes, "rank": 1, "source": "draws"}]})
    return score(frame(*rows))


def test_the_confidence_of_calibrated_votes(calibrated):
    summary = details(calibrated, precision=0.7)["base"]["confidence"]["vote"]
    assert summary["threshold"] == 0.5 or summary["threshold"] == 0.75
    assert summary["base"]["ece"] < 0.08
    assert summary["base"]["precision"] == pytest.approx(0.8, abs=0.1)
    table = calibration(calibrated.confidences)
    assert table["confidence_vote_base_base"].is_sorted() and table["tenth"].to_list() == list(range(1, 11))
    gaps = table["confidence_vote_base_base"] - table["accuracy_vote_base_base"]
    assert gaps.abs().max() < 0.25 and abs(gaps.mean()) < 0.05
    accuracy = calibrated.scores["vote"].mean()
    assert table["accuracy_vote_base_base"].mean() == pytest.approx(accuracy, abs=1e-3), "tenths of as many images"


def test_the_risk_of_calibrated_votes(calibrated):
    table, wrong = risks(calibrated.confidences), 1 - calibrated.scores["vote"].mean()
    assert table["coverage"].to_list()[-1] == 1.0
    assert table["vote_base_base"].to_list()[-1] == pytest.approx(wrong, abs=6e-5)
    assert table["vote_base_base"].to_list()[0] < wrong


def test_a_precision_that_no_threshold_reaches_covers_nothing(calibrated):
    wrong = calibrated.test.with_columns(split=pl.lit("val"), class_id=pl.lit(7, pl.Int64)).select(
        frame(ROWS[0]).columns
    )
    summary = details(score(pl.concat([wrong, frame(ROWS[0], ROWS[2])])))["base"]["confidence"]["vote"]
    assert summary["threshold"] is None
    assert summary["base"]["coverage"] == 0 and summary["base"]["precision"] is None


def test_classes_and_the_most_confused_ones():
    scored, classes = random_scores(), BENCH.classes()
    table = by_class(scored, classes)
    assert table.height == 200 and table["n"].sum() == 400
    one = table.filter(name="kind 3").row(0, named=True)
    own = scored.scores.filter(model="trained", class_id=3)
    assert one["two_step_trained"] == pytest.approx(own["two_step"].mean(), abs=6e-5)
    pairs = confusion(scored.test.filter(model="trained"), classes)
    assert pairs.height and pairs["actual"].n_unique() <= WORST and pairs["predicted"].n_unique() <= WORST
    answers = scored.test.filter(pl.col("model") == "trained", pl.col("two_step").is_not_null())
    both = pl.concat([pairs["actual"].unique(), pairs["predicted"].unique()]).unique().to_list()
    ids = [int(name.removeprefix("kind ")) for name in both]
    assert pairs.height == answers.filter(pl.col("class_id").is_in(ids), pl.col("two_step").is_in(ids)).height
