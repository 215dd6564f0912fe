"""The check of a data set before anything is spent on it: counts, and what will cause trouble."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from itertools import combinations

import polars as pl

from pipeline.core.params import UserError
from pipeline.core.words import some
from pipeline.datasets.params import DataParams
from pipeline.datasets.selection import trains_on_all
from pipeline.datasets.source import Source
from pipeline.method.class_names import Matcher
from pipeline.method.leakage import hash_distance
from pipeline.method.spelling import normalised

SHOWN = 20  # lines of one kind
FEW = 5  # training images of a class
SMALLEST = 56  # pixels of the shorter side: two by two of the 28-pixel fields that Qwen2.5-VL makes a token of
ALIKE = 0.9  # of two names, by difflib
SHOWN_COLUMNS = ("copies", "file", "split", "class_id", "perceptual_hash")  # of a pair of copies


def report(source: Source, subsets: Sequence[str], images: pl.DataFrame, shots: int = 0) -> list[str]:
    """The lines to print.

    Args:
        subsets: base or novel, by class.
        images: the table of images without the pictures.
        shots: training images of a class that were selected, 0 for all.
    """
    counts = images.group_by("class_id").agg(
        *((pl.col("split") == split).sum().alias(split) for split in ("train", "val", "test"))
    )
    by_class = {class_id: tuple(lines) for class_id, *lines in counts.rows()}
    table = [
        (name, subset, *by_class.get(number, (0, 0, 0)))
        for number, (name, subset) in enumerate(zip(source.names, subsets, strict=True))
    ]
    few = min(FEW, shots or FEW)
    head = f"class ({source.name})"  # one of several data sets may be this one
    width = max(map(len, (head, *source.names)))
    lines = [f"{head:{width}}  subset  train    val   test"]
    lines += [f"{name:{width}}  {subset:6} {train:6} {val:6} {test:6}" for name, subset, train, val, test in table]
    lines += _some(
        "few training images",
        [f"{name}: {train}" for name, subset, train, *_ in table if subset == "base" and train < few],
    )
    lines += _some("no test image", [name for name, *_, test in table if not test])
    lines += _some(
        "cannot be read",
        [f"{file}: {reason}" for file, reason in images.filter(status="error")["file", "reason"].rows()],
    )
    tiny = images.filter(pl.min_horizontal("width", "height") < SMALLEST)["file", "width", "height"].rows()
    lines += _some(
        f"shorter side under {SMALLEST} pixels, two of the fields that Qwen2.5-VL sees: too small to show details",
        [f"{file}: {width} × {height}" for file, width, height in tiny],
    )
    lines += _doubles(images, source.names)
    lines += _some("class names that are easily confused", similar_names(source))
    return lines


def _some(what: str, lines: Sequence[str], shown: int = SHOWN) -> list[str]:
    """A heading with at most `shown` of the lines; nothing if there are none."""
    if not lines:
        return []
    more = [f"  and {len(lines) - shown} more"] if len(lines) > shown else []
    return [f"{what}: {len(lines)}", *(f"  {line}" for line in lines[:shown]), *more]


def _doubles(images: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Pairs of the same picture, by how much they matter."""
    # Files without a picture have no copies: they are listed as such.
    kinds: dict[str, list[str]] = {"across": [], "classes": [], "same": []}
    ordered = images.drop_nulls("copies").sort("copies", "image_id").select(SHOWN_COLUMNS)
    groups = [group.to_dicts() for group in ordered.partition_by("copies", maintain_order=True)]
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    distances = [hash_distance(left["perceptual_hash"], right["perceptual_hash"]) for left, right in pairs]
    for bits, (left, right) in sorted(zip(distances, pairs, strict=True), key=lambda item: item[0]):
        texts = f"{left['file']} ({left['split']}) and {right['file']} ({right['split']}), {bits} bits apart"
        if left["class_id"] != right["class_id"]:
            texts += f": {names[left['class_id']]} and {names[right['class_id']]}"
        if (left["split"] == "test") != (right["split"] == "test"):
            kinds["across"].append(texts)
        elif left["class_id"] != right["class_id"]:
            kinds["classes"].append(texts)
        else:
            kinds["same"].append(texts)
    return [
        *_some(
            "the same picture in training and test, which stops the run (data.drop_leaks=true drops it)",
            kinds["across"],
        ),
        *_some("the same picture in two classes", kinds["classes"]),
        *_some("the same picture twice", kinds["same"]),
    ]


def similar_names(source: Source) -> list[str]:
    """Pairs of class names, aliases included, that the matcher or a reader may take for each other."""
    texts = [(text, name) for name in source.names for text in (name, *source.aliases.get(name, ()))]
    pairs = set(_spelled_similar(texts))
    with suppress(ValueError):  # a name or alias twice: spelled alike too, and require_usable says so
        pairs |= set(_matched_similar(source, texts))
    return [f"{texts[left][0]!r} and {texts[right][0]!r}" for left, right in sorted(pairs)]


def _spelled_similar(texts: Sequence[tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Numbers of two texts of different classes that hardly differ in spelling."""
    keys = [normalised(text) for text, _ in texts]
    for right, (_, owner) in enumerate(texts):
        for left in range(right):
            pair = SequenceMatcher(None, keys[right], keys[left], autojunk=False)
            ratios = (pair.real_quick_ratio, pair.quick_ratio, pair.ratio)  # bounds first: they cost less
            if texts[left][1] != owner and all(ratio() >= ALIKE for ratio in ratios):
                yield left, right


def _matched_similar(source: Source, texts: Sequence[tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Numbers of two texts one of which would name the other's class, were its own not there. Raises ValueError.

    Half of the classes are read with the names of the other half, once for each bit of the class number: any two
    numbers differ in one, and so no pair is missed without a matcher for each class.
    """
    place = {text: number for number, (text, _) in enumerate(texts)}
    class_ids = {name: number for number, name in enumerate(source.names)}
    for bit in range(len(source.names).bit_length()):
        for side in (0, 1):
            names = [name for name, number in class_ids.items() if number >> bit & 1 == side]
            matcher = Matcher(names, {alias: name for name in names for alias in source.aliases.get(name, ())})
            for right, (text, owner) in enumerate(texts):
                if class_ids[owner] >> bit & 1 != side:
                    for other, _ in matcher.explain(text).spellings:
                        yield min(place[other], right), max(place[other], right)


def require_usable(source: Source, subsets: Sequence[str], images: pl.DataFrame, params: DataParams) -> None:
    """Raises UserError where the stages that follow would fail, or train on fewer classes than the settings say."""
    try:
        Matcher(source.names, {alias: name for name, others in source.aliases.items() for alias in others})
    except ValueError as error:
        raise UserError(f"{source.name}: {error}; rename one of them") from None
    base = [number for number, subset in enumerate(subsets) if subset == "base"]
    trained = set(images.filter(split="train")["class_id"])
    untrained = [source.names[number] for number in base if number not in trained]
    if len(untrained) == len(base):
        raise UserError(
            f"{source.name}: no training images of base classes; add some, or change data.protocol or data.base_classes"
        )
    if untrained and trains_on_all(params) and not params.partial:
        setting = f"data.shots is {params.shots}" if params.shots else "data.base_classes is all"
        raise UserError(
            f"{source.name}: {setting}, which makes all {len(base)} classes base, and {len(untrained)} of them have no "
            f"training image: {some(untrained, 3)}; add some, or set data.protocol to one with training "
            f"images of all classes (it is {params.protocol})"
        )
    if images.filter(pl.col("split") == "test").is_empty():
        raise UserError(f"{source.name}: no test images; add some, or set data.test_share")


def require_few_errors(images: pl.DataFrame, limit: float) -> None:
    """Raises UserError if more than the share `limit` of the pictures cannot be read."""
    errors = images.filter(status="error")
    if errors.height > limit * images.height:
        file, reason = errors.select("file", "reason").row(0)
        raise UserError(
            f"download: {errors.height} of {images.height} images cannot be read (limit {100 * limit:g} %), the first "
            f"{file!r} ({reason}): fix or remove them, or raise max_error_rate"
        )


def count_line(images: pl.DataFrame) -> str:
    """How many images each split has, in words."""
    counts = dict(images["split"].value_counts().iter_rows())
    line = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "val", "test", "out") if split in counts)
    errors = (images["status"] == "error").sum()
    return f"{line} {'image' if images.height == 1 else 'images'}" + (
        f", {errors} of them unreadable" if errors else ""
    )
