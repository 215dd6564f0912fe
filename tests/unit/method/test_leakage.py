"""The contamination gate: what must not be in both train and test, and what must not be asked in training."""

import hashlib
import io
import random

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.datasets.ingest import ingest
from pipeline.method.leakage import (
    leaks,
    near_pairs,
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
        **more,
    }


def images(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema={name: tables.IMAGES.schema[name] for name in rows[0]})


def flipped(perceptual_hash: str, bits: int) -> str:
    value = int(perceptual_hash, 16)
    for bit in random.Random(0).sample(range(256), bits):
        value ^= 1 << bit
    return f"{value:064x}"


HASH = row("a")["perceptual_hash"]


# --- Pictures on both sides ---


def test_the_same_content_is_found_at_any_distance():
    found = images(row("a", content="same"), row("b", "test", content="same"), row("c", "test"))
    for distance in (-1, 0, 10):
        assert leaks(found, distance).rows() == [("a", "b", 0)]


@pytest.mark.parametrize(("bits", "distance", "found"), [(0, 0, 1), (1, 0, 0), (10, 10, 1), (11, 10, 0), (0, -1, 0)])
def test_similar_pictures_are_found_up_to_the_distance(bits, distance, found):
    both = images(row("a"), row("b", "test", perceptual_hash=flipped(HASH, bits)))
    assert leaks(both, distance).rows() == [("a", "b", bits)] * found


def test_validation_counts_as_learned_and_pictures_left_out_count_as_nothing():
    for split, found in (("train", 1), ("val", 1), ("out", 0), ("test", 0)):
        assert leaks(images(row("a", split, content="x"), row("b", "test", content="x")), 10).height == found


def test_pictures_that_cannot_be_opened_are_the_same_as_none():
    broken = {"perceptual_hash": None, "status": "error"}
    found = images(row("a", **broken), row("b", "test", **broken), row("c", "test", content="a", **broken))
    assert leaks(found, 10).is_empty()


def test_every_pair_is_found_as_a_plain_loop_finds_it():
    rng = np.random.default_rng(0)
    seeds = [rng.bytes(32).hex() for _ in range(40)]
    hashes = [flipped(seeds[i % 40], int(rng.integers(0, 30))) for i in range(700)]
    rows = [row(str(i), "test" if i % 3 == 0 else "train", perceptual_hash=h) for i, h in enumerate(hashes)]
    wanted = {
        (a["image_id"], b["image_id"], (int(a["perceptual_hash"], 16) ^ int(b["perceptual_hash"], 16)).bit_count())
        for a in rows
        for b in rows
        if a["split"] == "train" and b["split"] == "test"
    }
    assert set(leaks(images(*rows), 12).rows()) == {pair for pair in wanted if pair[2] <= 12}
    assert len(leaks(images(*rows), 12)) > 100


def test_within_one_table_no_picture_is_its_own_double():
    both = images(row("a", content="x"), row("b", content="x"))
    assert near_pairs(both, both, 10).rows() == [("a", "b", 0), ("b", "a", 0)]


def photo(seed: int) -> Image.Image:
    """Noise with the spectrum of photos, amplitudes falling as 1 / frequency."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(360)[:, None], np.fft.rfftfreq(480)[None, :]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / 480)
    layers = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((360, 480))) * falling) for _ in range(3)]
    grey = np.stack([layers[0] + 0.3 * layer for layer in layers], axis=-1)
    return Image.fromarray(np.clip(128 + 50 * grey / grey.std(), 0, 255).astype(np.uint8))


def taken(picture: Image.Image, quality: int) -> dict:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    found = ingest(file.getvalue(), 10**6)
    return {"content": hashlib.sha256(found.image).hexdigest()[:16], "perceptual_hash": found.perceptual_hash}


def test_a_photo_written_anew_is_known_and_another_is_not():
    rows = []
    for seed in range(12):
        picture = photo(seed)
        rows.append(row(f"{seed}", "train", **taken(picture, 92)))
        rows.append(row(f"{seed} poor", "test", **taken(picture, 50)))
        rows.append(row(f"{seed} small", "test", **taken(picture.resize((240, 180)), 80)))
    found = {(left, right) for left, right, _ in leaks(images(*rows), 10).rows()}
    assert found == {(f"{seed}", f"{seed} {kind}") for seed in range(12) for kind in ("poor", "small")}


def test_the_message_names_the_rows_and_the_way_out():
    rows = [row(f"{i}", content=f"c{i}") for i in range(7)] + [row(f"t{i}", "test", content=f"c{i}") for i in range(7)]
    with pytest.raises(UserError) as caught:
        require_apart(images(*rows), 10)
    message = str(caught.value)
    assert "7 pairs" in message and "d/0.jpg (0, train) and d/t0.jpg (t0, test), 0 bits apart" in message
    assert "and 2 more" in message and "data.drop_leaks=true" in message and "\n" not in message


def test_leaving_out_takes_training_images_and_leaves_the_test_as_it_is():
    found = images(
        row("a", content="x"), row("v", "val", content="x"), row("b", "test", content="x"), row("c"), row("d", "test")
    )
    left = without_leaks(found, 10)
    assert dict(left.select("image_id", "split").rows()) == {
        "a": "out", "v": "out", "b": "test", "c": "train", "d": "test",
    }  # fmt: skip
    require_apart(left, 10)


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
    with pytest.raises(UserError, match=r"\d novel classes in training .*'Artic Tern' in the question of image x"):
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
