"""Which images show the same picture: candidates by perceptual hash, and a second look that decides."""

import csv
import io
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from support.photographs import photograph
from support.project import ROOT

from pipeline.core.params import load_params
from pipeline.datasets import copies, open_dataset, packing
from pipeline.datasets.alignment import same_pictures
from pipeline.datasets.copies import candidates, with_copies
from pipeline.datasets.ingest import ingest
from pipeline.datasets.params import DataParams
from pipeline.datasets.thumbnails import BYTES, thumbnail
from pipeline.method.leakage import hash_distance

SHARED = Path(os.environ.get("DIVEK_NEAR_COPIES", ROOT.parent / "shared" / "near_copies"))
BITS = 48


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def groups(contents: dict[str, bytes], distance: int = BITS) -> list[set[str]]:
    """The names of the pictures in groups of copies."""
    pictures = {name: ingest(content, 401_408) for name, content in contents.items()}
    rows = [
        {"image_id": name, "status": "ok", "content": str(hash(picture.image))}
        | {"perceptual_hash": picture.perceptual_hash, "thumbnail": number}
        for number, (name, picture) in enumerate(pictures.items())
    ]
    thumbnails = [picture.thumbnail for picture in pictures.values()]
    table = with_copies(pl.DataFrame(rows), thumbnails.__getitem__, distance).drop_nulls("copies")
    return [set(group["image_id"]) for _, group in table.group_by("copies", maintain_order=True)]


def look(*pairs: tuple[Image.Image, Image.Image]) -> list[bool]:
    """What the second look says of pairs, whatever their hashes."""
    content = np.stack(
        [np.frombuffer(thumbnail(picture.convert("RGB")), np.uint8) for pair in pairs for picture in pair]
    )
    left = np.arange(len(pairs)) * 2
    return same_pictures(content, left, left + 1, np.full(len(pairs), BITS)).tolist()


# --- Candidates ---


@pytest.mark.parametrize(("block", "size"), [(256, 4096), (7, 5), (1, 1)])
def test_candidates_are_those_of_a_plain_loop(monkeypatch, block, size):
    monkeypatch.setattr(copies, "BLOCK", block)
    monkeypatch.setattr(copies, "PAIRS", size)
    rng = np.random.default_rng(0)
    seeds = [int.from_bytes(rng.bytes(32)) for _ in range(10)]
    noise = [
        int.from_bytes(rng.bytes(32)) & int.from_bytes(rng.bytes(32)) & int.from_bytes(rng.bytes(32)) for _ in range(90)
    ]
    hashes = [f"{seeds[i % 10] ^ bits:064x}" for i, bits in enumerate(noise)]
    batches = list(candidates(hashes, BITS))
    pairs = [pair for left, right, _ in batches for pair in zip(left, right, strict=True)]
    expected = {(i, j) for j in range(90) for i in range(j) if hash_distance(hashes[i], hashes[j]) <= BITS}
    assert len(pairs) == len(set(pairs)) and set(pairs) == expected and 20 < len(expected) < 2000
    assert all(
        hash_distance(hashes[i], hashes[j]) == bits for batch in batches for i, j, bits in zip(*batch, strict=True)
    )
    assert max(len(left) for left, *_ in batches) <= size
    assert list(candidates([], BITS)) == []


# --- The second look ---


def changed(picture: Image.Image, kind: str) -> Image.Image:
    width, height = picture.size
    match kind:
        case "half size":
            return picture.resize((width // 2, height // 2))
        case "squeezed":
            return picture.resize((width // 2, height))
        case "cropped":
            return picture.crop((width // 40, height // 40, width, height))
        case "darker":
            return picture.point([int(255 * (i / 255) ** 1.5) for i in range(256)] * 3)
        case "paler":
            return ImageEnhance.Color(picture).enhance(0.5)
        case "grey":
            return picture.convert("L")
        case "marked":
            marked = picture.copy()
            ImageDraw.Draw(marked).text(
                (width * 0.1, height * 0.88), "Nobody, 2004", fill="white", font_size=height * 0.08
            )
            return marked
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["half size", "squeezed", "cropped", "darker", "paler", "grey", "marked"])
def test_a_copy_is_a_copy_however_it_was_changed(kind):
    photographs = [photograph(seed) for seed in range(6)]
    assert all(look(*((picture, changed(picture, kind)) for picture in photographs)))
    assert all(look(*((changed(picture, kind), picture) for picture in photographs)))


def test_a_copy_in_poor_quality_is_one_and_another_photograph_is_not():
    contents = {}
    for seed in range(8):
        picture = photograph(seed)
        contents |= {f"{seed}": jpeg(picture, 92), f"{seed} poor": jpeg(picture, 50)}
        contents[f"{seed} small"] = jpeg(picture.resize((240, 180)), 80)
    assert groups(contents) == [{f"{seed}", f"{seed} poor", f"{seed} small"} for seed in range(8)]


@pytest.mark.slow
def test_what_is_merely_alike_is_not_a_copy():
    photographs = [photograph(seed) for seed in range(12)]
    assert not any(look(*((one, other) for one in photographs for other in photographs if one is not other)))
    # The same low frequencies, which is all that the hash sees, and other details.
    blurred = photographs[0].resize((24, 18)).resize((480, 360), Image.Resampling.BICUBIC)
    details = [Image.blend(blurred, other, 0.4) for other in photographs[1:]]
    assert not any(look(*pairwise(details)))


def test_plain_pictures_are_copies_if_they_have_one_colour():
    red, also_red, blue = (Image.new("RGB", (60, 50), colour) for colour in ("#c00000", "#c10000", "#0000c0"))
    assert look((red, also_red), (red, blue)) == [True, False]


def test_noise_is_no_copy_of_other_noise():
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 2**16, (64, 64)).astype(np.uint16)) for _ in range(20)]
    contents = {}
    for number, picture in enumerate(pictures):
        file = io.BytesIO()
        picture.save(file, "PNG")
        contents[str(number)] = file.getvalue()
    assert groups(contents, 256) == []


def test_copies_of_copies_are_copies_and_the_content_alone_counts_at_minus_one():
    picture = photograph(0)
    chain = [picture.crop((0, 0, 480 - 16 * step, 360)) for step in range(4)]
    contents = {f"{step}": jpeg(part) for step, part in enumerate(chain)} | {
        "again": jpeg(picture),
        "other": jpeg(photograph(1)),
    }
    assert groups(contents) == [{"0", "1", "2", "3", "again"}]
    assert groups(contents, -1) == [{"0", "again"}]


def test_a_thumbnail_has_its_bytes_whatever_the_size():
    for size in ((1, 1), (1, 3000), (63, 64), (500, 375)):
        assert len(thumbnail(Image.new("RGB", size, "green"))) == BYTES


def test_a_tiny_copy_within_a_few_bits_is_one():
    content = np.stack([np.frombuffer(thumbnail(photograph(0).resize((side, side))), np.uint8) for side in (84, 40)])
    one, other = np.array([0]), np.array([1])
    assert same_pictures(content, one, other, np.array([4])).tolist() == [True]
    unlike = np.stack([np.frombuffer(thumbnail(photograph(seed)), np.uint8) for seed in (0, 1)])
    assert same_pictures(unlike, one, other, np.array([0])).tolist() == [False], "an equal hash alone is not enough"


@pytest.mark.slow
def test_birds_of_the_field_guide_are_no_copies_though_they_look_alike():
    params = load_params(DataParams, ROOT / "params.yaml")
    small = {"train_per_class": 4, "val_per_class": 1, "test_per_class": 3}
    with open_dataset("fieldguide", params.__class__(**{**params.__dict__, **small})) as source:
        images = packing.in_memory(source, BITS)
    hashes = images["perceptual_hash"].to_list()
    assert sum(len(left) for left, *_ in candidates(hashes, BITS)) > 300, "many candidates"
    assert images["copies"].null_count() == images.height == 48 * 8


@pytest.mark.slow
def test_no_two_birds_of_the_default_run_are_copies():
    with open_dataset("fieldguide", load_params(DataParams, ROOT / "params.yaml")) as source:
        images = packing.in_memory(source, BITS)
    assert images["copies"].null_count() == images.height == 3744


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real near copies (../shared/near_copies) are not here")
def test_every_real_copy_is_recognised_and_nothing_else():
    with (SHARED / "pairs.csv").open() as lines:
        pairs = list(csv.DictReader(lines))
    names = sorted({pair[side] for pair in pairs for side in ("first", "second")})
    copies_of = {frozenset((pair["first"], pair["second"])) for pair in pairs if pair["same_photograph"] == "yes"}
    assert {frozenset(group) for group in groups({name: (SHARED / name).read_bytes() for name in names})} == copies_of
    opened = {name: Image.open(SHARED / name) for name in names}
    others = [(one, other) for one in names for other in names if one < other and {one, other} not in copies_of]
    assert not any(look(*((opened[one], opened[other]) for one, other in others[::10]))), "whatever their hashes"
