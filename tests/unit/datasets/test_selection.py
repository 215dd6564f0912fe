"""Which images are used and for what: exact counts, seeded, and independent of order and of other classes."""

from collections import Counter
from dataclasses import replace

import polars as pl
import pytest
from support.project import ROOT

from pipeline.core.params import load_params
from pipeline.datasets import layout
from pipeline.datasets.params import DataParams
from pipeline.datasets.selection import select_images, subsets
from pipeline.datasets.source import Source

DEFAULTS = replace(load_params(DataParams, ROOT / "params.yaml"), val_share=0.0)
NAMES = [f"class {number}" for number in range(5)]


def source(counts: dict[tuple[int, str], int], **more) -> Source:
    rows = [(f"{c}/{part}/{n}.jpg", c, part) for (c, part), count in counts.items() for n in range(count)]
    return Source("d", NAMES, layout.table(rows, NAMES), "bird", "none", lambda _: iter(()), **more)


def counted(found: pl.DataFrame) -> dict[tuple[int, str], int]:
    return dict(Counter(found.select("class_id", "split").rows()))


MANY = {(c, part): 20 for c in range(5) for part in ("train", "test")}


def test_by_default_everything_is_used():
    assert counted(select_images(source(MANY), DEFAULTS)) == MANY


@pytest.mark.parametrize(("share", "held"), [(0.0, 0), (0.1, 2), (0.25, 5), (0.5, 10)])
def test_validation_is_held_out_of_training(share, held):
    found = counted(select_images(source(MANY), replace(DEFAULTS, val_share=share)))
    assert {found.get((c, "val"), 0) for c in range(5)} == {held}
    assert {found[c, "train"] for c in range(5)} == {20 - held} and {found[c, "test"] for c in range(5)} == {20}


def test_a_data_set_with_validation_or_with_the_parts_of_a_published_run_keeps_its_parts():
    own = MANY | {(0, "val"): 3}
    wanted = replace(DEFAULTS, val_share=0.5)
    assert counted(select_images(source(own), wanted)) == own
    assert counted(select_images(source(MANY, complete=True), wanted)) == MANY


def test_shots_leave_so_many_training_images_of_a_class_and_everything_else():
    few = MANY | {(1, "train"): 2, (2, "val"): 7}
    found = counted(select_images(source(few), replace(DEFAULTS, shots=4)))
    assert found == few | {(c, "train"): 4 for c in (0, 2, 3, 4)}


def test_a_limit_holds_for_every_class_and_part():
    found = counted(select_images(source(MANY | {(1, "train"): 2}), replace(DEFAULTS, limit_per_class=3)))
    assert found == {key: 3 for key in MANY} | {(1, "train"): 2}


@pytest.mark.parametrize("changes", [{"val_share": 0.3}, {"shots": 5}, {"limit_per_class": 5}])
def test_a_choice_is_seeded_and_knows_neither_order_nor_other_classes(changes):
    wanted = replace(DEFAULTS, **changes)
    chosen = set(select_images(source(MANY), wanted).rows())
    shuffled = source(MANY)
    shuffled = replace(shuffled, rows=shuffled.rows.sample(fraction=1, shuffle=True, seed=3))
    assert set(select_images(shuffled, wanted).rows()) == chosen
    alone = source({key: count for key, count in MANY.items() if key[0] == 2})
    assert set(select_images(alone, wanted).rows()) == {row for row in chosen if row[1] == 2}
    assert set(select_images(source(MANY), replace(wanted, seed=1)).rows()) != chosen


def test_a_smaller_choice_is_part_of_a_larger_one():
    four, eight = (set(select_images(source(MANY), replace(DEFAULTS, shots=n))["path"]) for n in (4, 8))
    assert four < eight


def test_halves():
    assert subsets(source(MANY), DEFAULTS) == ["base"] * 3 + ["novel"] * 2
    assert subsets(source(MANY), replace(DEFAULTS, base_classes="all")) == ["base"] * 5
    assert subsets(source(MANY), replace(DEFAULTS, shots=1)) == ["base"] * 5
    drawn = [subsets(source(MANY), replace(DEFAULTS, base_classes="random_half", seed=seed)) for seed in range(20)]
    assert all(found.count("base") == 3 for found in drawn) and len({tuple(found) for found in drawn}) > 3
    own = ["novel", "base", "base", "novel", "base"]
    assert subsets(source(MANY, subsets=own), DEFAULTS) == own
    assert select_images(source(MANY, subsets=own), DEFAULTS).filter(class_id=0)["subset"].unique().to_list() == [
        "novel"
    ]
