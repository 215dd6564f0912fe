"""The download stage on small data sets in the official layouts: from a server, from archives, from folders."""

import functools
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest
import typer
from PIL import Image
from support import official_sets
from support.download_project import CLASSES, IMAGES, write_settings
from support.project import ROOT
from typer.testing import CliRunner

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.datasets import OFFICIAL, http_download
from pipeline.stages import download


class Quiet(SimpleHTTPRequestHandler):
    """A file server without ranges; breaks off the first `breaks` answers in the middle, and adds `tail` to each."""

    breaks, tail = 0, b""

    def log_message(self, *args) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        if type(self).breaks:
            type(self).breaks -= 1
            content = content[: len(content) // 2]
        outputfile.write(content + type(self).tail)


@contextmanager
def serving():
    """A function that serves a folder, and gives its URL and handler."""
    servers = []

    def served(folder: Path):
        handler = type("Served", (Quiet,), {})
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", handler

    yield served
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(http_download, "BACKOFF", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    with serving() as served:
        yield served


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project; gives a function that runs the stage with other values of params.yaml."""
    (tmp_path / "project" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def run(dataset, **changes):
        write_settings(dataset, **changes)
        app = typer.Typer()
        app.command()(download.main)
        result = CliRunner().invoke(app, [])
        assert result.exception is None or isinstance(result.exception, UserError), repr(result.exception)
        return result

    return run


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Gives a function that makes a small data set: unpacked folder, folder of archives, its published files."""

    def made(name: str, unpacked: Path | None = None):
        place = unpacked or official_sets.make(name, tmp_path / "unpacked")
        files = official_sets.pack(place, name, tmp_path / "packed" / name)
        official_sets.stand_in(name, files, official_sets.classes_of(name, place), monkeypatch.setattr)
        return place, tmp_path / "packed" / name, files

    return made


def taken(result) -> tuple[bytes, bytes]:
    assert result.exit_code == 0, result.exception
    left = sorted(str(path) for path in Path("data").rglob("*"))
    assert left == [str(CLASSES), str(IMAGES)], "something was left behind"
    return CLASSES.read_bytes(), IMAGES.read_bytes()


def refused(result) -> str:
    assert isinstance(result.exception, UserError), result.output
    assert not IMAGES.exists() and "\n" not in str(result.exception)
    assert [path for path in Path("data").glob("*")] == []
    return str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flowers", "pets", "aircraft", "cub"])
def test_server_archives_and_folder_give_the_same_tables(project, small, serve, monkeypatch, name):
    place, packed, files = small(name)
    url, handler = serve(packed)
    handler.breaks = 2
    monkeypatch.setattr(OFFICIAL[name], "FILES", official_sets.at(files, url))
    fetched = taken(project(name))
    kept = Path(".work/download") / name
    assert {path.name for path in kept.iterdir()} == {file.archive.name for file in files}
    monkeypatch.setattr(OFFICIAL[name], "FILES", official_sets.at(files, "http://127.0.0.1:9/nowhere"))
    assert taken(project(name)) == fetched, "kept, and not fetched again"
    shutil.rmtree(".work")
    assert taken(project(name, path=str(packed))) == fetched
    assert taken(project(name, path=str(place))) == fetched
    assert taken(project(name, path=str(place.parent))) == fetched, "in a folder of its name"
    assert not Path(".work").exists()
    classes, images = tables.read(tables.CLASSES, CLASSES), tables.read(tables.IMAGES, IMAGES)
    assert classes["noun"].unique().to_list() == [OFFICIAL[name].NOUN]
    assert classes["aliases"].to_list() == [[f"other {own}"] for own in classes["name"]]
    assert set(images["status"]) == {"ok"} and images.height > 5


def test_cars_come_from_a_folder_and_are_published_nowhere(project, small):
    place, packed, _ = small("cars")
    assert "cars: car_devkit.tgz is no longer published" in refused(project("cars"))
    assert "data.hub" in refused(project("cars"))
    found = taken(project("cars", path=str(packed)))
    assert taken(project("cars", path=str(place))) == found
    (packed / "cars_test_annos_withlabels.mat").unlink()
    IMAGES.unlink(), CLASSES.unlink()
    said = refused(project("cars", path=str(packed)))
    assert "cars_test_annos_withlabels.mat: no such file" in said and "use the protocol coop" in said
    taken(project("cars", path=str(packed), protocol="coop"))


def test_what_is_unpacked_is_read_and_the_rest_comes_from_archives(project, small, tmp_path):
    place, packed, _ = small("pets")
    whole = taken(project("pets", path=str(place)))
    mixed = tmp_path / "mixed"
    shutil.copytree(place / "annotations", mixed / "annotations")
    shutil.copy(packed / "images.tar.gz", mixed)
    assert taken(project("pets", path=str(mixed))) == whole


def test_inner_folders_will_do(project, small):
    for name, inner in (
        ("cub", "CUB_200_2011"),
        ("aircraft", "fgvc-aircraft-2013b"),
        ("aircraft", "fgvc-aircraft-2013b/data"),
    ):
        if name == "cub" or inner == "fgvc-aircraft-2013b":
            place, _, _ = small(name)
        taken(project(name, path=str(place / inner)))
        images = tables.read(tables.IMAGES, IMAGES)
        assert set(images["status"]) == {"ok"}


def test_wrong_bytes_are_refused_and_nothing_stays(project, small, serve, monkeypatch):
    _, packed, files = small("flowers")
    url, handler = serve(packed)
    handler.tail = b"more"
    monkeypatch.setattr(OFFICIAL["flowers"], "FILES", official_sets.at(files, url))
    (packed / "102flowers.tgz").write_bytes(b"other bytes")
    assert "md5" in refused(project("flowers"))
    assert "102flowers.tgz: md5" in refused(project("flowers", path=str(packed))), "at data.path too"


def test_protocols_take_their_parts(project, small):
    place, _, _ = small("flowers")
    parts = {}
    for protocol in ("official", "coop", "paper"):
        taken(project("flowers", path=str(place), protocol=protocol))
        images = tables.read(tables.IMAGES, IMAGES)
        parts[protocol] = dict(images.select("file", "split").rows())
    assert parts["official"]["jpg/image_00007.jpg"] == "train" and parts["coop"]["jpg/image_00007.jpg"] == "test"
    assert len(parts["official"]) == len(parts["coop"]) == 7 > len(parts["paper"])
    assert "set data.protocol to one of official, paper" in refused_after(project, small, "cub", protocol="coop")


def refused_after(project, small, name, **changes) -> str:
    place, _, _ = small(name)
    IMAGES.unlink(missing_ok=True), CLASSES.unlink(missing_ok=True)
    return refused(project(name, path=str(place), **changes))


def test_a_coop_file_that_is_missing_says_where_to_put_it(project, small):
    _, packed, _ = small("flowers")
    (packed / "split_zhou_OxfordFlowers.json").unlink()
    said = refused(project("flowers", path=str(packed), protocol="coop"))
    assert (
        said.startswith("flowers: split_zhou_OxfordFlowers.json: no such file") and "into the folder data.path" in said
    )


def test_several_data_sets_become_one_table(project, small, tmp_path):
    for name in ("flowers", "pets"):
        small(name)
    taken(project(["flowers", "pets"], path=str(tmp_path / "unpacked")))
    images, classes = tables.read(tables.IMAGES, IMAGES), tables.read(tables.CLASSES, CLASSES)
    assert dict(images["dataset"].value_counts().rows()) == {"flowers": 7, "pets": 17}
    assert dict(classes.select("dataset", "noun").unique().rows()) == {"flowers": "flower", "pets": "pet"}
    assert classes.select("dataset", "class_id").is_unique().all()


def test_bad_pictures_keep_their_row_and_many_fail_the_stage(project, small, tmp_path):
    place = official_sets.make("pets", tmp_path / "unpacked")
    images = place / "images"
    (images / "pug_1.jpg").write_bytes(b"\x00" * 100)
    (images / "pug_2.jpg").write_bytes((images / "pug_2.jpg").read_bytes()[:400])
    grey = io.BytesIO()
    Image.open(images / "pug_3.jpg").convert("CMYK").save(grey, "JPEG")
    (images / "pug_3.jpg").write_bytes(grey.getvalue())
    palette = io.BytesIO()
    Image.open(images / "pug_4.jpg").convert("P").save(palette, "PNG")
    (images / "pug_4.jpg").write_bytes(palette.getvalue())
    small("pets", place)
    assert "2 of 17 images cannot be read (limit 0 %), the first 'images/pug_" in refused(
        project("pets", path=str(place))
    )
    result = project("pets", path=str(place), max_error_rate=0.2)
    taken(result)
    assert "2 of them unreadable" in result.output
    found = tables.read(tables.IMAGES, IMAGES)
    bad = found.filter(status="error")
    assert set(bad["file"]) == {"images/pug_1.jpg", "images/pug_2.jpg"} and set(bad["image"]) == {b""}
    assert bad["reason"].null_count() == 0 and bad["perceptual_hash"].null_count() == 2
    for file, image in found.filter(pl.col("file").is_in(["images/pug_3.jpg", "images/pug_4.jpg"]))[
        "file", "image"
    ].rows():
        assert Image.open(io.BytesIO(image)).mode == "RGB" and (place / file).read_bytes() != image


def test_a_picture_on_both_sides_stops_download_and_says_what_to_do(project, small):
    place, _, _ = small("pets")
    taken(project("pets", path=str(place)))
    images = tables.read(tables.IMAGES, IMAGES)
    assert images["copies"].null_count() == images.height
    test, train = (images.filter(split=split).row(0, named=True) for split in ("test", "train"))
    copy = Image.open(place / test["file"])
    copy.save(place / train["file"], "JPEG", quality=50)
    IMAGES.unlink(), CLASSES.unlink()
    text = refused(project("pets", path=str(place)))
    assert "1 training or validation image and 1 test image show the same pictures, in 1 pair" in text
    assert train["file"] in text and test["file"] in text and "-S data.drop_leaks=true" in text
    result = project("pets", path=str(place), drop_leaks=True)
    taken(result)
    assert "dropped because a test image shows the same: 1 image\n" in result.output
    images = tables.read(tables.IMAGES, IMAGES)
    group = images.drop_nulls("copies")
    assert dict(group.select("file", "split").rows()) == {train["file"]: "out", test["file"]: "test"}
    assert set(group["copies"]) == {group["image_id"].min()}


def test_the_banner_of_aircraft_is_cut_off_and_large_pictures_shrink(project, small, tmp_path):
    place, _, _ = small("aircraft")
    taken(project("aircraft", path=str(place)))
    images = tables.read(tables.IMAGES, IMAGES)
    assert set(images["height"]) == {40} and set(images["width"]) == {80}
    for image in images["image"]:
        lowest = Image.open(io.BytesIO(image)).crop((0, 38, 80, 40)).getdata()
        assert sum(min(pixel) > 245 for pixel in lowest) < 40, "the banner was white"
    taken(project("aircraft", path=str(place), max_pixels=800))
    images = tables.read(tables.IMAGES, IMAGES)
    assert (images["width"] * images["height"]).max() <= 800


def test_missing_images_are_counted(project, small):
    place, _, _ = small("cub")
    for path in sorted((place / "CUB_200_2011/images/003.Cape_May_Warbler").iterdir())[:3]:
        path.unlink()
    said = refused(project("cub", path=str(place)))
    assert (
        "cub: 3 of 23 images are missing, the first "
        "'CUB_200_2011/images/003.Cape_May_Warbler/Cape_May_Warbler_0014_9.jpg'" in said
    )


def test_a_part_of_a_data_set_is_used_where_it_is_asked_for(project, small):
    place, _, _ = small("cub")
    folder = place / "CUB_200_2011/images/003.Cape_May_Warbler"
    for path in sorted(folder.iterdir())[:3]:
        path.unlink()
    error = refused(project("cub", path=str(place)))
    assert "18 of 21 train, 2 of 2 test are there" in error and "-S data.partial=true" in error
    result = project("cub", path=str(place), partial=True, shots=4, val_share=0.0)
    taken(result)
    assert "cub: a part of the data set (data.partial): 18 of 21 train, 2 of 2 test images\n" in result.output
    images = tables.read(tables.IMAGES, IMAGES)
    assert images.filter(class_id=2, split="train").height == 4, "selected among those that are there"
    for path in (place / "CUB_200_2011/images").rglob("*.jpg"):
        path.unlink()
    IMAGES.unlink(), CLASSES.unlink()
    error = refused(project("cub", path=str(place), partial=True))
    assert "23 of 23 images are missing" in error and "data.partial" not in error


def test_what_is_missing_in_the_second_data_set_is_found_before_the_first_is_read(
    project, small, tmp_path, monkeypatch
):
    for name in ("flowers", "pets"):
        small(name)
    (tmp_path / "unpacked/pets/images/pug_1.jpg").unlink()
    monkeypatch.setattr(download.packing, "ingest_pictures", lambda *_: pytest.fail("pictures were read"))
    assert "pets: 1 of 17 images are missing" in refused(project(["flowers", "pets"], path=str(tmp_path / "unpacked")))


def test_missing_pictures_are_found_where_the_metadata_is_packed(project, small, tmp_path, monkeypatch):
    place, packed, _ = small("pets")
    mixed = tmp_path / "mixed"
    shutil.copytree(place / "images", mixed / "images")
    shutil.copy(packed / "annotations.tar.gz", mixed)
    (mixed / "images" / "pug_1.jpg").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(download.packing, "ingest_pictures", lambda *_: pytest.fail("pictures were read"))
        assert "pets: 1 of 17 images are missing" in refused(project("pets", path=str(mixed)))
    taken(project("pets", path=str(mixed), partial=True))


def test_a_path_that_is_not_there_is_an_error_at_once(project, small, tmp_path):
    small("flowers")
    for path in ("gone", str(tmp_path / "packed" / "flowers" / "setid.mat")):
        assert f"data.path: {path} is no folder; set it" in refused(project("flowers", path=path))
    assert not Path(".work").exists(), "nothing was fetched"


def test_cars_of_the_published_run_need_no_test_archive(project, small):
    _, packed, _ = small("cars")
    (packed / "cars_test.tgz").unlink()
    assert "cars_test.tgz is no longer published" in refused(project("cars", path=str(packed), protocol="coop"))
    taken(project("cars", path=str(packed), protocol="paper"))


def test_limits_shots_and_validation_leave_their_counts(project, small):
    place, _, _ = small("cub")

    def counted(**changes):
        taken(project("cub", path=str(place), **changes))
        images = tables.read(tables.IMAGES, IMAGES)
        return {key: rows.height for key, rows in images.group_by("class_id", "split")}

    whole = counted(val_share=0.0)
    assert whole == {(0, "train"): 10, (0, "test"): 1, (1, "train"): 1, (1, "test"): 1, (2, "train"): 10}
    assert counted(val_share=0.2) == whole | {(0, "train"): 8, (0, "val"): 2, (2, "train"): 8, (2, "val"): 2}
    assert counted(val_share=0.0, shots=4) == whole | {(0, "train"): 4, (2, "train"): 4}
    assert set(tables.read(tables.CLASSES, CLASSES)["subset"]) == {"base"}
    assert counted(val_share=0.2, limit_per_class=1) == {
        (0, "train"): 1, (0, "val"): 1, (0, "test"): 1, (1, "train"): 1, (1, "test"): 1, (2, "train"): 1, (2, "val"): 1,
    }  # fmt: skip


def test_the_licence_is_printed(project, small):
    place, _, _ = small("pets")
    assert project("pets", path=str(place)).output.count("CC BY-SA 4.0") == 1


# --- Killed ---


def many(root: Path, count: int) -> Path:
    """A data set in CUB's layout with `count` pictures."""
    data = root / "cub" / "CUB_200_2011"
    (data / "images").mkdir(parents=True)
    folders = [f"{i % 4 + 1:03}.Bird_{'abcd'[i % 4]}" for i in range(count)]
    (data / "classes.txt").write_text(
        "".join(f"{i + 1} {i + 1:03}.Bird_{'abcd'[i]}\n" for i in range(4)), encoding="utf-8"
    )
    (data / "images.txt").write_text(
        "".join(f"{i} {folder}/{i}.jpg\n" for i, folder in enumerate(folders, 1)), encoding="utf-8"
    )
    (data / "image_class_labels.txt").write_text(
        "".join(f"{i} {int(f[:3])}\n" for i, f in enumerate(folders, 1)), encoding="utf-8"
    )
    (data / "train_test_split.txt").write_text("".join(f"{i} {i % 2}\n" for i in range(1, count + 1)), encoding="utf-8")
    for number, name in enumerate(folders, 1):
        (data / "images" / name).mkdir(exist_ok=True)
        (data / "images" / name / f"{number}.jpg").write_bytes(official_sets.picture(str(number), 160, 120))
    return root / "cub"


POLL = 0.05  # seconds between two looks at a process


def killed_and_run_again(folder: Path, count: int, kills: int, serve) -> tuple[int, bool]:
    """How many of the kills met a running process, and whether the tables ended up as an undisturbed run's."""
    place = many(folder / "unpacked", count)
    files = official_sets.pack(place, "cub", folder / "packed")
    url, _ = serve(folder / "packed")
    (folder / "run.py").write_text(
        official_sets.driver("cub", official_sets.at(files, url), official_sets.classes_of("cub", place)),
        encoding="utf-8",
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": ".", "no_proxy": "*"}

    def start(project: Path) -> subprocess.Popen:
        (project / "photos").mkdir(parents=True, exist_ok=True)
        shutil.copy("params.yaml", project)
        return subprocess.Popen(
            [sys.executable, str(folder / "run.py")], cwd=project, env=environment, stdout=subprocess.DEVNULL
        )

    write_settings("cub")
    run, polls = start(folder / "whole"), 0
    while run.poll() is None:
        time.sleep(POLL)
        polls += 1
    assert run.returncode == 0
    rng, met = random.Random(0), 0
    for number in range(kills):
        run = start(folder / "killed")
        if number % 5 == 4:
            shutil.rmtree(folder / "killed" / ".work", ignore_errors=True)  # so that fetching is met as well
        time.sleep(POLL * rng.randrange(polls))
        met += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert start(folder / "killed").wait() == 0
    found = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / name / "data").iterdir()}
        for name in ("whole", "killed")
    ]
    return met, found[0] == found[1] and len(found[0]) == 2


@pytest.mark.slow
def test_killed_at_random_it_ends_as_undisturbed(tmp_path, monkeypatch, serve):
    monkeypatch.chdir(tmp_path)
    met, same = killed_and_run_again(tmp_path, 200, 4, serve)
    assert met >= 2 and same
