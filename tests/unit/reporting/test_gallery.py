"""The test images of the page: order, outcomes, pictures, and JSON that cannot leave its element."""

import base64
import io
import json

import polars as pl
import pytest
from PIL import Image
from support.report_runs import CLASSES, png, predictions, row

from pipeline.core.params import UserError
from pipeline.reporting.gallery import KINDS, LARGEST_SIDE, Gallery, by_image, data_uri, embedded, kind


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a\u2028b", "&lt;", '"quoted" \\ back', "ß漢🐦"])
def test_embedded_json_keeps_its_texts(text):
    result = embedded({"text": text})
    assert json.loads(result) == {"text": text}
    assert not set(result) & set("<>&\u2028\u2029")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"two_step": 0}, "right"),
        ({"two_step": 1}, "wrong letter"),
        ({"two_step": 1, "options": [{"class_id": 1}]}, "not offered"),
        ({"two_step": None}, "unreadable"),
        ({"two_step": None, "options": []}, "unreadable"),
    ],
)
def test_kinds_of_outcome(changes, expected):
    assert KINDS[kind(row("base", 0, True, **changes))] == expected


def test_pictures_are_small_and_a_missing_one_is_empty():
    uri = data_uri(png(200, (1000, 500)))
    small = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert small.format == "WEBP" and small.size == (LARGEST_SIDE, LARGEST_SIDE // 2)
    assert small.getpixel((9, 9))[0] == pytest.approx(200, abs=4)
    assert Image.open(io.BytesIO(base64.b64decode(data_uri(png(1)).split(",")[1]))).size == (8, 6)
    assert data_uri(b"") == ""


@pytest.mark.parametrize(
    ("titles", "message"),
    [({"base": "B"}, "1 of 1 images are not in the table of images"), ({"trained": "T"}, "no test image has answers")],
)
def test_tables_of_different_runs_have_no_gallery(titles, message):
    images = pl.DataFrame({"image_id": [], "image": []})
    with pytest.raises(UserError, match=f"{message}.*; the tables must be of one run"):
        Gallery(predictions([row("base", 0, True)]), CLASSES, images, titles)


def test_images_come_sorted_and_answered_by_every_model():
    rows = [row("trained", 2, True), row("base", 2, True), row("base", 3, True), row("trained", 1, True)]
    pairs = by_image(predictions([*rows, row("base", 1, False)]), ["base", "trained"])
    assert [[(r["model"], r["image_id"][-1]) for r in pair] for pair in pairs] == [
        [("base", "1"), ("trained", "1")],
        [("base", "2"), ("trained", "2")],
    ]
