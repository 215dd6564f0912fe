"""The leakage check: what must not be in both train and test, and what must not be asked in training."""

import hashlib
import random

import polars as pl
import pytest

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.method.leakage import (
    leaks,
    require_answered_images,
    require_apart,
    require_base_only,
    require_training_images,
    without_leaks,
)


def row(image_id: str, split: str = "train", **more) -> dict:
    return {
        "image_id": image_id,
        "dataset": "d",
        "class_id": 0,
        "split": split,
        "file": f"{image_id}.jpg",
        "status": "ok",
        "content": image_id,
        "perceptual_hash": hashlib.sha256(image_id.encode()).hexdigest(),
        "copies": None,
        **more,
    }


def images(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema={name: tables.IMAGES.schema[name] for name in rows[0]})


def with_bits_changed(perceptual_hash: str, bits: int) -> str:
    value = int(perceptual_hash, 16)
    for bit in random.Random(0).sample(range(256), bits):
        value ^= 1 << bit
    return f"{value:064x}"


HASH = row("a")["perceptual_hash"]


# --- Pictures on both sides ---


@pytest.mark.parametrize("bits", [0, 1, 38, 200])
def test_copies_on_both_sides_are_leaks_at_any_distance(bits):
    both = images(
        row("a", copies="a"),
        row("b", "test", copies="a", perceptual_hash=with_bits_changed(HASH, bits)),
        row("c", "test"),
    )
    assert leaks(both).rows() == [("a", "b", bits)]


def test_the_same_content_is_a_leak_even_if_the_table_knows_no_copies():
    same = {"content": "x", "perceptual_hash": HASH}
    assert leaks(images(row("a", **same), row("b", "test", **same))).rows() == [("a", "b", 0)]
    assert leaks(images(row("a", copies="a", **same), row("b", "test", copies="a", **same))).height == 1, "once"


def test_validation_counts_as_learned_and_pictures_left_out_count_as_nothing():
    for split, count in (("train", 1), ("val", 1), ("out", 0), ("test", 0)):
        assert leaks(images(row("a", split, copies="a"), row("b", "test", copies="a"))).height == count


def test_pictures_that_cannot_be_opened_are_the_same_as_none():
    broken = {"perceptual_hash": None, "status": "error"}
    rows = images(row("a", **broken), row("b", "test", **broken), row("c", "test", content="a", **broken))
    assert leaks(rows).is_empty()


def test_the_message_names_the_rows_and_the_way_out():
    rows = [row(f"{i}", copies=f"{i}", perceptual_hash=HASH) for i in range(7)]
    rows += [row(f"t{i}", "test", copies=f"{i}", perceptual_hash=HASH) for i in range(7)]
    rows.append(row("u0", "test", copies="0", perceptual_hash=HASH))
    with pytest.raises(UserError) as caught:
        require_apart(images(*rows), CLASSES)
    message = str(caught.value)
    assert "7 training or validation images and 8 test images show the same pictures, in 8 pairs" in message
    assert "d/0.jpg (0, train) and d/t0.jpg (t0, test), 0 bits apart" in message
    assert "and 3 more" in message and "data.drop_leaks=true" in message and "\n" not in message


def test_a_leak_between_two_classes_names_both():
    rows = images(row("a", copies="a"), row("b", "test", class_id=1, copies="a", perceptual_hash=HASH))
    with pytest.raises(UserError, match=r"d/a.jpg \(a, train, House Wren\) and d/b.jpg \(b, test, Rock Wren\), 0 bits"):
        require_apart(rows, CLASSES)


def test_leaving_out_takes_training_images_and_leaves_the_test_as_it_is():
    rows = images(
        row("a", copies="a"), row("v", "val", copies="a"), row("b", "test", copies="a"), row("c"), row("d", "test")
    )
    left = without_leaks(rows)
    assert dict(left.select("image_id", "split").rows()) == {
        "a": "out", "v": "out", "b": "test", "c": "train", "d": "test",
    }  # fmt: skip
    require_apart(left, CLASSES)


# --- Questions ---


def question(truth: int, *options: tuple[int, str], dataset: str = "d", image_id: str = "x") -> dict:
    return {
        "image_id": image_id,
        "dataset": dataset,
        "class_id": truth,
        "options": [{"class_id": c, "name": n, "votes": 1, "rank": 1, "source": "draws"} for c, n in options],
        "answer": "A",
        "truth_rank": 1,
        "truth_votes": 1,
        "valid_draws": 2,
        "distinct": 2,
    }


def hard(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=tables.HARD.schema)


CLASSES = pl.DataFrame(
    [
        {"dataset": d, "class_id": c, "name": name, "subset": subset, "aliases": aliases, "noun": "bird"}
        for d, c, name, subset, aliases in [
            ("d", 0, "House Wren", "base", []),
            ("d", 1, "Rock Wren", "base", []),
            ("d", 2, "Artic Tern", "novel", ["Sterna paradisaea"]),
            ("e", 0, "Arctic Tern", "base", []),
            ("e", 1, "sterna-paradisaea", "base", []),
            ("e", 2, "Artic tern", "base", []),
        ]
    ],
    schema=tables.CLASSES.schema,
)


def test_base_questions_pass():
    require_base_only(hard(question(0, (0, "House Wren"), (1, "Rock Wren"))), CLASSES)
    require_base_only(hard(question(0, (0, "Arctic Tern"), dataset="e")), CLASSES)


@pytest.mark.parametrize(
    "asked",
    [
        question(0, (0, "House Wren"), (2, "Artic Tern")),
        question(2, (0, "House Wren"), (1, "Rock Wren")),
        question(0, (0, "House Wren"), (1, "artic-tern")),
        question(0, (0, "House Wren"), (1, "Sterna paradisaea")),
        question(0, (1, "sterna-paradisaea"), dataset="e"),
        question(2, (0, "Arctic Tern"), dataset="e"),
    ],
    ids=["option", "truth", "option by name", "option by alias", "other data set, alias", "other data set, truth"],
)
def test_a_novel_class_in_a_training_question_stops_it(asked):
    with pytest.raises(UserError, match=r"\d names? of novel classes in .*'Artic Tern' in the question of image x"):
        require_base_only(hard(asked), CLASSES)


def test_questions_are_about_training_images_and_answers_about_test_images():
    found = images(row("a", "train"), row("v", "val"), row("t", "test"), row("o", "out"))
    require_training_images(pl.DataFrame({"image_id": ["a"]}), found)
    answers = pl.DataFrame({"image_id": ["t", "t", "v"], "split": ["test", "test", "val"]})
    require_answered_images(answers, found)
    for image_id in ("v", "t", "o", "unknown"):
        with pytest.raises(UserError, match=f"1 of 2 questions are not about train images .* first about {image_id}"):
            require_training_images(pl.DataFrame({"image_id": ["a", image_id]}), found)
    with pytest.raises(UserError, match="2 of 3 answers are not about test images"):
        require_answered_images(pl.DataFrame({"image_id": ["t", "a", "v"], "split": ["test"] * 3}), found)
    with pytest.raises(UserError, match="1 of 2 answers are not about val images"):
        require_answered_images(pl.DataFrame({"image_id": ["v", "t"], "split": ["val"] * 2}), found)
