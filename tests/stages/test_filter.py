"""The filter: what can teach stays, the rest leaves with a reason."""

import json

import polars as pl
import pytest

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.method.hard_filter import KEPT, NO_VALID_DRAW, ONE_NAME, ONE_OPTION, UNANIMOUS, hard_questions, reasons
from pipeline.stages.filter import main


def rows(*counts, options=2):
    option = {"class_id": 0, "name": "a", "votes": 1, "rank": 1, "source": "draws"}
    return pl.DataFrame(
        [
            {
                "image_id": str(i),
                "dataset": "d",
                "class_id": 0,
                "options": [option] * options,
                "answer": "A",
                "truth_rank": None,
            }
            | {"truth_votes": truth, "draws": 20, "valid_draws": valid, "distinct": 1}
            for i, (truth, valid) in enumerate(counts)
        ],
        schema=tables.QUESTIONS.schema,
    )


@pytest.mark.parametrize(
    ("truth_votes", "valid_draws", "options", "by_rule", "reason"),
    [
        (20, 20, 1, (UNANIMOUS, UNANIMOUS, UNANIMOUS), "always right, and no question without another option"),
        (20, 20, 3, (UNANIMOUS, UNANIMOUS, KEPT), "always right, but a filler makes it a question"),
        (1, 1, 1, (ONE_NAME, ONE_NAME, ONE_NAME), "right once, and 19 draws off the list"),
        (1, 1, 3, (ONE_NAME, KEPT, KEPT), "the same with a filler"),
        (19, 20, 2, (KEPT, KEPT, KEPT), "wrong once"),
        (19, 20, 1, (ONE_OPTION, ONE_OPTION, ONE_OPTION), "options.mass leaves one: the answer would always be A"),
        (0, 20, 2, (KEPT, KEPT, KEPT), "never right: the truth was put in"),
        (0, 0, 1, (NO_VALID_DRAW, NO_VALID_DRAW, NO_VALID_DRAW), "nothing to choose between"),
        (0, 0, 3, (KEPT, KEPT, KEPT), "never a class, but a filler makes it a question"),
    ],
)
def test_reasons(truth_votes, valid_draws, options, by_rule, reason):
    questions = rows((truth_votes, valid_draws), options=options)
    by_name = {rule: reasons(questions, rule).to_list() for rule in ("one_name", "unanimous", "nothing")}
    assert by_name == dict(zip(by_name, ([one] for one in by_rule), strict=True)), reason
    assert reasons(questions).to_list() == by_name["one_name"]
    assert hard_questions(questions, "unanimous").height == (by_rule[1] == KEPT)


def test_the_stage_writes_what_is_kept_and_counts_the_rest(tmp_path):
    no_question = rows((0, 0), options=1).with_columns(image_id=pl.lit("2 draws nothing"))
    questions = pl.concat([rows((20, 20), (19, 20)), no_question, rows((0, 5)).with_columns(image_id=pl.lit("3"))])
    tables.write(tables.QUESTIONS, questions, tmp_path / "q.parquet")
    main(tmp_path / "q.parquet", tmp_path / "h.parquet", tmp_path / "counts.json")
    assert tables.read(tables.HARD, tmp_path / "h.parquet")["image_id"].to_list() == ["1", "3"]
    assert json.loads((tmp_path / "counts.json").read_text(encoding="utf-8")) == {
        "questions": 4,
        KEPT: 2,
        UNANIMOUS: 1,
        ONE_NAME: 0,
        NO_VALID_DRAW: 1,
        ONE_OPTION: 0,
    }


def test_nothing_left_is_said_and_nothing_is_written(tmp_path):
    tables.write(tables.QUESTIONS, rows((20, 20)), tmp_path / "q.parquet")
    with pytest.raises(UserError, match="no question is left"):
        main(tmp_path / "q.parquet", tmp_path / "h.parquet", tmp_path / "counts.json")
    assert [p.name for p in tmp_path.iterdir()] == ["q.parquet"]
