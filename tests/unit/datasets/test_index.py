"""The five official data sets read from their metadata: small ones made here, and the real files where they are."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.io import loadmat, savemat
from support.official_files import MAKE, annotations
from support.project import ROOT

from pipeline.core.params import UserError
from pipeline.datasets import OFFICIAL, index, layout, protocols

SHARED = Path(os.environ.get("DIVEK_DATASETS", ROOT.parent / "shared" / "datasets"))
real = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no official metadata at {SHARED}; set DIVEK_DATASETS")

COLUMNS = {"path": pl.String, "class_id": pl.Int64, "class_name": pl.String, "subset": pl.String, "split": pl.String}

# --- Small data sets in the official layouts ---


CASES = [(n, p) for n in OFFICIAL for p in layout.PROTOCOLS if not (p == "coop" and n in ("aircraft", "cub"))]


@pytest.fixture
def small(tmp_path):
    """A function that makes the small data set of a name and gives its root."""

    def made(name: str) -> Path:
        root = tmp_path / name
        root.mkdir()
        MAKE[name](root)
        return root

    return made


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_the_table_has_the_columns_order_and_values_of_the_contract(small, name, protocol):
    found = index(name, small(name), protocol)
    assert dict(found.schema) == COLUMNS
    assert found.height and found["path"].is_unique().all() and not found.null_count().sum_horizontal().item()
    assert_frame_equal(found, found.sort("class_id", "path"))
    assert set(found["subset"]) <= {"base", "novel"} and set(found["split"]) <= {"train", "val", "test"}


def test_flowers(small):
    root = small("flowers")
    assert index("flowers", root, "official").rows() == [
        ("jpg/image_00003.jpg", 0, "globe-flower", "base", "val"),
        ("jpg/image_00004.jpg", 0, "globe-flower", "base", "test"),
        ("jpg/image_00007.jpg", 0, "globe-flower", "base", "train"),
        ("jpg/image_00005.jpg", 1, "colt's foot", "base", "train"),
        ("jpg/image_00006.jpg", 1, "colt's foot", "base", "test"),
        ("jpg/image_00001.jpg", 2, "rose", "novel", "train"),
        ("jpg/image_00002.jpg", 2, "rose", "novel", "test"),
    ]
    assert index("flowers", root, "coop")["split"].to_list() == ["train", "val", "test", "val", "test", "train", "test"]
    # Base train, then the base test from CoOp's val, the novel test from CoOp's test.
    assert index("flowers", root, "paper").select("path", "subset", "split").rows() == [
        ("jpg/image_00003.jpg", "base", "train"),
        ("jpg/image_00004.jpg", "base", "test"),
        ("jpg/image_00005.jpg", "base", "test"),
        ("jpg/image_00002.jpg", "novel", "test"),
    ]


def test_flowers_names_are_known_without_cat_to_name(small):
    root = small("flowers")
    (root / "cat_to_name.json").unlink()
    found = index("flowers", root, "official")
    assert found["class_name"].unique(maintain_order=True).to_list() == [
        "pink primrose",
        "hard-leaved pocket orchid",
        "canterbury bells",
    ]
    assert set(found["subset"]) == {"base"}, "three of 102 classes"


def test_our_table_of_flowers():
    ids, names, _ = zip(*layout.class_table("flowers"), strict=True)
    assert ids == tuple(range(102)) and len(set(names)) == 102
    assert {"colt's foot", "barbeton daisy", "cape flower", "prince of wales feathers", "watercress"} <= set(names)


def test_pets(small):
    root = small("pets")
    found = index("pets", root, "official")
    assert found["class_name"].unique(maintain_order=True).to_list() == ["Egyptian Mau", "pug"]
    assert found.filter(split="test")["path"].to_list() == ["images/Egyptian_Mau_100.jpg", "images/pug_191.jpg"]
    assert found.filter(split="train").height == 15 and found.filter(subset="base").height == 11
    assert Counter(index("pets", root, "coop")["split"]) == {"train": 7, "val": 8, "test": 2}
    assert Counter(index("pets", root, "paper").select("subset", "split").rows()) == {
        ("base", "train"): 8,
        ("base", "test"): 2,
        ("novel", "test"): 1,
    }


def test_cars(small):
    root = small("cars")
    assert index("cars", root, "official").rows() == [
        ("cars_train/00002.jpg", 0, "2012 Ram C/V Cargo Van Minivan", "base", "train"),
        ("cars_test/00001.jpg", 1, "2012 Bentley Continental Supersports Conv. Convertible", "base", "test"),
        ("cars_train/00003.jpg", 1, "2012 Bentley Continental Supersports Conv. Convertible", "base", "train"),
        ("cars_test/00002.jpg", 2, "1994 Audi 100", "novel", "test"),
        ("cars_train/00001.jpg", 2, "1994 Audi 100", "novel", "train"),
    ]
    assert index("cars", root, "coop")["split"].to_list() == ["train", "test", "val", "test", "val"]
    assert index("cars", root, "paper").select("path", "split").rows() == [
        ("cars_train/00002.jpg", "train"),
        ("cars_train/00003.jpg", "test"),
        ("cars_train/00001.jpg", "test"),
    ]


def test_cars_without_labels_of_the_test_images(small):
    root = small("cars")
    whole = {protocol: index("cars", root, protocol) for protocol in layout.PROTOCOLS}
    labelled = root / "cars_test_annos_withlabels.mat"
    labelled.rename(root / "devkit" / labelled.name)
    assert_frame_equal(index("cars", root, "official"), whole["official"])
    (root / "devkit" / labelled.name).unlink()
    for protocol in ("coop", "paper"):
        assert_frame_equal(index("cars", root, protocol), whole[protocol])
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat: no such file"):
        index("cars", root, "official")
    shutil.copy(root / "devkit/cars_test_annos.mat", labelled)
    with pytest.raises(UserError, match=r"withlabels\.mat: annotations without 'class'"):
        index("cars", root, "official")


def test_aircraft(small):
    root = small("aircraft")
    found = index("aircraft", root, "official")
    images = "fgvc-aircraft-2013b/data/images"
    assert found.rows() == [
        (f"{images}/0000010.jpg", 0, "Boeing 717", "base", "val"),
        (f"{images}/0000100.jpg", 0, "Boeing 717", "base", "test"),
        (f"{images}/1025794.jpg", 0, "Boeing 717", "base", "train"),
        (f"{images}/0000002.jpg", 1, "F-16A/B", "base", "val"),
        (f"{images}/0056978.jpg", 1, "F-16A/B", "base", "train"),
        (f"{images}/2222222.jpg", 1, "F-16A/B", "base", "test"),
        (f"{images}/0000001.jpg", 2, "F/A-18", "novel", "val"),
        (f"{images}/0000007.jpg", 2, "F/A-18", "novel", "train"),
        (f"{images}/0034309.jpg", 2, "F/A-18", "novel", "test"),
    ]
    paper = index("aircraft", root, "paper").select(pl.col("path").str.split("/").list.last(), "split")
    assert paper.rows() == [
        ("0000010.jpg", "test"),
        ("1025794.jpg", "train"),
        ("0000002.jpg", "test"),
        ("0056978.jpg", "train"),
        ("0000001.jpg", "test"),
    ]


def test_cub(small):
    root = small("cub")
    found = index("cub", root, "official")
    names = ["Artic Tern", "Chuck will Widow", "Cape May Warbler"]
    assert found["class_name"].unique(maintain_order=True).to_list() == names, "as the data set spells them"
    assert found.filter(split="test")["path"].to_list() == [
        "CUB_200_2011/images/001.Artic_Tern/Artic_Tern_0001_9.jpg",
        "CUB_200_2011/images/002.Chuck_will_Widow/Chuck_will_Widow_0012_9.jpg",
    ]
    assert Counter(index("cub", root, "paper").select("class_id", "split").rows()) == {
        (0, "train"): 8,
        (0, "test"): 2,
        (1, "train"): 1,
        (2, "test"): 2,
    }


@pytest.mark.parametrize(
    ("name", "inner"),
    [("cub", "CUB_200_2011"), ("aircraft", "fgvc-aircraft-2013b"), ("aircraft", "fgvc-aircraft-2013b/data")],
)
def test_the_root_may_be_a_folder_of_the_archive(small, name, inner):
    root = small(name)
    for protocol in ("official", "paper"):
        outer, found = index(name, root, protocol), index(name, root / inner, protocol)
        assert_frame_equal(found.with_columns(path=pl.lit(f"{inner}/") + pl.col("path")), outer)


# --- The cut ---


def test_the_cut_takes_four_fifths_of_each_class_and_knows_no_order():
    rows = [
        (f"images/{c}/{i}.jpg", c, "train") for c, count in enumerate([30, 29, 93, 96, 99, 100]) for i in range(count)
    ]
    found = protocols.cut(rows, 0)
    counts = Counter((class_id, part) for _, class_id, part in found)
    assert [counts[c, "train"] for c in range(6)] == [24, 23, 74, 77, 79, 80]
    assert sorted(protocols.cut(rows[::-1], 0)) == sorted(found)
    assert sorted(protocols.cut(rows, 1)) != sorted(found)
    alone = protocols.cut([row for row in rows if row[1] == 2], 0)
    assert sorted(alone) == sorted(row for row in found if row[1] == 2)


@pytest.mark.parametrize("name", ["pets", "cub"])
def test_the_seed_draws_the_cut_and_nothing_else(small, name):
    root = small(name)
    paper = [index(name, root, "paper", seed) for seed in (0, 0, 1)]
    assert_frame_equal(paper[0], paper[1])
    assert not paper[0].equals(paper[2])
    assert_frame_equal(index(name, root, "official", 0), index(name, root, "official", 1))


@pytest.mark.parametrize(("count", "base"), [(1, 1), (2, 1), (37, 19), (102, 51), (196, 98)])
def test_the_base_half_is_the_larger_one(count, base):
    assert protocols.base_classes(count) == base


# --- Mistakes ---


def test_unknown_data_set_and_protocol(tmp_path):
    with pytest.raises(UserError, match=f"there is no official data set 'birds', only {', '.join(OFFICIAL)}"):
        index("birds", tmp_path, "official")
    for name in OFFICIAL:
        with pytest.raises(UserError, match=f"{name}: no protocol 'Paper'; set data.protocol to one of official"):
            index(name, tmp_path, "Paper")
    for name in ("cub", "aircraft"):
        with pytest.raises(
            UserError, match=f"{name}: CoOp has no split file of it; set data.protocol to one of official, paper"
        ):
            index(name, tmp_path, "coop")


FILES = {
    "flowers": ["imagelabels.mat", "setid.mat"],
    "pets": ["annotations/list.txt", "annotations/trainval.txt", "annotations/test.txt"],
    "cars": ["devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"],
    "aircraft": [
        f"fgvc-aircraft-2013b/data/{name}.txt"
        for name in ("variants", *(f"images_variant_{part}" for part in ("train", "val", "trainval", "test")))
    ],
    "cub": [f"CUB_200_2011/{name}.txt" for name in ("images", "classes", "image_class_labels", "train_test_split")],
}
SPLITS = {"flowers": "OxfordFlowers", "pets": "OxfordPets", "cars": "StanfordCars"}
ALL_FILES = [("official", name, file) for name, files in FILES.items() for file in files]
ALL_FILES += [("coop", name, f"split_zhou_{split}.json") for name, split in SPLITS.items()]


@pytest.mark.parametrize(("protocol", "name", "file"), ALL_FILES)
def test_a_missing_empty_or_cut_file_is_named(small, protocol, name, file):
    root = small(name)
    path = root / file
    whole = path.read_bytes()
    for damage in ("missing", "a folder", "empty", "subset", "not UTF-8"):
        path.unlink()
        if damage == "a folder":
            path.mkdir()
        elif damage != "missing":
            path.write_bytes({"empty": b"", "subset": whole[: len(whole) // 2], "not UTF-8": b"\xff\xfe1 1"}[damage])
        with pytest.raises(UserError) as error:
            index(name, root, protocol)
        # Lists that say the same thing twice name either.
        assert str(path.parent) in str(error.value) and path.suffix in str(error.value), damage
        if damage in ("missing", "a folder", "empty", "not UTF-8"):
            assert str(error.value).startswith(f"{path}: ")
            assert ", expected " in str(error.value) and "; " in str(error.value)
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(whole)


@pytest.mark.parametrize("file", ["imagelabels.mat", "setid.mat"])
def test_a_mat_file_cut_anywhere_is_a_mistake(small, file):
    root = small("flowers")
    whole = (root / file).read_bytes()
    for length in range(0, len(whole), 7):
        (root / file).write_bytes(whole[:length])
        with pytest.raises(UserError, match=file):
            index("flowers", root, "official")


DATA = "fgvc-aircraft-2013b/data"
BAD_LINES = [
    # data set, file, old text, new text, what the message must say
    (
        "cub",
        "CUB_200_2011/image_class_labels.txt",
        "\n5 1\n",
        "\n5 4\n",
        "class '4' of image 5, expected a whole number",
    ),
    ("cub", "CUB_200_2011/image_class_labels.txt", "\n5 1\n", "\n5 0\n", "class '0' of image 5"),
    ("cub", "CUB_200_2011/image_class_labels.txt", "\n5 1\n", "\n5 -1\n", "class '-1' of image 5"),
    ("cub", "CUB_200_2011/image_class_labels.txt", "\n5 1\n", "\n5 1.0\n", "class '1.0' of image 5"),
    ("cub", "CUB_200_2011/image_class_labels.txt", "\n5 1\n", "\n5\n", "the line '5', expected 2 fields, image class"),
    ("cub", "CUB_200_2011/image_class_labels.txt", "\n5 1\n", "\n99 1\n", "unknown image '99'"),
    ("cub", "CUB_200_2011/image_class_labels.txt", "\n5 1\n", "\n", "1 missing, first image '5', expected all 23"),
    (
        "cub",
        "CUB_200_2011/train_test_split.txt",
        "\n5 1\n",
        "\n5 2\n",
        "'2' for image 5, expected 1 (train) or 0 (test)",
    ),
    ("cub", "CUB_200_2011/train_test_split.txt", "\n5 1\n", "\n99 1\n", "unknown image '99'"),
    ("cub", "CUB_200_2011/train_test_split.txt", "\n5 1\n", "\n5 1\n5 1\n", "'5' on two lines"),
    ("cub", "CUB_200_2011/classes.txt", "2 002.Chuck", "7 002.Chuck", "unknown class '7'"),
    ("cub", "CUB_200_2011/classes.txt", "001.Artic_Tern", "Artic_Tern", "class 'Artic_Tern', expected a name such as"),
    ("aircraft", f"{DATA}/images_variant_train.txt", "F-16A/B", "F-16", "unknown variant 'F-16' of image 0056978"),
    (
        "aircraft",
        f"{DATA}/images_variant_test.txt",
        " F/A-18",
        "",
        "the line '0034309', expected 2 fields, image variant",
    ),
    ("aircraft", f"{DATA}/images_variant_trainval.txt", "0000010", "0000011", "unknown image (of train and val)"),
    ("aircraft", f"{DATA}/images_variant_test.txt", "0034309", "0000001", "image 0000001, also in trainval"),
    ("aircraft", f"{DATA}/variants.txt", "F/A-18", "F-16A/B", "'F-16A/B' on two lines"),
    (
        "pets",
        "annotations/list.txt",
        "pug_1 2 2 1",
        "pug_1 3 2 1",
        "class '3' of pug_1, expected a whole number from 1",
    ),
    ("pets", "annotations/list.txt", "pug_1 2 2 1", "pug_1 1 2 1", "pug_1 in class 1, expected images"),
    ("pets", "annotations/list.txt", "pug_1 2 2 1", "pug_1 2", "the line 'pug_1 2', expected 4 fields, stem class"),
    (
        "pets",
        "annotations/trainval.txt",
        "pug_1 2 2 1",
        "pug_8 2 2 1",
        "unknown image 'pug_8', expected images of list",
    ),
    (
        "pets",
        "annotations/trainval.txt",
        "pug_1 2 2 1",
        "pug_1 1 2 1",
        "class 1 of pug_1, expected 2, as list.txt has it",
    ),
    ("pets", "annotations/test.txt", "pug_191 2 2 1", "pug_1 2 2 1", "'pug_1' twice"),
    ("pets", "annotations/test.txt", "pug_191 2 2 1\n", "", "1 missing"),
    ("flowers", "cat_to_name.json", '"3"', '"4"', "unknown label '4'"),
    ("flowers", "cat_to_name.json", '"rose"', "3", "no table of names"),
]


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), BAD_LINES)
def test_a_bad_line_is_named_with_its_file(small, name, file, old, new, message):
    path = small(name) / file
    assert path.read_text(encoding="utf-8").count(old) == 1
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as error:
        index(name, path.parents[len(Path(file).parts) - 1], "official")
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


BAD_SPLITS = [
    ([["image_00099.jpg", 0, "x"]], "unknown image 'image_00099.jpg'"),
    ([["image_00001.jpg", 1, "x"]], "label 1 of 'image_00001.jpg', expected the official one, 2"),
    ([["image_00001.jpg", 3, "x"]], "label 3 of 'image_00001.jpg', expected a whole number from 0 to 2"),
    ([["image_00001.jpg", -1, "x"]], "label -1 of"),
    ([["image_00001.jpg", True, "x"]], "in train, expected path, 0-based label and class name"),
    ([["image_00001.jpg", 2]], "in train, expected path, 0-based label and class name"),
    ([["image_00001.jpg", 2, "x"]] * 2, "image 'jpg/image_00001.jpg' twice"),
    (None, "other keys, expected the lists train, val and test"),
]


@pytest.mark.parametrize(("train", "message"), BAD_SPLITS)
def test_a_bad_coop_split_is_named(small, train, message):
    root = small("flowers")
    path = root / "split_zhou_OxfordFlowers.json"
    path.write_text(json.dumps({"train": train, "val": [], "test": []}), encoding="utf-8")
    for protocol in ("coop", "paper"):
        with pytest.raises(UserError) as error:
            index("flowers", root, protocol)
        assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


BAD_MATS = [
    ("imagelabels.mat", {"labels": np.array([[3, 3, 0, 1, 2, 2, 1]], np.uint8)}, "class '0' of image 3"),
    ("imagelabels.mat", {"labels": np.array([[3, 3, 1, 1, 2, 2, 4]], np.uint8)}, "class '4' of image 7"),
    ("imagelabels.mat", {"label": np.array([[1]], np.uint8)}, "no array 'labels'"),
    ("setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[8]]}, "unknown image 'jpg/image_00008.jpg'"),
    ("setid.mat", {"trnid": [[1, 2]], "valid": [[2]], "tstid": [[3]]}, "'jpg/image_00002.jpg' twice"),
    ("setid.mat", {"trnid": [[1, 2]], "valid": [[4]], "tstid": [[3]]}, "3 missing, first image 'jpg/image_00005.jpg'"),
    ("setid.mat", {"trnid": [[1, 2]], "valid": [["a"]], "tstid": [[3.5]]}, "unknown image"),
]


@pytest.mark.parametrize(("file", "arrays", "message"), BAD_MATS)
def test_a_bad_mat_file_is_named(small, file, arrays, message):
    root = small("flowers")
    savemat(root / file, arrays)
    with pytest.raises(UserError) as error:
        index("flowers", root, "official")
    assert str(error.value).startswith(f"{root / file}: ") and message in str(error.value)


def test_bad_annotations_of_cars_are_named(small):
    root = small("cars")
    train = root / "devkit/cars_train_annos.mat"
    for rows, message in [
        ([("00001.jpg", 4)], "class '4' of 00001.jpg, expected a whole number from 1 to 3"),
        ([("00001.jpg", 1), ("00001.jpg", 2)], "'00001.jpg' twice"),
        ([("00001.jpg", [1, 2])], "the cell array"),
    ]:
        annotations(train, rows)
        with pytest.raises(UserError) as error:
            index("cars", root, "official")
        assert str(error.value).startswith(f"{train}: ") and message in str(error.value)
    savemat(train, {"annotations": np.array([[1]])})
    with pytest.raises(UserError, match="annotations without 'fname'"):
        index("cars", root, "official")
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array([["Audi 100 1994", "Audi TT"]], dtype=object)})
    with pytest.raises(UserError, match=r"cars_meta\.mat: class name 'Audi TT', expected the model, then its year"):
        index("cars", root, "official")


# --- The real files ---

# Where the copies of the official files go: data set, folder of the copies, folder under the root.
COPIES = [
    ("flowers", "oxford_flowers/official", ""),
    ("flowers", "oxford_flowers/coop", ""),
    ("pets", "oxford_pets/official", "annotations"),
    ("pets", "oxford_pets/coop", ""),
    ("cars", "stanford_cars/official", "devkit"),
    ("cars", "stanford_cars/coop", ""),
    ("aircraft", "fgvc_aircraft/reconstructed", DATA),
    ("cub", "cub/official", "CUB_200_2011"),
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The official layouts, of links. The labels of the cars' test images are made of CoOp's, which are the same."""
    root = tmp_path_factory.mktemp("official")
    for name, copies, inner in COPIES:
        folder = root / name / inner
        folder.mkdir(parents=True, exist_ok=True)
        for file in (SHARED / copies).iterdir():
            if file.name != "SOURCE.txt":
                (folder / file.name).symlink_to(file.resolve())
    test = coop_json("cars")["test"]
    annotations(
        root / "cars/cars_test_annos_withlabels.mat", [(path.split("/")[1], label + 1) for path, label, _ in test]
    )
    return root


def coop_json(name: str):
    (file,) = (SHARED / {"flowers": "oxford_flowers", "pets": "oxford_pets", "cars": "stanford_cars"}[name]).glob(
        "coop/split_zhou_*.json"
    )
    return json.loads(file.read_text(encoding="utf-8"))


def members(frame: pl.DataFrame, part: str) -> set[tuple[str, int]]:
    """Images of a part as (file name, class): for the five data sets the names are unique within a part."""
    return set(frame.filter(split=part).select(pl.col("path").str.split("/").list.last(), "class_id").rows())


def official(name: str) -> dict[str, set[tuple[str, int]]]:
    """The official parts, read from the files another way than the readers do."""
    if name == "flowers":
        labels = loadmat(SHARED / "oxford_flowers/official/imagelabels.mat", squeeze_me=True)["labels"].astype(int) - 1
        sets = loadmat(SHARED / "oxford_flowers/official/setid.mat", squeeze_me=True)
        return {
            part: {(f"image_{i:05d}.jpg", int(labels[i - 1])) for i in sets[key].astype(int)}
            for part, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))
        }
    if name == "pets":
        folder = SHARED / "oxford_pets/official"
        return {
            part: {(f"{row[0]}.jpg", int(row[1]) - 1) for row in np.loadtxt(folder / file, dtype=str)}
            for part, file in (("train", "trainval.txt"), ("test", "test.txt"))
        }
    if name == "cars":
        file = SHARED / "stanford_cars/official/cars_train_annos.mat"
        train = loadmat(file, squeeze_me=True, struct_as_record=False)["annotations"]
        test = {(path.split("/")[1], label) for path, label, _ in coop_json("cars")["test"]}
        return {"train": {(item.fname, getattr(item, "class") - 1) for item in train}, "test": test}
    if name == "aircraft":
        folder = SHARED / "fgvc_aircraft/reconstructed"
        variants = (folder / "variants.txt").read_text(encoding="utf-8").split("\n")[:100]
        return {
            part: {
                (line[:7] + ".jpg", variants.index(line[8:]))
                for line in (folder / f"images_variant_{part}.txt").read_text(encoding="utf-8").split("\n")
                if line
            }
            for part in ("train", "val", "test")
        }
    folder = SHARED / "cub/official"
    columns = [np.loadtxt(folder / f"{file}.txt", dtype=str)[:, 1] for file in ("images", "train_test_split")]
    # The class is the number that the image's folder begins with.
    rows = [(path.split("/")[1], int(path[:3]) - 1, flag) for path, flag in zip(*columns, strict=True)]
    return {part: {(p, c) for p, c, flag in rows if flag == key} for part, key in (("train", "1"), ("test", "0"))}


CLASSES = {
    "flowers": (102, 51, {0: "pink primrose", 40: "barbeton daisy", 101: "blackberry lily"}),
    "pets": (37, 19, {0: "Abyssinian", 1: "american bulldog", 11: "Egyptian Mau", 36: "yorkshire terrier"}),
    "cars": (196, 98, {0: "2000 AM General Hummer SUV", 7: "2012 Aston Martin V8 Vantage Convertible"}),
    "aircraft": (100, 50, {0: "707-320", 10: "747-100", 99: "Yak-42"}),
    "cub": (200, 100, {0: "Black footed Albatross", 140: "Artic Tern", 199: "Common Yellowthroat"}),
}
OFFICIAL_COUNTS = {
    "flowers": {"train": 1020, "val": 1020, "test": 6149},
    "pets": {"train": 3680, "test": 3669},
    "cars": {"train": 8144, "test": 8041},
    "aircraft": {"train": 3334, "val": 3333, "test": 3333},
    "cub": {"train": 5994, "test": 5794},
}
PAPER_COUNTS = {
    "flowers": (1744, 696, 1410),
    "pets": (1508, 377, 359),
    "cars": (3240, 812, 823),
    "aircraft": (1667, 1667, 1666),
    "cub": (2400, 600, 600),
}


@real
@pytest.mark.parametrize("name", OFFICIAL)
def test_real_classes_and_halves(roots, name):
    found = index(name, roots / name, "official")
    count, base, names = CLASSES[name]
    classes = found.select("class_id", "class_name", "subset").unique().sort("class_id")
    assert classes["class_id"].to_list() == list(range(count)) and classes["class_name"].n_unique() == count
    assert classes["subset"].to_list() == ["base"] * base + ["novel"] * (count - base)
    assert {i: classes["class_name"][i] for i in names} == names
    assert not classes["class_name"].str.contains("_|^ | $").any()


@pytest.mark.slow
@real
@pytest.mark.parametrize("name", OFFICIAL)
def test_real_official_parts(roots, name):
    found = index(name, roots / name, "official")
    assert Counter(found["split"]) == OFFICIAL_COUNTS[name]
    wanted = official(name)
    for part in wanted:
        assert members(found, part) == wanted[part]
    # Counts of each class and part follow from the sets, but a wrong set would be easier to read here.
    assert Counter(found.select("split", "class_id").rows()) == Counter((p, c) for p in wanted for _, c in wanted[p])


@pytest.mark.slow
@real
@pytest.mark.parametrize("name", SPLITS)
def test_real_coop_parts(roots, name):
    found = index(name, roots / name, "coop")
    wanted = coop_json(name)
    for part, rows in wanted.items():
        assert members(found, part) == {(path.split("/")[-1], label) for path, label, _ in rows}
    names = {label: text for rows in wanted.values() for _, label, text in rows}
    ours = dict(found.select("class_id", "class_name").unique().rows())
    assert {i: text.lower().replace(" ", "_") for i, text in ours.items()} == {
        i: text.lower().replace(" ", "_") for i, text in names.items()
    }
    assert set(found["path"]) == set(index(name, roots / name, "official")["path"])


@real
@pytest.mark.parametrize("name", OFFICIAL)
def test_real_paper_counts(roots, name):
    found = index(name, roots / name, "paper")
    counts = Counter(found.select("subset", "split").rows())
    wanted = dict(zip([("base", "train"), ("base", "test"), ("novel", "test")], PAPER_COUNTS[name], strict=True))
    assert counts == wanted


@pytest.mark.slow
@real
def test_real_paper_parts_come_from_the_right_lists(roots):
    def of(name, subset, split):
        return set(index(name, roots / name, "paper").filter(subset=subset, split=split)["path"])

    for name, sources in {"flowers": ("train", "val", "test"), "cars": ("train", "val", "val")}.items():
        coop, inside = coop_json(name), "jpg/" if name == "flowers" else ""
        for (subset, split), source in zip(
            [("base", "train"), ("base", "test"), ("novel", "test")], sources, strict=True
        ):
            base_count = CLASSES[name][1]
            wanted = {inside + path for path, label, _ in coop[source] if (label < base_count) == (subset == "base")}
            assert of(name, subset, split) == wanted
    for name, sources in {"aircraft": ("train", "val", "val"), "pets": ("train",) * 3, "cub": ("train",) * 3}.items():
        official_table = index(name, roots / name, "official")
        for (subset, split), source in zip(
            [("base", "train"), ("base", "test"), ("novel", "test")], sources, strict=True
        ):
            pool = set(official_table.filter(subset=subset, split=source)["path"])
            found = of(name, subset, split)
            assert found == pool if name == "aircraft" else found < pool


@real
def test_coops_flowers_train_holds_official_test_images(roots):
    coop, own = (index("flowers", roots / "flowers", protocol) for protocol in ("coop", "official"))
    both = set(coop.filter(split="train")["path"]) & set(own.filter(split="test")["path"])
    assert len(both) == 3097


@real
def test_our_names_of_flowers_are_coops():
    names = json.loads((SHARED / "oxford_flowers/coop/cat_to_name.json").read_text(encoding="utf-8"))
    assert [name for _, name, _ in layout.class_table("flowers")] == [names[str(i)] for i in range(1, 103)]


@pytest.mark.slow
@real
def test_cars_need_no_labels_of_test_images_beside_coops(roots, tmp_path):
    shutil.copytree(roots / "cars", tmp_path / "cars", symlinks=True)
    (tmp_path / "cars/cars_test_annos_withlabels.mat").unlink()
    for protocol in ("coop", "paper"):
        assert_frame_equal(index("cars", tmp_path / "cars", protocol), index("cars", roots / "cars", protocol))
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat: no such file"):
        index("cars", tmp_path / "cars", "official")
