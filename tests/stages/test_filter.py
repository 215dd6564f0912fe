"""The filter: what can teach stays, the rest leaves with a reason."""

import json

import polars as pl
import pytest

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.method.hard_filter import KEPT, NO_VALID_DRAW, ONE_OPTION, TRUTH_ONLY, reasons
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
            | {"truth_votes": truth, "valid_draws": valid, "distinct": 1}
            for i, (truth, valid) in enumerate(counts)
        ],
        schema=tables.QUESTIONS.schema,
    )


@pytest.mark.parametrize(
    ("truth_votes", "valid_draws", "wanted", "reason"),
    [
        (20, 20, TRUTH_ONLY, "always right"),
        (3, 3, TRUTH_ONLY, "right whenever it named a class"),
        (19, 20, KEPT, "wrong once"),
        (0, 20, KEPT, "never right: the truth was put in"),
        (0, 0, NO_VALID_DRAW, "nothing to choose between"),
    ],
)
def test_reasons(truth_votes, valid_draws, wanted, reason):
    assert reasons(rows((truth_votes, valid_draws))).to_list() == [wanted], reason


def test_one_option_is_no_question():
    """As options.mass = 0.9 has it where 19 of 20 draws are right: whatever the picture shows, the answer is A."""
    assert reasons(rows((19, 20), options=1)).to_list() == [ONE_OPTION]


def test_the_stage_writes_what_is_kept_and_counts_the_rest(tmp_path):
    tables.write(tables.QUESTIONS, rows((20, 20), (19, 20), (0, 0), (0, 5)), tmp_path / "q.parquet")
    main(tmp_path / "q.parquet", tmp_path / "h.parquet", tmp_path / "counts.json")
    assert tables.read(tables.HARD, tmp_path / "h.parquet")["image_id"].to_list() == ["1", "3"]
    assert json.loads((tmp_path / "counts.json").read_text()) == {
        "questions": 4,
        KEPT: 2,
        TRUTH_ONLY: 1,
        NO_VALID_DRAW: 1,
        ONE_OPTION: 0,
    }


def test_nothing_left_is_said_and_nothing_is_written(tmp_path):
    tables.write(tables.QUESTIONS, rows((20, 20)), tmp_path / "q.parquet")
    with pytest.raises(UserError, match="no question is left"):
        main(tmp_path / "q.parquet", tmp_path / "h.parquet", tmp_path / "counts.json")
    assert [p.name for p in tmp_path.iterdir()] == ["q.parquet"]
