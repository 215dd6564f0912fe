"""One real run of everything in a temporary clone, then what a user does next: nothing, another k, bad input."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from support.project import ROOT
from test_docs import commands

from pipeline.core import tables
from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.species import SPECIES

TINY = {
    "num_samples": 6,
    "data.train_per_class": 3,
    "data.val_per_class": 1,
    "data.test_per_class": 1,
    "train.steps": 2,
    "train.prompts_per_step": 4,
    "train.prompts_per_device": 4,
    "train.generations": 4,
}


def call(folder: Path, *command: str, fails: bool = False) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    # A DVC or git above, such as that of a hook that runs these tests, must not be the one that answers.
    environment = {k: v for k, v in environment.items() if not k.startswith(("GIT_", "DVC_"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == int(fails), f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The project as it stands, in a git repository of its own, with tiny settings."""
    folder = tmp_path_factory.mktemp("clone")
    files = call(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    call(folder, "git", "init", "-q")
    call(folder, "git", "config", "user.name", "test")
    call(folder, "git", "config", "user.email", "test@example.invalid")
    from ruamel.yaml import YAML

    yaml = YAML()
    settings = yaml.load(folder / "params.yaml")
    for dotted, value in TINY.items():
        *sections, last = dotted.split(".")
        place = settings
        for section in sections:
            place = place[section]
        place[last] = value
    yaml.dump(settings, folder / "params.yaml")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "tiny")
    (folder / ".git" / "said").write_text(call(folder, "dvc", "repro"))
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "run")
    return folder


def test_every_stage_ends_with_a_line_of_counts(clone):
    stages = re.findall(r"^> python -m pipeline\.(\w+).*?\n(.*?)(?=^Running stage|\Z)", said(clone), re.M | re.S)
    assert len(stages) == 10
    for stage, lines in stages:
        others = ("Updating", "To ", "\t", "Use ", "WARNING: stage")  # what DVC says
        last = [line for line in lines.splitlines() if line and not line.startswith(others)][-1]
        assert re.search(r"\d", last) or stage == "rivals", f"{stage}: {last}"
        assert "\x1b" not in lines and "━" not in lines, "no bar and no colour where nobody watches"


def said(clone: Path) -> str:
    """What `dvc repro` printed."""
    return (clone / ".git" / "said").read_text()


def predictions(clone: Path) -> pl.DataFrame:
    return pl.concat(
        tables.read(tables.PREDICTIONS, clone / "data" / "predictions" / f"{model}.parquet")
        for model in ("base", "trained")
    )


def test_every_test_image_keeps_its_row(clone):
    images = tables.read(tables.IMAGES, clone / "data" / "images.parquet")
    assert sorted(images["split"].value_counts().rows()) == [("test", 48), ("train", 144), ("val", 48)]
    test = set(images.filter(split="test")["image_id"])
    for _, rows in predictions(clone).group_by("model"):
        assert set(rows.filter(split="test")["image_id"]) == test
        decided_on = images.join(rows.filter(split="val").select("image_id", "subset"), on="image_id")
        assert decided_on.height == 24 and set(decided_on["split"]) == {"val"} and set(decided_on["subset"]) == {"base"}
    metrics = json.loads((clone / "reports" / "metrics.json").read_text())
    assert metrics["trained"]["two_step"]["n_base"] + metrics["trained"]["two_step"]["n_novel"] == 48


def test_only_training_images_of_base_classes_are_asked_and_taught(clone):
    images = tables.read(tables.IMAGES, clone / "data" / "images.parquet")
    classes = tables.read(tables.CLASSES, clone / "data" / "classes.parquet")
    base = set(classes.filter(split="base")["class_id"])
    allowed = set(images.filter((pl.col("split") == "train") & pl.col("class_id").is_in(base))["image_id"])
    samples = tables.read(tables.SAMPLES, clone / "data" / "samples.parquet")
    assert set(samples["image_id"]) == allowed
    assert samples.height == len(allowed) * TINY["num_samples"]
    hard = tables.read(tables.HARD, clone / "data" / "hard.parquet")
    assert set(hard["image_id"]) <= allowed
    assert {option["class_id"] for options in hard["options"] for option in options} <= base


def test_every_dropped_question_has_its_reason(clone):
    counts = json.loads((clone / "reports" / "filter.json").read_text())
    questions = tables.read(tables.QUESTIONS, clone / "data" / "questions.parquet")
    hard = tables.read(tables.HARD, clone / "data" / "hard.parquet")
    assert counts["kept"] == hard.height
    assert counts["questions"] == questions.height == sum(n for reason, n in counts.items() if reason != "questions")


def test_training_moved_the_weights_and_logged_every_step(clone):
    import torch
    from safetensors.torch import load_file

    before = load_file(clone / "models" / "fieldguide" / "model.safetensors")
    after = load_file(clone / "models" / "policy" / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)
    curves = pl.read_csv(clone / "reports" / "training.csv")
    assert curves["step"].to_list() == [1, 2]
    assert (
        curves.select("answer_reward", "entropy", "share_of_groups_without_variance")
        .null_count()
        .sum_horizontal()
        .item()
        == 0
    )


def test_nothing_to_do_the_second_time(clone):
    assert "up to date" in call(clone, "dvc", "repro")
    assert call(clone, "git", "status", "--porcelain") == ""


def test_summary_prints_every_arm(clone):
    printed = call(clone, sys.executable, "-m", "pipeline", "summary")
    for words in (
        "base model",
        "trained model",
        "one-step",
        "vote",
        "two-step",
        "pass@1",
        "pass@6",
        "reports/index.html",
    ):
        assert words in printed


@pytest.fixture
def params_again(clone):
    before = (clone / "params.yaml").read_text()
    yield clone / "params.yaml"
    (clone / "params.yaml").write_text(before)


@pytest.mark.parametrize(
    ("old", "new", "stage", "sentence"),
    [
        ("topk: 5", "topk: 0", "options", "topk is 0, wanted at least 2"),
        ("topk: 5", "topk: 30", "options", "topk is 30, wanted at most 26"),
        ("num_samples: 6", "num_samples: 0", "sample", "num_samples is 0, wanted at least 1"),
        ("dataset: fieldguide", "dataset: fishguide", "download", "dataset is 'fishguide', wanted one of fieldguide"),
        ("seed: 0", "seed: zero", "sample", "seed is 'zero', a str, wanted a value of type int"),
        ("model: models/fieldguide", "model: models/none", "sample", "models/none: found no such folder"),
    ],
)
def test_bad_settings_are_one_sentence_and_change_nothing(clone, params_again, old, new, stage, sentence):
    outs = {p: p.read_bytes() for p in (clone / "data").rglob("*.parquet")}
    params_again.write_text(params_again.read_text().replace(old, new, 1))
    said = call(clone, sys.executable, "-m", f"pipeline.{stage}", fails=True)
    assert said.startswith("error: ")
    assert sentence in said
    assert said.count("\n") == 1, said
    assert {p: p.read_bytes() for p in (clone / "data").rglob("*.parquet")} == outs


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def older(file: Path) -> None:
    pl.read_parquet(file).write_parquet(file, metadata={tables.FOOTER_KEY: f"{file.stem}/0"})


@pytest.mark.parametrize(
    ("damage", "found"), [(truncated, "damaged"), (older, "/0, wanted"), (Path.unlink, "no such file")]
)
@pytest.mark.parametrize(
    ("stage", "option", "name"),
    [
        ("sample", "--images", "images"),
        ("options", "--samples", "samples"),
        ("filter", "--questions", "questions"),
        ("train", "--hard", "hard"),
        ("evaluate", "--samples", "samples"),
        ("report", "--images", "images"),
    ],
)
def test_a_wrong_table_is_one_sentence(clone, tmp_path, damage, found, stage, option, name):
    file = tmp_path / f"{name}.parquet"
    shutil.copy(clone / "data" / file.name, file)
    damage(file)
    said = call(clone, sys.executable, "-m", f"pipeline.{stage}", option, str(file), fails=True)
    assert said.startswith("error: ")
    assert found in said
    assert "`dvc repro " in said
    assert said.count("\n") == 1, said


def test_models_that_are_not_there_or_not_whole_are_one_sentence(clone, tmp_path):
    subset = tmp_path / "subset"
    shutil.copytree(clone / "models" / "policy", subset)
    (subset / "model.safetensors").write_bytes((subset / "model.safetensors").read_bytes()[:1000])
    for model in ("models/none", "somebody/nothing", str(subset)):
        out = tmp_path / "predictions.parquet"
        said = call(
            *(clone, sys.executable, "-m", "pipeline.stages.predict"),
            *("--model", model, "--label", "trained", "--out", str(out)),
            fails=True,
        )
        assert [line for line in said.splitlines() if line.startswith(f"error: {model}: ")], said
        assert "Traceback" not in said
        assert not out.exists()


def test_more_draws_are_added_to_those_that_are_there(clone):
    """In an experiment that DVC runs in a copy of the project, which shares its draws."""
    images = 72
    for count, said in ((5, f"0 drawn now, {images * 5} kept"), (8, f"{images * 2} drawn now, {images * 6} kept")):
        out = call(clone, "dvc", "exp", "run", "--temp", "-S", f"num_samples={count}", "sample")
        assert said in out, out


def sampling(clone: Path, root: Path) -> subprocess.Popen:
    """The sample stage, five images at a time, with a store and an output of its own."""
    environment = os.environ | {"DVC_ROOT": str(root)}
    command = (sys.executable, "-m", "pipeline.stages.sample", "--samples", str(root / "samples.parquet"))
    return subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True)


def test_killed_and_run_again_it_writes_the_same_bytes(clone, params_again, tmp_path):
    params_again.write_text(params_again.read_text().replace("max_rows: 1200", "max_rows: 30"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said, _ = sampling(clone, whole).communicate()
    assert "432 drawn now, 0 kept" in said
    for shards in (1, 4):
        run = sampling(clone, killed)
        while run.poll() is None and len(list(killed.glob(".work/draws/*/*.parquet"))) < shards:
            time.sleep(0.01)
        run.kill()
        run.communicate()
    assert not (killed / "samples.parquet").exists(), "nothing half-written"
    said, _ = sampling(clone, killed).communicate()
    assert 0 < int(re.search(r"([\d,]+) kept", said)[1].replace(",", "")) < 432
    assert (killed / "samples.parquet").read_bytes() == (whole / "samples.parquet").read_bytes()


def test_two_runs_at_once_share_a_store(clone, params_again, tmp_path):
    params_again.write_text(params_again.read_text().replace("max_rows: 1200", "max_rows: 30"))
    runs = [sampling(clone, tmp_path) for _ in range(2)]
    assert all("72 images" in run.communicate()[0] for run in runs)
    said, _ = sampling(clone, tmp_path).communicate()
    assert "0 drawn now, 432 kept" in said


def test_draws_are_counted_and_forgotten(clone, tmp_path):
    shutil.copytree(clone / ".work", tmp_path / ".work")
    environment = os.environ | {"DVC_ROOT": str(tmp_path)}

    def said(*module: str) -> str:
        command = (sys.executable, "-m", *module)
        return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True).stdout

    # 72 training images with 8 draws; 48 test and 24 validation images with 6 and the greedy answer.
    assert "    1,080 draws     144 images" in said("pipeline", "draws")
    assert said("pipeline.stages.sample", "--forget") == "1,080 draws forgotten\n"
    assert "144 images" not in said("pipeline", "draws")
    assert said("pipeline.stages.sample", "--forget") == "0 draws forgotten\n"


def test_a_second_run_gives_the_same_bytes(clone):
    shutil.rmtree(clone / ".work")
    for stage in ("download", "sample", "train", "predict@trained"):
        call(clone, "dvc", "repro", "--single-item", "--force", stage)
    # dvc.lock holds the hash of every output.
    assert call(clone, "git", "status", "--porcelain") == ""


def test_another_k_runs_options_and_what_follows_and_not_sample(clone):
    said = call(clone, "dvc", "exp", "run", "-S", "topk=3")
    for stage in ("options", "filter", "train", "predict@base", "predict@trained", "evaluate", "report"):
        assert f"Running stage '{stage}'" in said
    for stage in ("download", "sample"):
        assert f"Running stage '{stage}'" not in said
    assert predictions(clone)["options"].list.len().max() <= 3
    assert "two_step" in call(clone, "dvc", "metrics", "diff")


def test_two_runs_are_compared_by_revision_and_experiment(clone):
    names = re.findall(r"[0-9a-f]{7} \[(\S+)\]", call(clone, "dvc", "exp", "list"))
    said = call(clone, "python", "-m", "pipeline", "compare", "HEAD", names[-1], "--flips", "flips.csv")
    assert "two_step  hm" in said and "right in HEAD only" in said
    flips = pl.read_csv(clone / "flips.csv")
    assert set(flips["right"]) <= {"first", "second"}
    (clone / "flips.csv").unlink()
    refused = call(clone, "python", "-m", "pipeline", "compare", "HEAD", "no-such-run", fails=True)
    assert "no-such-run: no data/predictions/trained.parquet" in refused and "dvc exp show" in refused


def test_the_paper_tables_and_the_cost_come_from_runs_that_are_there(clone):
    assert "runs; reports/paper.md" in call(clone, "python", "-m", "pipeline", "paper-tables")
    assert "| DiVE-k* | published | 92.9 |" in (clone / "reports/paper.md").read_text()
    for name in ("paper.md", "paper.tex"):
        (clone / "reports" / name).unlink()
    said = call(clone, "python", "-m", "pipeline", "cost", "--images", "1000")
    for stage in ("sample", "train", "predict", "together"):
        assert stage in said


LONG = {
    "dvc exp run": "the tests above and below run experiments, with other settings",
    "dvc queue start": "tests/test_suite.py runs the queue",
    "python -m pipeline suite": "fifty minutes; tests/test_suite.py runs a small one",
}


def test_the_commands_of_every_day_run(clone):
    """Those of the README, as they stand there, with files and an experiment of these names."""
    name = re.findall(r"[0-9a-f]{7} \[(\S+)\]", call(clone, "dvc", "exp", "list"))[-1]
    draw(random_bird(SPECIES[0], "every day", 0)).save(clone / "photo.jpg")
    (clone / "answers.txt").write_text("Black-footed albatross\n")
    ran = []
    for command in commands(ROOT / "README.md", "Every day"):
        if command.startswith(("source", *LONG)):
            continue
        words = shlex.split(command)
        said = call(clone, *[name if word in ("exp", "topk3") else word for word in words])
        assert said.strip() and "Traceback" not in said, command
        ran.append(words[3] if words[0] == "python" else " ".join(words[:2]))
        call(clone, "git", "checkout", "params.yaml")
    assert {"dvc repro", "dvc metrics", "dvc plots", "dvc dag"} <= set(ran)
    assert {"classify", "preset", "compare", "cost", "paper-tables", "summary", "draws", "names", "publish"} <= set(ran)
    shutil.rmtree(clone / "published")
    for file in ("photo.jpg", "answers.txt", "reports/paper.md", "reports/paper.tex"):
        (clone / file).unlink()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of one's own: new pictures of eight species that the base model mixes up, their table, and aliases.

    A species is base or novel in both data sets: the gate would not have it otherwise.
    """
    folder = tmp_path_factory.mktemp("photos")
    rows = ["path,label,half"]
    for species in (*SPECIES[:4], *SPECIES[24:28]):
        for number in range(5):
            rows.append(f"{species.class_id}-{number}.png,{species.name},{species.split}")
            draw(random_bird(species, "own", number)).save(folder / f"{species.class_id}-{number}.png")
    (folder / "birds.csv").write_text("\n".join(rows))
    (folder / "aliases.csv").write_text(f"name,alias\n{SPECIES[0].name},gorge bird\n")
    return folder


def test_two_data_sets_are_trained_on_and_scored_as_one(clone, photos):
    values = ("dataset=[fieldguide,folder]", "noun=bird", "data.test_share=0.4")
    values += (f"data.path={photos}", "data.labels=birds.csv", "data.aliases=aliases.csv")
    said = call(clone, "dvc", "exp", "run", *(part for value in values for part in ("-S", value)))
    assert "fieldguide: 48 classes" in said and "folder: 8 classes" in said
    classes = tables.read(tables.CLASSES, clone / "data" / "classes.parquet")
    assert dict(classes["dataset"].value_counts().rows()) == {"fieldguide": 48, "folder": 8}
    images = tables.read(tables.IMAGES, clone / "data" / "images.parquet")
    found = predictions(clone)
    assert set(found.filter(split="test")["image_id"]) == set(images.filter(split="test")["image_id"])
    assert set(tables.read(tables.HARD, clone / "data" / "hard.parquet")["dataset"]) == {"fieldguide", "folder"}
    metrics = json.loads((clone / "reports" / "metrics.json").read_text())["trained"]
    own = metrics["datasets"]
    assert metrics["two_step"]["base"] == pytest.approx(
        (own["folder"]["two_step"]["base"] + own["fieldguide"]["two_step"]["base"]) / 2, abs=1e-4
    )
    assert "folder" in call(clone, sys.executable, "-m", "pipeline", "summary")
    call(clone, "git", "checkout", "-q", ".")
    call(clone, "dvc", "checkout", "-q")


def test_few_shots_train_on_all_classes_and_have_no_novel_half(clone):
    call(clone, "dvc", "exp", "run", "-S", "data.shots=2")
    images = tables.read(tables.IMAGES, clone / "data" / "images.parquet")
    assert images.filter(split="train").group_by("class_id").len()["len"].to_list() == [2] * 48
    samples = tables.read(tables.SAMPLES, clone / "data" / "samples.parquet")
    assert samples["image_id"].n_unique() == 96
    metrics = json.loads((clone / "reports" / "metrics.json").read_text())
    assert metrics["trained"]["two_step"]["novel"] is None and metrics["trained"]["two_step"]["n_base"] == 48
    assert "classes that were all trained on" in (clone / "reports" / "index.html").read_text()
    assert "–" in call(clone, sys.executable, "-m", "pipeline", "summary")
    call(clone, "git", "checkout", "-q", ".")
    call(clone, "dvc", "checkout", "-q")


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_test_image_among_the_training_images_stops_training_and_evaluation(clone, tmp_path, stage):
    images = tables.read(tables.IMAGES, clone / "data" / "images.parquet")
    test = images.filter(split="test").row(0, named=True)
    train = images.filter(split="train")["image_id"][0]
    same = pl.col("image_id") == train
    columns = ("content", "perceptual_hash", "image")
    images = images.with_columns(pl.when(same).then(pl.lit(test[c])).otherwise(c).alias(c) for c in columns)
    tables.write(tables.IMAGES, images, tmp_path / "images.parquet")
    command = (sys.executable, "-m", f"pipeline.{stage}", "--images", str(tmp_path / "images.parquet"))
    said = call(clone, *command, fails=True)
    assert "1 pairs of the same picture on both sides" in said and train in said and test["image_id"] in said
    assert said.count("\n") == 1, said
