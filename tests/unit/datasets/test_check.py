"""The dry run: what it says of classes, pictures and names, and that it says so before anything is spent."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from ruamel.yaml import YAML
from support.project import ROOT

from pipeline.core.params import UserError, load_params
from pipeline.datasets import open_dataset, packing
from pipeline.datasets.check import SHOWN, report, require_usable, similar_names
from pipeline.datasets.params import DataParams
from pipeline.datasets.source import Source

BITS = 48


def pattern(number: int, size: int = 96) -> Image.Image:
    """A picture of the number's own, rich in detail as photos are: copies differ in 4 bits, others in 90."""
    draw = random.Random(number)
    cells = Image.new("L", (24, 24))
    cells.putdata([draw.randrange(256) for _ in range(24 * 24)])
    return cells.resize((size, size), Image.Resampling.BILINEAR).convert("RGB")


def save(root: Path, name: str, image: Image.Image, **options) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(root / name, **options)


def source(root: Path, **changes) -> Source:
    wanted = replace(load_params(DataParams, ROOT / "params.yaml"), dataset=("folder",), path=str(root), **changes)
    with open_dataset("folder", wanted) as found:
        return found


def said_of(found: Source, distance: int = BITS) -> list[str]:
    subset = ["base"] * len(found.names)
    return report(found, subset, packing.in_memory(found, distance).drop("image"))


def under(lines: list[str], heading: str) -> list[str]:
    """The indented lines under the one heading that begins so; none where there is no such heading."""
    places = [number for number, line in enumerate(lines) if line.startswith(heading)]
    assert len(places) <= 1, places
    found = []
    for line in lines[places[0] + 1 :] if places else []:
        if not line.startswith("  "):
            break
        found.append(line.strip())
    return found


def named(names: list[str], aliases: dict[str, list[str]] | None = None) -> Source:
    """A source of which only the names matter."""
    return Source("folder", names, pl.DataFrame(), "object", "", lambda paths: iter(()), aliases or {})


# --- Classes ---


def test_every_class_has_a_line_with_its_half_and_counts(tmp_path):
    for number in range(6):
        save(tmp_path, f"train/red_wren/{number}.png", pattern(number))
    save(tmp_path, "val/red_wren/1.png", pattern(10))
    for number in range(2):
        save(tmp_path, f"train/owl/{number}.png", pattern(20 + number))
    save(tmp_path, "test/owl/1.png", pattern(30))
    found = source(tmp_path)
    images = packing.in_memory(found, BITS).drop("image")
    lines = report(found, ["novel", "base"], images)
    assert [line.split() for line in lines[:3]] == [
        ["class", "(folder)", "subset", "train", "val", "test"],
        ["owl", "novel", "2", "0", "1"],
        ["red", "wren", "base", "6", "1", "0"],
    ]
    assert len({len(line) for line in lines[:3]}) == 1, "in columns"
    assert under(lines, "no test image: 1") == ["red wren"]
    assert under(lines, "few training images") == [], "of a novel class nothing is trained on"
    assert under(report(found, ["base", "base"], images), "few training images: 1") == ["owl: 2"]


def test_a_class_without_any_selected_image_has_a_line_of_zeros(tmp_path):
    save(tmp_path, "a/1.png", pattern(1))
    save(tmp_path, "b/1.png", pattern(2))
    found = source(tmp_path)
    images = packing.in_memory(found, BITS).drop("image").filter(class_id=0)
    assert report(found, ["base", "base"], images)[2].split() == ["b", "base", "0", "0", "0"]


# --- Pictures ---


def test_small_and_broken_pictures_are_named_with_the_reason(tmp_path):
    for name, size in (("a/55.png", (300, 55)), ("a/56.png", (56, 56)), ("b/1.png", (96, 96))):
        save(tmp_path, name, pattern(size[0]).resize(size))
    (tmp_path / "b/bad.jpg").write_bytes(b"<html>404</html>")
    lines = said_of(source(tmp_path))
    assert under(lines, "shorter side under 56 pixels, two of the fields") == ["a/55.png: 300 × 55"]
    (bad,) = under(lines, "cannot be read: 1")
    assert bad.startswith("b/bad.jpg: picture cannot be read")


def test_a_copy_is_found_by_content_and_in_another_size_and_quality(tmp_path):
    for number in range(3):
        save(tmp_path, f"train/a/{number}.png", pattern(number))
        save(tmp_path, f"train/b/{number}.png", pattern(10 + number))
    save(tmp_path, "test/a/9.png", pattern(19))
    save(tmp_path, "test/a/again.jpg", pattern(0).resize((150, 150)), quality=60)
    save(tmp_path, "train/b/wrong.png", pattern(1))
    save(tmp_path, "test/b/other.png", pattern(2))
    save(tmp_path, "test/b/twice.png", pattern(40))
    save(tmp_path, "test/b/twice2.png", pattern(40))
    found = source(tmp_path)
    lines = said_of(found)
    other_class, across = under(lines, "the same picture in training and test, which stops the run")
    if "other.png" in across:
        other_class, across = across, other_class
    assert "train/a/0.png (train)" in across and "test/a/again.jpg (test)" in across
    assert "test/b/other.png (test)" in other_class and (": a and b" in other_class or ": b and a" in other_class)
    (classes,) = under(lines, "the same picture in two classes: 1")
    assert "train/a/1.png" in classes and "train/b/wrong.png" in classes and "0 bits apart" in classes
    (twice,) = under(lines, "the same picture twice: 1")
    assert "test/b/twice.png" in twice and "test/b/twice2.png" in twice
    by_content = said_of(found, distance=-1)
    assert len(under(by_content, "the same picture in training and test")) == 1
    assert under(by_content, "the same picture in two classes: 1"), "equal content counts at any distance"


def test_pictures_that_differ_are_not_called_the_same(tmp_path):
    for number in range(12):
        save(tmp_path, f"{'ab'[number % 2]}/{number}.png", pattern(number))
    assert not [line for line in said_of(source(tmp_path)) if line.startswith("the same picture")]


def test_broken_files_that_are_alike_are_not_pairs_of_a_picture(tmp_path):
    for name in ("a", "b"):
        save(tmp_path, f"train/{name}/1.png", pattern(ord(name)))
        for number in range(3):
            (tmp_path / f"train/{name}/bad{number}.jpg").write_bytes(b"")
    save(tmp_path, "test/a/1.png", pattern(7))
    (tmp_path / "test/a/bad.jpg").write_bytes(b"")  # no leak: the run goes on
    lines = said_of(source(tmp_path))
    assert len(under(lines, "cannot be read: 7")) == 7
    assert not [line for line in lines if line.startswith("the same picture")]


def test_a_long_list_is_cut_and_says_how_much_is_left(tmp_path):
    for number in range(SHOWN + 3):
        save(tmp_path, f"c{number:02}/1.png", pattern(number))
    lines = under(said_of(source(tmp_path)), f"no test image: {SHOWN + 3}")
    assert lines[:2] == ["c00", "c01"] and lines[SHOWN:] == ["and 3 more"]


# --- Names ---

ALIKE = [
    (["house wren", "mouse wren"], {}, True, "one letter"),
    (["F 16", "F16"], {}, True, "a blank, which answers leave out"),
    (["2012 Audi TT", "Audi TT 2012"], {}, True, "the place of the year"),
    (["crane", "crane (bird)"], {}, True, "a bracket, which answers leave out"),
    (["balloon", "balloon flower"], {}, True, "a generic noun, which answers add"),
    (["red wren", "owl"], {"owl": ["red  wren"]}, True, "an alias that is another class"),
    (["red wren", "owl"], {"owl": ["Strix"], "red wren": ["strix"]}, True, "an alias of two classes"),
    (["owl", "red wren"], {"owl": ["tawny owl", "tawny owls"]}, False, "two names of one class"),
    (["737-200", "Boeing MD-11"], {}, False, "nothing in common"),
    (["sparrow", "swallow"], {}, False, "two letters of seven"),
]


@pytest.mark.parametrize(("names", "aliases", "alike", "why"), ALIKE, ids=[why for *_, why in ALIKE])
def test_names_that_are_easily_mistaken_are_listed(names, aliases, alike, why):
    assert bool(similar_names(named(names, aliases))) == alike


@pytest.mark.parametrize("left", range(9))
def test_no_pair_of_names_is_missed_wherever_it_stands(left):
    others = ["owl", "wren", "heron", "magpie", "gull", "crow", "plover", "kite", "robin"]
    for right in range(left):
        names = others.copy()
        names[left], names[right] = "F 16", "F16"
        assert similar_names(named(names)) == ["'F16' and 'F 16'"]


def test_three_similar_names_are_three_pairs():
    assert similar_names(named(["F 16", "owl", "F16", "f_16a", "(F)1 6"])) == [
        "'F 16' and 'F16'", "'F 16' and '(F)1 6'", "'F16' and '(F)1 6'",
    ]  # fmt: skip


# --- The verdict ---

PARAMS = load_params(DataParams, ROOT / "params.yaml")
ROWS = pl.DataFrame({"class_id": [0, 0, 1, 1], "split": ["train", "test", "train", "test"]})
UNUSABLE = [
    (named(["owl", "Owl"]), ROWS, "folder: class names 'owl' and 'Owl' cannot be distinguished; rename"),
    (named(["owl", "wren"], {"owl": ["Wren"]}), ROWS, "alias 'Wren' of 'owl' is also the name of another class"),
    (named(["owl", "wren"]), ROWS.filter(class_id=1), "no training images of base classes"),
    (named(["owl", "wren"]), ROWS.filter(split="train"), "no test images"),
]


@pytest.mark.parametrize(("found", "rows", "said"), UNUSABLE, ids=[said for *_, said in UNUSABLE])
def test_what_would_fail_later_fails_now(found, rows, said):
    with pytest.raises(UserError, match=said) as caught:
        require_usable(found, ["base", "novel"], rows, PARAMS)
    assert "\n" not in str(caught.value)
    require_usable(named(["owl", "wren"], {"owl": ["Strix"]}), ["base", "novel"], ROWS, PARAMS)


@pytest.mark.slow
def test_the_command_ends_with_0_or_with_a_sentence_and_1_and_writes_no_table(tmp_path):
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["dataset"] = "folder"
    YAML().dump(values, tmp_path / "params.yaml")
    for number in range(8):
        save(tmp_path, f"photos/{('train', 'test')[number // 6]}/{'ab'[number % 2]}/{number}.png", pattern(number))

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline.stages.download", "--check"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    usable = check()
    assert usable.returncode == 0, usable.stderr
    assert usable.stdout.splitlines()[-1] == "nothing here stops a run; `dvc repro` starts one"
    save(tmp_path, "photos/train/a/again.png", pattern(6))
    failing = check()
    assert failing.returncode == 1
    assert (
        failing.stderr.startswith("error: ")
        and "1 training or validation image and 1 test image show the same pictures" in failing.stderr
    )
    assert "Traceback" not in failing.stderr
    assert "  test/a/6.png (test)" in failing.stdout or "  train/a/again.png (train)" in failing.stdout
    assert not list((tmp_path / "data").iterdir())
