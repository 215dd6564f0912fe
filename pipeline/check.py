"""What there is to say of a data set before anything is spent on it: counts, and what will give trouble."""

from collections.abc import Sequence
from difflib import SequenceMatcher

import polars as pl

from pipeline.datasets.source import Source
from pipeline.gate import near_pairs
from pipeline.names import Matcher, normalised
from pipeline.params import UserError

SHOWN = 20  # lines of one kind
FEW = 5  # training images of a class
SMALLEST = 56  # pixels of the shorter side: two by two of the 28-pixel fields that Qwen2.5-VL makes a token of
ALIKE = 0.9  # of two names, by difflib


def report(source: Source, halves: Sequence[str], images: pl.DataFrame, distance: int) -> list[str]:
    """The lines to print.

    Args:
        halves: base or novel, by class.
        images: the table of images without the pictures, with image_id.
        distance: bits within which two pictures count as the same.
    """
    counts = images.group_by("class_id").agg(
        *((pl.col("split") == part).sum().alias(part) for part in ("train", "val", "test"))
    )
    by_class = {class_id: tuple(found) for class_id, *found in counts.rows()}
    table = [
        (name, half, *by_class.get(number, (0, 0, 0)))
        for number, (name, half) in enumerate(zip(source.names, halves, strict=True))
    ]
    width = max(len(name) for name in source.names)
    lines = [f"{'class':{width}}  half   train    val   test"]
    lines += [f"{name:{width}}  {half:5} {train:6} {val:6} {test:6}" for name, half, train, val, test in table]
    lines += _some(
        "few training images", [f"{name}: {train}" for name, half, train, *_ in table if half == "base" and train < FEW]
    )
    lines += _some("no test image", [name for name, *_, test in table if not test])
    lines += _some(
        "cannot be opened",
        [f"{file}: {reason}" for file, reason in images.filter(status="error")["file", "reason"].rows()],
    )
    tiny = images.filter(pl.min_horizontal("width", "height") < SMALLEST)["file", "width", "height"].rows()
    lines += _some(
        f"shorter than {SMALLEST} pixels, too small to see marks on",
        [f"{file}: {width} × {height}" for file, width, height in tiny],
    )
    lines += _doubles(images, source.names, distance)
    lines += _some("class names that are hard to tell apart", names_alike(source))
    return lines


def _some(what: str, found: Sequence[str], shown: int = SHOWN) -> list[str]:
    """A heading with at most `shown` of the lines found; nothing where there are none."""
    if not found:
        return []
    more = [f"  and {len(found) - shown} more"] if len(found) > shown else []
    return [f"{what}: {len(found)}", *(f"  {line}" for line in found[:shown]), *more]


def _doubles(images: pl.DataFrame, names: Sequence[str], distance: int) -> list[str]:
    """Pairs of the same picture, by how much they matter."""
    about = {
        row["image_id"]: row for row in images.select("image_id", "file", "split", "class_id").iter_rows(named=True)
    }
    pairs = near_pairs(images, images, distance).filter(pl.col("left_id") < pl.col("right_id"))
    kinds: dict[str, list[str]] = {"across": [], "classes": [], "same": []}
    for left_id, right_id, bits in pairs.iter_rows():
        left, right = about[left_id], about[right_id]
        said = f"{left['file']} ({left['split']}) and {right['file']} ({right['split']}), {bits} bits apart"
        if (left["split"] == "test") != (right["split"] == "test"):
            kinds["across"].append(said)
        elif left["class_id"] != right["class_id"]:
            kinds["classes"].append(f"{said}: {names[left['class_id']]} and {names[right['class_id']]}")
        else:
            kinds["same"].append(said)
    return [
        *_some(
            "the same picture in training and test, which stops the run (data.drop_leaks=true leaves it out)",
            kinds["across"],
        ),
        *_some("the same picture in two classes", kinds["classes"]),
        *_some("the same picture twice", kinds["same"]),
    ]


def names_alike(source: Source) -> list[str]:
    """Pairs of class names, aliases included, that the matcher or a reader may take for each other."""
    found = []
    said = [(text, name) for name in source.names for text in (name, *source.aliases.get(name, ()))]
    keys = [normalised(text) for text, _ in said]
    for number, (text, name) in enumerate(said):
        for place in range(number):
            other, owner = said[place]
            if owner == name:
                continue
            pair = SequenceMatcher(None, keys[number], keys[place], autojunk=False)
            if pair.real_quick_ratio() >= ALIKE and pair.quick_ratio() >= ALIKE and pair.ratio() >= ALIKE:
                found.append(f"{other!r} and {text!r}")
    return found


def require_usable(source: Source, halves: Sequence[str], images: pl.DataFrame) -> None:
    """Raises UserError where the stages that follow would fail."""
    try:
        Matcher(source.names, {alias: name for name, others in source.aliases.items() for alias in others})
    except ValueError as error:
        raise UserError(f"{source.name}: {error}; rename one of them") from None
    base = [number for number, half in enumerate(halves) if half == "base"]
    if images.filter((pl.col("split") == "train") & pl.col("class_id").is_in(base)).is_empty():
        raise UserError(
            f"{source.name}: no training images of base classes; add some, or look at data.protocol and data.halves"
        )
    if images.filter(pl.col("split") == "test").is_empty():
        raise UserError(f"{source.name}: no test images; add some, or set data.test_share")
