"""Tables: checked when read, whole or absent when written, the same bytes for the same rows."""

import polars as pl
import pytest

from pipeline import tables
from pipeline.params import UserError

ROWS = pl.DataFrame(
    [
        {"dataset": "x", "class_id": c, "name": f"class {c}", "split": "base", "aliases": ["one", "other"]}
        for c in range(50)
    ],
    schema=tables.CLASSES.schema,
)


@pytest.fixture
def file(tmp_path):
    tables.write(tables.CLASSES, ROWS, tmp_path / "classes.parquet")
    return tmp_path / "classes.parquet"


def test_read_gives_back_what_was_written(file):
    assert tables.read(tables.CLASSES, file).equals(ROWS)
    assert tables.read(tables.CLASSES, file, ["name"]).columns == ["name"]


def test_the_same_rows_in_any_order_are_the_same_bytes(file, tmp_path):
    other = tmp_path / "other.parquet"
    tables.write(tables.CLASSES, ROWS.sample(fraction=1.0, shuffle=True, seed=3), other)
    assert other.read_bytes() == file.read_bytes()


def older(file):
    ROWS.write_parquet(file, metadata={tables.FOOTER_KEY: "classes/0"})


def another_table(file):
    ROWS.write_parquet(file, metadata={tables.FOOTER_KEY: "images/1"})


def unmarked(file):
    ROWS.write_parquet(file)


def truncated(file):
    file.write_bytes(file.read_bytes()[:-200])


def cut_short(file):
    file.write_bytes(b"")


def text(file):
    file.write_text("class_id,name\n1,a\n")


def missing_column(file):
    ROWS.drop("aliases").write_parquet(file, metadata={tables.FOOTER_KEY: tables.CLASSES.mark})


def other_type(file):
    ROWS.with_columns(pl.col("class_id").cast(pl.String)).write_parquet(
        file, metadata={tables.FOOTER_KEY: tables.CLASSES.mark}
    )


def gone(file):
    file.unlink()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (older, "found table classes/0"),
        (another_table, "found table images/1"),
        (unmarked, "without a mark"),
        (truncated, "damaged"),
        (cut_short, "damaged"),
        (text, "damaged"),
        (missing_column, "without aliases"),
        (other_type, "class_id as String"),
        (gone, "no such file"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_the_way_out(file, damage, found):
    damage(file)
    with pytest.raises(UserError) as caught:
        tables.read(tables.CLASSES, file)
    sentence = str(caught.value)
    assert sentence.startswith(str(file)), "which file"
    assert found in sentence, "what was found"
    assert "classes/1" in sentence, "what was wanted"
    assert "`dvc repro download`" in sentence, "what to do"
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (pl.concat([ROWS, ROWS.head(1)]), "in 2 rows"),
        (ROWS.drop("name"), "without name"),
        (ROWS.with_columns(pl.lit(None, pl.Int64).alias("class_id")).head(1), "null"),
    ],
)
def test_wrong_rows_are_refused_and_the_old_file_stays(file, rows, reason):
    before = file.read_bytes()
    with pytest.raises(ValueError, match=reason):
        tables.write(tables.CLASSES, rows, file)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name], "nothing half-written stays"


def test_every_table_has_its_own_name_and_a_key_of_its_columns():
    assert len({t.name for t in tables.TABLES}) == len(tables.TABLES)
    for table in tables.TABLES:
        assert set(table.key) <= set(table.columns), table.name
