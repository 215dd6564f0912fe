"""Tables: checked when read, whole or absent when written, the same bytes for the same rows."""

from pathlib import Path

import polars as pl
import pytest

from pipeline.core import tables
from pipeline.core.params import UserError

ROWS = pl.DataFrame(
    [
        {"dataset": "x", "class_id": c, "name": f"class {c}", "subset": "base", "aliases": ["one", "other"]}
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
    ROWS.write_parquet(file, metadata={tables.FOOTER_KEY: "images/2"})


def unmarked(file):
    ROWS.write_parquet(file)


def truncated(file):
    file.write_bytes(file.read_bytes()[:-200])


def cut_short(file):
    file.write_bytes(b"")


def text(file):
    file.write_text("class_id,name\n1,a\n", encoding="utf-8")


def missing_column(file):
    ROWS.drop("aliases").write_parquet(file, metadata={tables.FOOTER_KEY: tables.CLASSES.mark})


def other_type(file):
    ROWS.with_columns(pl.col("class_id").cast(pl.String)).write_parquet(
        file, metadata={tables.FOOTER_KEY: tables.CLASSES.mark}
    )


def gone(file):
    file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (older, "this is classes/0"),
        (another_table, "this is images/2"),
        (unmarked, "no table of divek"),
        (truncated, "damaged"),
        (cut_short, "damaged"),
        (text, "damaged"),
        (missing_column, "without aliases"),
        (other_type, "class_id as String"),
        (gone, "no such file"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_the_way_out(file, damage, message):
    damage(file)
    with pytest.raises(UserError) as caught:
        tables.read(tables.CLASSES, file)
    sentence = str(caught.value)
    assert sentence.startswith(str(file)), "which file"
    assert message in sentence, "what is wrong"
    assert "`dvc repro download` writes it" in sentence, "the next command"
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (pl.concat([ROWS, ROWS.head(1)]), "in 2 rows"),
        (pl.concat([ROWS.head(1), ROWS]), "in 2 rows"),
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


@pytest.mark.parametrize(
    "rows", [pl.concat([ROWS.head(1), ROWS]), pl.concat([ROWS, ROWS.head(1)]), pl.concat([ROWS, ROWS.tail(1)])]
)
def test_a_file_with_a_key_twice_is_refused(file, rows):
    rows.write_parquet(file, metadata={tables.FOOTER_KEY: tables.CLASSES.mark})
    with pytest.raises(UserError, match="in 2 rows, but each key of classes/4 must be unique"):
        tables.read(tables.CLASSES, file)


def test_keys_ascend_column_by_column():
    def ascends(*keys: tuple[str, int | None]) -> bool:
        frame = pl.DataFrame(keys, schema={"dataset": pl.String, "class_id": pl.Int64}, orient="row")
        return tables._ascends(tables.CLASSES, frame)

    assert ascends() and ascends(("a", 5)) and ascends(("a", 1), ("a", 2), ("b", 0))
    assert not ascends(("a", 1), ("a", 1)) and not ascends(("b", 0), ("a", 1)) and not ascends(("a", 2), ("a", 1))
    assert not ascends(("a", None), ("a", None))


def test_every_table_has_its_own_name_and_a_key_of_its_columns():
    assert len({t.name for t in tables.TABLES}) == len(tables.TABLES)
    for table in tables.TABLES:
        assert set(table.key) <= set(table.columns), table.name


def pictures(count: int) -> pl.DataFrame:
    """Rows of images, sorted by nothing."""
    return pl.DataFrame(
        [
            {"image_id": f"{n * 7919 % 1000:04}", "dataset": "d", "class_id": n % 3, "split": "train", "file": str(n)}
            | {"status": "ok", "content": str(n), "image": bytes([n % 256]) * (n * 100)}
            for n in range(count)
        ],
        schema=tables.IMAGES.schema,
    )


def by_rows(frame: pl.DataFrame, path: Path) -> None:
    images = frame["image"].to_list()
    sizes = pl.Series([len(image) for image in images], dtype=pl.Int64)
    tables.write_by_rows(tables.IMAGES, frame.drop("image"), "image", sizes, images.__getitem__, path)


def test_a_table_written_row_by_row_has_the_same_rows(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(tables, "GROUP_BYTES", 50_000)
    frame = pictures(100)
    by_rows(frame, tmp_path / "rows.parquet")
    tables.write(tables.IMAGES, frame, tmp_path / "whole.parquet")
    frames = [tables.read(tables.IMAGES, tmp_path / name) for name in ("rows.parquet", "whole.parquet")]
    assert frames[0].equals(frames[1]) and frames[0]["image_id"].is_sorted()
    assert 5 < pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups < 30
    by_rows(frame.sample(fraction=1, shuffle=True, seed=1), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "rows.parquet").read_bytes()
    where = pl.col("class_id") == 1
    assert tables.read(tables.IMAGES, tmp_path / "rows.parquet", ["image_id"], where).height == 33


def test_a_table_written_row_by_row_is_checked_as_any_other(tmp_path):
    frame = pictures(3)
    for bad, message in (
        (frame.with_columns(image_id=pl.lit("a")), "in 3 rows"),
        (frame.with_columns(status=pl.lit("fine")), "'fine' is none of"),
        (frame.drop("file"), "columns differ|file"),
    ):
        with pytest.raises((ValueError, pl.exceptions.ColumnNotFoundError), match=message):
            by_rows(bad, tmp_path / "bad.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\x1b]0;title\x07wren\x9b31m", "]0;titlewren31m"),
        ("black-footed albatross", "black-footed albatross"),
        ("", ""),
    ],
)
def test_reports_hold_no_formulas_and_no_control_characters(text, expected):
    table = pl.DataFrame({"name": [text], "change": [-0.5]})
    assert pl.read_csv(tables.csv_text(table).encode())["name"].fill_null("").to_list() == [expected]
    assert "-0.5" in tables.csv_text(table), "numbers stay numbers"
