"""Small data sets in the official layouts."""

import json
from pathlib import Path

import numpy as np
from scipy.io import savemat


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def annotations(file: Path, rows, labelled: bool = True) -> None:
    """The devkit's form: a 1×n struct whose every field is a 1×1 array or a text."""
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", *(["class"] if labelled else []), "fname"]
    struct = np.zeros((1, len(rows)), dtype=[(field, object) for field in fields])
    for i, (name, label) in enumerate(rows):
        struct[0, i] = tuple(np.array([[9]], np.uint8) for _ in range(4)) + ((label,) if labelled else ()) + (name,)
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"annotations": struct}, do_compression=True)


def make_flowers(root: Path) -> None:
    names = {"2": "colt's foot", "1": "globe-flower", "3": "rose"}  # keys in no order, as in the real file
    write(root / "cat_to_name.json", json.dumps(names))
    savemat(root / "imagelabels.mat", {"labels": np.array([[3, 3, 1, 1, 2, 2, 1]], np.uint8)})
    ids = {"trnid": [7, 5, 1], "valid": [3], "tstid": [6, 4, 2]}
    savemat(root / "setid.mat", {key: np.array([value], np.uint16) for key, value in ids.items()})
    split = {
        "train": [["image_00003.jpg", 0, "globe-flower"], ["image_00001.jpg", 2, "rose"]],
        "val": [["image_00004.jpg", 0, "globe-flower"], ["image_00005.jpg", 1, "colt's foot"]],
        "test": [["image_00002.jpg", 2, "rose"], ["image_00006.jpg", 1, "x"], ["image_00007.jpg", 0, "globe-flower"]],
    }
    write(root / "split_zhou_OxfordFlowers.json", json.dumps(split))


def make_pets(root: Path) -> None:
    trainval = [f"Egyptian_Mau_{i} 1 1 1" for i in range(1, 11)] + [f"pug_{i} 2 2 1" for i in range(1, 6)]
    test = ["Egyptian_Mau_100 1 1 1", "pug_191 2 2 1"]
    head = "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n#SPECIES: 1:Cat 2:Dog\n#BREED ID\n#All images\n#x\n"
    write(root / "annotations/list.txt", head + "\n".join(trainval + test) + "\n")
    write(root / "annotations/trainval.txt", "\n".join(trainval) + "\n")
    write(root / "annotations/test.txt", "\n".join(test) + "\n")
    write(root / "images/Egyptian_Mau_139.mat", "a stray file of the official archive")
    rows = [[f"{line.split()[0]}.jpg", int(line.split()[1]) - 1, "egyptian_mau"] for line in trainval + test]
    write(root / "split_zhou_OxfordPets.json", json.dumps({"train": rows[:7], "val": rows[7:15], "test": rows[15:]}))


def make_cars(root: Path) -> None:
    names = [
        "Ram C/V Cargo Van Minivan 2012",
        "Bentley Continental Supersports Conv. Convertible 2012",
        "Audi 100 1994",
    ]
    train = [("00001.jpg", 3), ("00002.jpg", 1), ("00003.jpg", 2)]
    test = [("00001.jpg", 2), ("00002.jpg", 3)]
    annotations(root / "devkit/cars_train_annos.mat", train)
    annotations(root / "devkit/cars_test_annos.mat", test, labelled=False)
    annotations(root / "cars_test_annos_withlabels.mat", test)
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array([names], dtype=object)})
    split = {
        "train": [["cars_train/00002.jpg", 0, "x"]],
        "val": [["cars_train/00001.jpg", 2, "x"], ["cars_train/00003.jpg", 1, "x"]],
        "test": [["cars_test/00001.jpg", 1, "x"], ["cars_test/00002.jpg", 2, "x"]],
    }
    write(root / "split_zhou_StanfordCars.json", json.dumps(split))


def make_aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    write(data / "variants.txt", "Boeing 717\nF-16A/B\nF/A-18\n")
    lists = {
        "train": "1025794 Boeing 717\n0056978 F-16A/B\n0000007 F/A-18\n",
        "val": "0000010 Boeing 717\n0000002 F-16A/B\n0000001 F/A-18\n",
        "test": "0000100 Boeing 717\n2222222 F-16A/B\n0034309 F/A-18\n",
    }
    lists["trainval"] = lists["val"] + lists["train"]
    for part, text in lists.items():
        write(data / f"images_variant_{part}.txt", text)


def make_cub(root: Path) -> None:
    data = root / "CUB_200_2011"
    write(data / "classes.txt", "1 001.Artic_Tern\n2 002.Chuck_will_Widow\n3 003.Cape_May_Warbler\n")
    folders = ["001.Artic_Tern"] * 11 + ["002.Chuck_will_Widow"] * 2 + ["003.Cape_May_Warbler"] * 10
    rows = list(enumerate(folders, start=1))
    write(data / "images.txt", "".join(f"{i} {folder}/{folder[4:]}_{i:04}_9.jpg\n" for i, folder in rows))
    write(data / "image_class_labels.txt", "".join(f"{i} {int(folder[:3])}\n" for i, folder in rows))
    write(data / "train_test_split.txt", "".join(f"{i} {int(i not in (1, 12))}\n" for i, _ in rows))


MAKE = {
    "flowers": make_flowers,
    "pets": make_pets,
    "cars": make_cars,
    "aircraft": make_aircraft,
    "cub": make_cub,
}
