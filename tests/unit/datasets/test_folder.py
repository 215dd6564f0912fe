"""Your own photos: what is found in folders and tables, and what is said of bad ones."""

import io
import os
import re
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import typer
from PIL import Image
from ruamel.yaml import YAML
from support.messy_folder import KINDS, messy_folder
from support.project import ROOT
from typer.testing import CliRunner

from pipeline.core import tables
from pipeline.core.params import UserError, load_params
from pipeline.core.pictures import PictureError
from pipeline.datasets import formats, ingest, open_dataset, packing
from pipeline.datasets.params import DataParams
from pipeline.stages import download

DEFAULTS = load_params(DataParams, ROOT / "params.yaml")


def settings(**changes) -> DataParams:
    return replace(DEFAULTS, **({"dataset": ("folder",), "noun": ""} | changes))


def photo(number: int, side: int = 64) -> bytes:
    """A picture that no other number has."""
    image = Image.effect_noise((side, side), 90).convert("RGB")
    image.paste((number * 37 % 256, number * 91 % 256, number * 53 % 256), (0, 0, side, side // 2 + number % 16))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def put(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(photo(number))
    return root


def source(root: Path, **changes):
    with open_dataset("folder", settings(path=str(root), **changes)) as found:
        return found


def listed(found) -> dict[str, tuple[str, str]]:
    return {path: (name, part) for path, name, part in found.rows.select("path", "class_name", "split").rows()}


def test_each_folder_is_a_class_whatever_lies_deeper_or_beside(tmp_path):
    root = put(
        tmp_path / "photos", "red_wren/1.jpg", "red_wren/deep/er/2.JPEG", "Blue  Wren/1.png", "Blue  Wren/2.webp"
    )
    put(root, ".hidden/1.jpg", "red_wren/.thumbs/1.jpg", "loose.jpg")
    (root / "red_wren" / "notes.txt").write_text("no picture", encoding="utf-8")
    (root / "empty").mkdir()
    found = source(root)
    assert list(found.names) == ["Blue Wren", "red wren"]
    assert set(listed(found)) == {"red_wren/1.jpg", "red_wren/deep/er/2.JPEG", "Blue  Wren/1.png", "Blue  Wren/2.webp"}
    assert found.noun == "object" and source(root, noun="bird").noun == "bird"
    assert dict(found.pictures(["red_wren/1.jpg"])) == {"red_wren/1.jpg": (root / "red_wren/1.jpg").read_bytes()}


def test_links_that_lead_outside_are_left_out(tmp_path, capsys):
    root = put(tmp_path / "photos", "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    outside = put(tmp_path / "else", "secret.jpg")
    (root / "a" / "3.jpg").symlink_to(outside / "secret.jpg")
    (root / "b" / "3.jpg").symlink_to(root / "a" / "1.jpg")
    assert set(listed(source(root))) == {"a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"}
    assert "pictures skipped, behind links that lead outside: 1" in capsys.readouterr().out


def test_what_is_left_out_is_counted(tmp_path, capsys):
    root = put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/loose.jpg", "test/a/2.jpg", "loose.jpg")
    put(root, "train/a/.hidden.jpg", "train/b/.thumbs/1.jpg", ".git/1.jpg")
    assert set(listed(source(root))) == {"train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg"}
    said = capsys.readouterr().out
    assert "pictures skipped, in no class folder: 2\n" in said and "pictures skipped, hidden: 2\n" in said


def test_every_format_is_read_or_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(formats, "reads_heic", lambda: False)
    root = put(tmp_path, *(f"a/{n}.{suffix}" for n, suffix in enumerate(("jfif", "jpe", "JFIF", "jpg"))), "b/1.jpg")
    Image.open(io.BytesIO(photo(9))).save(root / "b/2.avif", "AVIF")
    for name in ("a/1.HEIC", "a/2.heic", "b/3.heif", "b/notes.pdf", "b/README", "b/.DS_Store", "aliases.csv"):
        (root / name).write_bytes(b"x")
    assert set(listed(source(root))) == {"a/0.jfif", "a/1.jpe", "a/2.JFIF", "a/3.jpg", "b/1.jpg", "b/2.avif"}
    assert (
        "files skipped, of no format that is read: 5 (.heic 2, no suffix 1, .heif 1, .pdf 1); HEIC is read once "
        "pillow-heif is installed: `pip install pillow-heif`\n" in capsys.readouterr().out
    )
    put(tmp_path / "plain", "a/1.jpg", "b/1.jpg", "a/2.jpg")
    source(tmp_path / "plain")
    assert "skipped" not in capsys.readouterr().out


def test_avif_and_jfif_become_pictures_of_the_table(tmp_path):
    root = put(tmp_path, "a/1.jfif", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    Image.open(io.BytesIO(photo(9))).save(root / "a/3.avif", "AVIF")
    images = packing.in_memory(source(root), distance=-1)
    assert set(images["status"]) == {"ok"} and images.height == 5


def test_heic_is_an_error_with_what_to_install_or_a_picture(tmp_path, monkeypatch):
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    monkeypatch.setattr(ingest, "reads_heic", lambda: False)
    with pytest.raises(PictureError, match="pip install pillow-heif"):
        ingest.ingest(heic, 10**6)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = Image.open(io.BytesIO(photo(1))).convert("RGB")
    pillow_heif.from_pillow(picture).save(tmp_path / "1.heic", quality=90)
    kept = ingest.ingest((tmp_path / "1.heic").read_bytes(), 10**6)
    assert (kept.width, kept.height) == picture.size and formats.is_read(".heic")
    assert Image.open(io.BytesIO(kept.image)).format == "JPEG"


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_folders_called_train_val_and_test_are_parts(tmp_path, val):
    root = put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"{val}/a/2.jpg", "test/b/2.jpg", "test/a/3.jpg")
    assert listed(source(root)) == {
        "train/a/1.jpg": ("a", "train"), "train/b/1.jpg": ("b", "train"), f"{val}/a/2.jpg": ("a", "val"),
        "test/b/2.jpg": ("b", "test"), "test/a/3.jpg": ("a", "test"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "share", "test"), [(1, 0.25, 0), (2, 0.25, 1), (4, 0.25, 1), (20, 0.25, 5), (3, 0.9, 2)]
)
def test_a_share_of_each_class_is_held_out_for_the_test(tmp_path, count, share, test):
    root = put(tmp_path, *(f"{name}/{n}.jpg" for name in "ab" for n in range(count)))
    parts = [part for _, part in listed(source(root, test_share=share)).values()]
    assert parts.count("test") == 2 * test and parts.count("train") == 2 * (count - test)


def test_the_cut_is_seeded_and_knows_no_other_class(tmp_path):
    root = put(tmp_path / "x", *(f"{name}/{n}.jpg" for name in "ab" for n in range(20)))
    first = listed(source(root))
    assert listed(source(root)) == first != listed(source(root, seed=1))
    put(root, *(f"c/{n}.jpg" for n in range(9)))
    assert {path: part for path, part in listed(source(root)).items() if not path.startswith("c/")} == first


def table(root: Path, rows: list[dict], name: str = "labels.csv") -> Path:
    frame = pl.DataFrame(rows)
    frame.write_parquet(root / name) if name.endswith("parquet") else frame.write_csv(root / name)
    return root / name


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_a_table_says_path_label_part_and_half(tmp_path, name):
    put(tmp_path, "x/1.jpg", "2.jpg", "3.jpg")
    rows = [
        {"path": "x/1.jpg", "label": "F-16A/B", "split": "train", "subset": "novel"},
        {"path": "2.jpg", "label": "F/A-18", "split": "test", "subset": "base"},
        {"path": "3.jpg", "label": "F/A-18", "split": "validation", "subset": "base"},
    ]
    file = table(tmp_path, rows, name)
    for found in (source(tmp_path, labels=name), source(file)):
        assert listed(found) == {
            "x/1.jpg": ("F-16A/B", "train"), "2.jpg": ("F/A-18", "test"), "3.jpg": ("F/A-18", "val"),
        }  # fmt: skip
        assert list(found.names) == ["F-16A/B", "F/A-18"] and list(found.subsets) == ["novel", "base"]


def test_aliases_come_from_a_table(tmp_path):
    put(tmp_path, "red_wren/1.jpg", "blue wren/1.jpg")
    (tmp_path / "a.csv").write_text(
        "name,alias\nRed Wren,Troglodytes ruber\nred wren,ruby wren\nblue wren,bluey\n", encoding="utf-8"
    )
    assert source(tmp_path, aliases="a.csv").aliases == {
        "red wren": ["Troglodytes ruber", "ruby wren"],
        "blue wren": ["bluey"],
    }


def test_aliases_lie_in_data_path_wherever_the_table_is(tmp_path):
    put(tmp_path, "deep/1.jpg", "deep/2.jpg")
    table(tmp_path / "deep", [{"path": "1.jpg", "label": "a"}, {"path": "2.jpg", "label": "b"}])
    (tmp_path / "other.csv").write_text("name,alias\na,x\n", encoding="utf-8")
    assert source(tmp_path, labels="deep/labels.csv", aliases="other.csv").aliases == {"a": ["x"]}
    (tmp_path / "deep" / "beside.csv").write_text("name,alias\nb,y\n", encoding="utf-8")
    assert source(tmp_path / "deep" / "labels.csv", aliases="beside.csv").aliases == {"b": ["y"]}


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_the_number_0_is_a_class(tmp_path, name):
    put(tmp_path, "1.jpg", "2.jpg")
    table(tmp_path, [{"path": "1.jpg", "label": 0}, {"path": "2.jpg", "label": 1}], name)
    assert list(source(tmp_path, labels=name).names) == ["0", "1"]


def test_a_damaged_parquet_table_is_one_sentence(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg")
    file = table(tmp_path, [{"path": "1.jpg", "label": "a"}, {"path": "2.jpg", "label": "b"}], "labels.parquet")
    whole = file.read_bytes()
    for content in (b"", whole[:40], whole[:-9], whole[:20] + bytes([whole[20] ^ 255]) + whole[21:]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"labels\.parquet: cannot be read") as caught:
            source(file)
        assert "\n" not in str(caught.value)


ROW = {"path": "a/1.jpg", "label": "a"}
BAD = [
    ([], {}, "no pictures; expected one folder for each class"),
    (["loose.jpg"], {}, "no pictures"),
    (["a/1.jpg"], {}, "one class, 'a', expected at least two"),
    (["a b/1.jpg", "A_b/1.jpg"], {}, "'A_b' and 'a b' are the same class name"),
    (["a/1.jpg", "--/1.jpg"], {}, "'--' is no class name"),
    (["test/a/1.jpg", "test/b/1.jpg"], {}, "no training images"),
    (["a/1.jpg"], {"labels": "gone.csv"}, "gone.csv: cannot be read"),
    (["a/1.jpg"], {"rows": [{"file": "a/1.jpg", "label": "a"}]}, "no column 'path' among file, label"),
    (["a/1.jpg"], {"rows": [ROW, ROW]}, "line 3: 'a/1.jpg' occurs twice"),
    (["a/1.jpg"], {"rows": [ROW | {"path": "../1.jpg"}]}, "line 2: '../1.jpg' leads out of"),
    (["a/1.jpg"], {"rows": [ROW | {"path": "/etc/passwd"}]}, "'/etc/passwd' leads out of"),
    (["a/1.jpg"], {"rows": [ROW | {"label": " "}]}, "line 2: path or label is missing"),
    (["a/1.jpg"], {"rows": [ROW | {"label": None}, ROW]}, "line 2: path or label is missing"),
    (
        ["a/1.jpg"],
        {"rows": [ROW | {"split": "holdout"}]},
        "line 2: split 'holdout', expected train, val or test; fix it",
    ),
    (["a/1.jpg"], {"labels": "gone/gone.csv"}, "gone.csv: cannot be read"),
    (["a/1.jpg"], {"rows": [ROW | {"subset": "new"}]}, "line 2: subset 'new', expected base or novel; fix it"),
    (
        ["a/1.jpg"],
        {"rows": [ROW | {"subset": "base"}, {"path": "2.jpg", "label": "a", "subset": "novel"}]},
        "line 3: class 'a' is base in one row and novel in another",
    ),
    (["a/1.jpg", "b/1.jpg"], {"csv": "name,alias\nc,x\n"}, "line 2"),
    (["a/1.jpg", "b/1.jpg"], {"csv": "name,alias\na,x\nb,X\n"}, "line 3: 'X' stands for two classes"),
    (["a/1.jpg", "b/1.jpg"], {"csv": "name,alias\na,B\n"}, "line 2: 'B' stands for two classes"),
    (["a/1.jpg", "b/1.jpg"], {"aliases": "gone.csv"}, "gone.csv: cannot be read"),
]


@pytest.mark.parametrize(("files", "bad", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_input_is_one_sentence(tmp_path, files, bad, said):
    put(tmp_path, *files)
    changes = {key: value for key, value in bad.items() if key in ("labels", "aliases")}
    if "rows" in bad:
        table(tmp_path, bad["rows"])
        changes["labels"] = "labels.csv"
    if "csv" in bad:
        (tmp_path / "a.csv").write_text(bad["csv"], encoding="utf-8")
        changes["aliases"] = "a.csv"
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        source(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="is no folder and no table; set it with"):
        source(tmp_path / "gone")
    with pytest.raises(UserError, match=r"gone\.csv: cannot be read"):
        source(tmp_path / "gone.csv")


def test_a_picture_that_vanishes_is_one_sentence(tmp_path):
    found = source(put(tmp_path, "a/1.jpg", "b/1.jpg"))
    (tmp_path / "a" / "1.jpg").unlink()
    with pytest.raises(UserError, match="No such file"):
        dict(found.pictures(["a/1.jpg"]))


# --- The stage and its dry run ---


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with our params.yaml; gives a function that runs the stage in it with other values."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def run(*arguments: str, **changes):
        values = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values["dataset"] = "folder"
        values["max_error_rate"] = changes.pop("max_error_rate", 0.5)
        values["data"] |= {"path": "photos", **changes}
        YAML().dump(values, Path("params.yaml"))
        app = typer.Typer()
        app.command()(download.main)
        return CliRunner().invoke(app, list(arguments))

    return run


def test_the_stage_packs_a_folder(project):
    put(Path("photos"), *(f"{name}/{n}.jpg" for name in ("a", "b", "c") for n in range(8)))
    Path("photos/a/bad.jpg").write_bytes(b"\xff\xd8 nothing")
    result = project()
    assert result.exit_code == 0, result.exception
    assert (
        "Your own pictures.\nfolder: 3 classes, 16 train, 3 val, 6 test images, 1 of them unreadable" in result.output
    )
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    classes = tables.read(tables.CLASSES, Path("data/classes.parquet"))
    assert classes["subset"].to_list() == ["base", "base", "novel"] and classes["noun"].unique().to_list() == ["object"]
    bad = images.filter(status="error")
    assert bad["file"].to_list() == ["a/bad.jpg"] and bad["image"].to_list() == [b""]
    assert bad["reason"].item().startswith("picture cannot be read: ") and " at 0x" not in bad["reason"].item()
    for file, image, content in images.filter(status="ok")["file", "image", "content"].rows():
        assert Path("photos", file).read_bytes() == image and content in images["image_id"]
    before = Path("data/images.parquet").read_bytes()
    assert project().exit_code == 0 and Path("data/images.parquet").read_bytes() == before, "the same bytes again"
    assert sorted(path.name for path in Path("data").iterdir()) == ["classes.parquet", "images.parquet"]


def test_too_many_bad_pictures_fail_the_stage(project):
    put(Path("photos"), *(f"{name}/{n}.jpg" for name in ("a", "b") for n in range(8)))
    Path("photos/a/bad.jpg").write_bytes(b"")
    result = project(max_error_rate=0.01)
    assert isinstance(result.exception, UserError)
    assert "1 of 17 images cannot be read (limit 1 %), the first 'a/bad.jpg'" in str(result.exception)
    assert not Path("data/images.parquet").exists()


def test_without_a_novel_half_everything_is_base(project):
    put(Path("photos"), *(f"{name}/{n}.jpg" for name in ("a", "b", "c") for n in range(8)))
    for changes in ({"base_classes": "all"}, {"shots": 2}):
        assert project(**changes).exit_code == 0
        assert set(tables.read(tables.CLASSES, Path("data/classes.parquet"))["subset"]) == {"base"}
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    assert images.filter(split="train")["class_id"].value_counts(sort=True)["count"].to_list() == [2, 2, 2]


def test_the_same_picture_twice_keeps_both_rows(project):
    put(Path("photos"), *(f"{name}/{n}.jpg" for name in ("a", "b") for n in range(4)))
    for name in ("a/copy.jpg", "b/copy.jpg"):
        Path("photos", name).write_bytes(Path("photos/a/0.jpg").read_bytes())
    assert project().exit_code == 0
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    same = images.filter(content=images.filter(file="a/0.jpg")["content"].item()).sort("file")
    assert same["file"].to_list() == ["a/0.jpg", "a/copy.jpg", "b/copy.jpg"] and same["image_id"].n_unique() == 3
    assert same["image_id"][0] == same["content"][0]


def test_the_check_says_what_will_give_trouble_and_writes_nothing(project):
    files = [f"{name}/{n}.jpg" for name in ("house wren", "mouse wren", "owl") for n in range(8)]
    put(Path("photos"), *files, "owlet/0.jpg")
    Path("photos/owl/bad.jpg").write_bytes(b"")
    Path("photos/owl/tiny.jpg").write_bytes(photo(99, side=40))
    Path("photos/owl/copy.jpg").write_bytes(Path("photos/house wren/0.jpg").read_bytes())
    result = project("--check")
    said = result.output
    assert "house wren      base        5      1      2" in said, said
    assert "few training images" not in said and "no test image: 1\n  owlet" in said
    assert "cannot be read: 1\n  owl/bad.jpg: picture cannot be read" in said
    assert "too small to show details: 1\n  owl/tiny.jpg: 40 × 40" in said
    assert re.search(
        r"the same picture in .*: 1\n  house wren/0.jpg \(\w+\) and owl/copy.jpg|owl/copy.jpg \(\w+\) and", said
    )
    assert "class names that are easily confused: 1\n  'house wren' and 'mouse wren'" in said
    assert not Path("data/images.parquet").exists()


def test_the_check_fails_where_the_run_would(project):
    put(Path("photos"), *(f"{name}/{n}.jpg" for name in ("a", "b") for n in range(8)))
    for n in range(8):
        Path(f"photos/a/again{n}.jpg").write_bytes(Path(f"photos/a/{n}.jpg").read_bytes())
    result = project("--check")
    assert isinstance(result.exception, UserError) and "show the same pictures" in str(result.exception)
    result = project("--check", drop_leaks=True)
    assert result.exit_code == 0 and "nothing here stops a run" in result.output
    assert re.search(r"dropped because a test image shows the same: [1-9]", result.output)


def test_no_class_is_ever_a_path(tmp_path):
    """A class name with a slash goes through the tables as it is."""
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    rows = [
        {"path": f"{n}.jpg", "label": label}
        for n, label in zip("1234", ["F/A-18"] * 2 + ["2012 Ram C/V"] * 2, strict=True)
    ]
    table(tmp_path, rows)
    assert list(source(tmp_path, labels="labels.csv").names) == ["2012 Ram C/V", "F/A-18"]


# --- Which folders are splits ---


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("train_set", "test set"), ("train-images", "testing"), ("TRAIN", "test_data")],
)
def test_the_usual_spellings_of_splits_are_splits(tmp_path, train, test):
    root = put(tmp_path, f"{train}/a/1.jpg", f"{train}/b/1.jpg", f"{test}/a/2.jpg", f"{test}/b/2.jpg")
    assert set(listed(source(root)).values()) == {("a", "train"), ("b", "train"), ("a", "test"), ("b", "test")}


@pytest.mark.parametrize("junk", ["__MACOSX", "@eaDir", "System Volume Information"])
def test_folders_of_a_system_are_no_classes(tmp_path, junk):
    root = put(
        tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", f"{junk}/train/a/1.jpg", f"train/{junk}/1.jpg"
    )
    assert list(source(root).names) == ["a", "b"]


def test_splits_beside_other_folders_are_an_error_that_lists_both(tmp_path):
    root = put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "train_augmented/a/3.jpg")
    (root / "annotations").mkdir()  # holds no picture
    with pytest.raises(UserError) as caught:
        source(root)
    assert "named after splits ('test', 'train') and some are not ('train_augmented')" in str(caught.value)


def test_splits_inside_of_the_classes_are_splits(tmp_path):
    root = put(tmp_path, "a/train/1.jpg", "a/test/2.jpg", "b/train/1.jpg", "b/Testing/deep/2.jpg")
    assert set(listed(source(root)).values()) == {("a", "train"), ("a", "test"), ("b", "train"), ("b", "test")}
    put(root, "b/3.jpg")
    with pytest.raises(UserError, match=r"'b/3.jpg' lies in none"):
        source(root)


def test_one_folder_around_all_is_named_with_the_command(tmp_path):
    root = put(tmp_path, "birds/train/a/1.jpg", "birds/train/b/1.jpg", "birds/test/a/1.jpg", "__MACOSX/birds/._1.jpg")
    with pytest.raises(UserError, match=re.escape(f"-S 'data.path={root / 'birds'}'")):
        source(root)


def test_what_is_no_class_is_named(tmp_path, capsys):
    root = put(tmp_path / "photos", "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg")
    put(tmp_path / "else", "c/1.jpg")
    (root / "c").symlink_to(tmp_path / "else" / "c")
    (root / "empty").mkdir()
    (root / "a" / "broken.jpg").symlink_to(root / "gone.jpg")
    os.mkfifo(root / "a" / "pipe.jpg")
    source(root)
    text = capsys.readouterr().out
    assert "links to folders, which are not followed: 'c'; copy what they lead to\n" in text
    assert "folders without a picture, which are no classes: 'empty'\n" in text
    assert "skipped, links that lead to no file: 1\n" in text and "skipped, no regular files: 1\n" in text


def test_a_folder_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    root = put(tmp_path, "a/1.jpg", "b/1.jpg")
    scan = os.scandir

    def denied(place):
        if str(place).endswith("b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"b: cannot be read \(Permission denied\)"):
        source(root)


@pytest.mark.parametrize("name", ["red\x1b[31mwren", "x" * 201])
def test_a_name_that_no_prompt_can_hold_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"is no class name|a class name of 201 characters"):
        source(put(tmp_path, f"{name}/1.jpg", "b/1.jpg"))


# --- Tables as people's programs write them ---


@pytest.mark.parametrize("mark", [";", "\t", "|", ","])
def test_a_table_has_any_usual_delimiter_and_blank_lines(tmp_path, mark):
    put(tmp_path, "1.jpg", "2.jpg")
    lines = ["Path,Label,note", "1.jpg,a,", "", "2.jpg,b,,,", ",,", ""]
    (tmp_path / "labels.csv").write_bytes(("\ufeff" + "\r\n".join(lines).replace(",", mark)).encode())
    assert sorted(listed(source(tmp_path, labels="labels.csv"))) == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file;class\n1.jpg;a\n", "labels.csv: no column 'path' among file;class"),
        ("path,label\n1.jpg\n", "line 2: 1 value, expected 2: path, label"),
        ("path,label\n1.jpg,a,b\n", "line 2: 3 values, expected 2: path, label"),
        ('path,label\n"1.jpg,a\n' + "x" * 200_000, "line 3: 1 value, expected 2: path, label"),
        ("path,label\n1.jpg," + "x" * 5_000 + "\n", "line 2: a value of more than 4,096 characters"),
        ("path,label\n1\0.jpg,a\n", "line 2: '1\\x00.jpg' is no path"),
        ("path,label\nr\xe9\n".encode("latin-1"), "labels.csv: line 2 is not UTF-8 text"),
    ],
)
def test_another_table_is_one_sentence(tmp_path, text, sentence):
    put(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        source(tmp_path, labels="labels.csv")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_further_columns_do_not_matter(tmp_path, suffix):
    put(tmp_path, "1.jpg", "2.jpg")
    rows = [{"Path": f"{n}.jpg", "Label": "ab"[n - 1], "caption": "x" * 200_000} for n in (1, 2)]
    assert len(listed(source(table(tmp_path, rows, f"labels.{suffix}")))) == 2


def test_a_header_that_alone_ends_with_empty_columns_is_read(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "labels.csv").write_text("path,label,,\n1.jpg,a\n2.jpg,b\n", encoding="utf-8")
    assert len(listed(source(tmp_path, labels="labels.csv"))) == 2


def test_one_file_under_two_unicode_names_occurs_twice(tmp_path):
    put(tmp_path, "é.jpg", "2.jpg")
    rows = [{"path": unicodedata.normalize(form, "é.jpg"), "label": form} for form in ("NFC", "NFD")]
    with pytest.raises(UserError, match=r"line 3: .* occurs twice"):
        source(table(tmp_path, rows))


@pytest.mark.parametrize("name", ["می‌خواهم", "ක්‍ෂ"])
def test_names_of_scripts_with_joiners_are_names(tmp_path, name):
    assert name in source(put(tmp_path, f"{name}/1.jpg", "b/1.jpg")).names


@pytest.mark.parametrize(
    ("files", "around"),
    [(("ds/train/A/1.jpg", "ds/train/B/1.jpg"), "ds/train"), (("a/b/A/1.jpg", "a/b/B/1.jpg"), "a/b")],
)
def test_folders_around_all_are_named_to_the_innermost(tmp_path, files, around):
    with pytest.raises(UserError, match=re.escape(f"-S 'data.path={tmp_path / around}'")):
        source(put(tmp_path, *files))


def test_no_terminal_code_of_a_file_name_is_printed(tmp_path, capsys):
    root = put(tmp_path, "a/1.jpg", "b/1.jpg")
    (root / "b" / "f.\x1b[31mx").write_bytes(b"x")
    source(root)
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(("table_form", "file_form"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_the_unicode_form_of_its_file(tmp_path, table_form, file_form):
    name = "Müller/1é.jpg"
    put(tmp_path, unicodedata.normalize(file_form, name), "2.jpg")
    table(
        tmp_path,
        [{"path": unicodedata.normalize(table_form, name), "label": "Mu\u0308ller"}, {"path": "2.jpg", "label": "b"}],
    )
    found = source(tmp_path, labels="labels.csv")
    assert not found.missing and list(found.names) == ["b", "Müller"]
    assert unicodedata.is_normalized("NFC", found.names[1]), "as prompts show it"


def test_a_table_leads_nowhere_else(tmp_path):
    put(tmp_path / "photos", "1.jpg", "2.jpg")
    put(tmp_path / "else", "3.jpg")
    (tmp_path / "photos" / "3.jpg").symlink_to(tmp_path / "else" / "3.jpg")
    rows = [{"path": f"{n}.jpg", "label": "ab"[n % 2]} for n in (1, 2, 3)]
    table(tmp_path / "photos", rows)
    with pytest.raises(UserError, match=r"3\.jpg: a link leads out of"):
        source(tmp_path / "photos", labels="labels.csv")


# --- Pictures that are not there ---


def test_missing_pictures_are_found_before_any_is_read(project, monkeypatch):
    put(Path("photos"), *(f"{n}.jpg" for n in range(9)))
    os.mkfifo("photos/9.jpg")  # reading it would never end
    table(Path("photos"), [{"path": f"{n}.jpg", "label": "ab"[n % 2]} for n in range(12)])
    with monkeypatch.context() as patch:
        patch.setattr(packing, "ingest", lambda *_: pytest.fail("a picture was read"))
        result = project(labels="labels.csv")
    assert isinstance(result.exception, UserError)
    assert "3 of 12 images are missing, the first '10.jpg'" in str(result.exception)
    assert "-S data.partial=true" in str(result.exception)
    result = project("--check", labels="labels.csv")
    assert "class (folder)  subset" in result.output and "are missing" in str(result.exception)
    result = project(labels="labels.csv", partial=True)
    assert result.exit_code == 0, result.exception
    assert "a part of the data set (data.partial): " in result.output
    assert tables.read(tables.IMAGES, Path("data/images.parquet")).height == 9


def test_a_copy_of_the_project_names_the_photos_of_the_project(project, monkeypatch, tmp_path):
    Path("photos").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path.parent))
    error = project().exception
    assert isinstance(error, UserError) and f"data.path={tmp_path.parent.resolve() / 'photos'}" in str(error)


def test_a_home_folder_is_expanded(project, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    put(tmp_path / "home" / "birds", *(f"{name}/{n}.jpg" for name in "ab" for n in range(8)))
    assert project(path="~/birds").exit_code == 0


def test_classes_that_are_base_by_a_setting_need_training_images(project):
    put(Path("photos"), *(f"train/{name}/{n}.jpg" for name in "ab" for n in range(4)), "test/c/1.jpg", "test/a/9.jpg")
    error = project(shots=4).exception
    assert "data.shots is 4, which makes all 3 classes base, and 1 of them have no training image: c" in str(error)
    assert "data.base_classes is all" in str(project(base_classes="all").exception)
    assert project().exit_code == 0


def test_a_model_that_cannot_write_the_names_is_refused_in_download(project):
    put(Path("photos"), *(f"{name}/{n}.jpg" for name in ("Laysan Albatross", "gull") for n in range(8)))
    shutil.copytree(ROOT / "models" / "fieldguide", "models/fieldguide")
    error = project().exception
    assert isinstance(error, UserError) and "cannot write 2 of 2 class names, such as 'gull'" in str(error)
    result = project("--check")
    assert "class (folder)" in result.output and "cannot write 2 of 2" in str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_messy_folder_gives_what_is_good_in_it_and_says_the_rest(project, seed):
    messy = messy_folder(Path("photos").absolute(), seed)
    assert len(KINDS) >= 40
    result = project("--check", max_error_rate=0.2, drop_leaks=True)
    assert result.exception is None, result.exception
    for line in messy.lines:
        assert f"photos: {line}\n" in result.output, line
    assert project(max_error_rate=0.2, drop_leaks=True).exit_code == 0
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    assert set(images.filter(status="ok")["file"]) == messy.read
    assert set(images.filter(status="error")["file"]) == messy.errors
    classes = tables.read(tables.CLASSES, Path("data/classes.parquet"))
    assert classes["name"].to_list() == ["Grey Heron", "Little Egret", "Mute Swan"]
    assert "cannot be read: 5\n" in result.output and "\x1b" not in result.output
