"""classify: a user's own pictures, for people and for scripts, from the command line and on a page."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from support.project import ROOT
from support.scripted import Scripted, said
from support.terminal import in_terminal
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands import classify as command
from pipeline.commands import photo_page
from pipeline.commands.photo_classifier import PhotoClassifier, PhotoParams, calibration, class_rows
from pipeline.core import tables
from pipeline.core.engine import Completion
from pipeline.core.params import UserError, load_params
from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.species import SPECIES

NAMES = class_rows([("red wren", ["Troglodytes ruber"]), ("blue wren", []), ("grey owl", [])], "bird")


def picture(colour: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), (colour, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def scripted(draws, choice=None, calibrated=None):
    """A classifier whose model draws these texts for every picture, and answers the choice with `choice`."""

    class Model(Scripted):
        def draw(self, requests, sampler):
            ids = [request.image_id for request in requests]
            self.draws, self.choices = dict.fromkeys(ids, draws), dict.fromkeys(ids, choice)
            yield from super().draw(requests, sampler)

    params = replace(load_params(PhotoParams, ROOT / "params.yaml"), num_samples=4)
    return PhotoClassifier(Model({}, {}), NAMES, params, calibrated)


RED, BLUE = said("red wren"), said("Blue Wren")


def letter_of(name):
    """A choice of the option of this name, whatever its letter."""
    return lambda question: said(next(line[0] for line in question.splitlines() if line.endswith(name)))


def test_both_steps_are_in_the_answer():
    (one,) = scripted([RED, BLUE, BLUE, said("a stone")], letter_of("red wren")).classify([("a.png", picture())], 999)
    assert (one.answer, one.vote, one.status, one.draws) == (
        "red wren",
        "blue wren",
        "ok",
        {"blue wren": 2, "red wren": 1},
    )
    assert {option["name"]: option["votes"] for option in one.options} == {"red wren": 1, "blue wren": 2}
    chosen = next(option for option in one.options if option["letter"] == one.letter)
    assert chosen["name"] == "red wren" and one.reasoning == said(one.letter)


def test_where_all_draws_agree_there_is_no_second_question():
    (one,) = scripted([RED, RED, RED, said("Troglodytes ruber")]).classify([("a.png", picture())], 999)
    assert (one.answer, one.letter, one.reasoning, one.confidence) == ("red wren", None, None, 1.0)
    assert one.summary() == "red wren (100%, not calibrated)"


def test_confidence_is_that_of_the_letter_as_it_was_calibrated():
    done = Completion("", 0, said("A"), 3, True, probability=0.99)
    (one,) = scripted([RED, BLUE] * 2, done, lambda sure: sure / 2).classify([("a.png", picture())], 999)
    assert (one.confidence, one.calibrated) == (0.495, True) and one.summary().endswith(" (50%)")


def test_pictures_without_an_answer_say_why():
    answers = scripted([said("a stone")] * 4).classify([("a.png", picture()), ("b.png", b"nothing")], 999)
    assert [one.summary() for one in answers] == [
        "no answer (no draw names a class)",
        "no answer (picture cannot be read: of no known format)",
    ]
    (one,) = scripted([RED, BLUE] * 2, said("Z")).classify([("a.png", picture())], 999)
    assert one.summary() == "no answer (off list)" and one.confidence is None and len(one.options) == 2


def test_the_order_is_kept_and_the_same_picture_may_come_twice():
    pictures = [("b", picture(2)), ("a", picture(1)), ("c", picture(2)), ("d", b"")]
    answers = list(scripted([RED] * 4).classify(pictures, 999))
    assert [one.file for one in answers] == ["b", "a", "c", "d"]
    assert [one.answer for one in answers] == ["red wren"] * 3 + [None]


def test_answers_come_block_by_block_and_files_are_read_when_they_are_due(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.commands.photo_classifier.BLOCK", 2)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    files[0].write_bytes(picture(1))
    answers = scripted([RED] * 4).classify([(file.name, file) for file in files], 999)
    assert next(answers).answer == "red wren"
    missing = next(answers)
    assert missing.answer is None and "No such file" in missing.summary()
    files[2].write_bytes(picture(3))
    assert next(answers).answer == "red wren"


def test_large_pictures_are_scaled_as_those_of_training():
    log = []
    classifier = scripted([RED] * 4)
    inner = classifier.engine.draw
    classifier.engine.draw = lambda requests, sampler: (log.extend(requests), inner(requests, sampler))[1]
    list(classifier.classify([("a", picture())], 60))
    assert Image.open(io.BytesIO(log[0].image)).size == (8, 7)


def test_one_class_is_no_choice():
    with pytest.raises(UserError, match="has 1 name, but needs at least two"):
        PhotoClassifier(None, NAMES.head(1), None, None)


def test_calibration_is_fitted_on_validation_images(tmp_path):
    from support.scores import ROWS, frame

    options = ROWS[0]["options"]
    rows = [
        ROWS[0]
        | {"image_id": f"{n}", "split": "val", "options": options, "choice_text": "t", "choice_probability": p}
        | {"two_step": ROWS[0]["class_id"] if n % 4 < right else None}
        for n, (p, right) in enumerate([(0.6, 2)] * 40 + [(0.9, 4)] * 40)
    ]
    file = tmp_path / "trained.parquet"
    assert calibration(file) is None
    tables.write(tables.PREDICTIONS, frame(*[row for row in rows if row["two_step"] is not None]), file)
    assert calibration(file)(0.6) == 1.0
    wrong = [row | {"two_step": 1 - row["class_id"]} if row["two_step"] is None else row for row in rows]
    tables.write(tables.PREDICTIONS, frame(*wrong), file)
    fit = calibration(file)
    assert (fit(0.6), fit(0.9), fit(0.75)) == (0.5, 1.0, 0.75)
    tables.write(tables.PREDICTIONS, frame(*[row | {"split": "test"} for row in wrong]), file)
    assert calibration(file) is None, "test images decide nothing"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with settings, the classes of the field guide, and four pictures of birds."""
    settings = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("num_samples: 20", "num_samples: 6", 1)
    (tmp_path / "params.yaml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    birds = tmp_path / "birds" / "inside"
    birds.mkdir(parents=True)
    for number in range(4):
        draw(random_bird(SPECIES[number * 9], "classify", number)).save(birds / f"{number}.png")
    return tmp_path


def names_file(folder: Path) -> Path:
    (folder / "names.txt").write_text(
        "\ufeff" + "\n\n".join(species.name for species in SPECIES) + "\n", encoding="utf-8"
    )
    return folder / "names.txt"


def invoke(*arguments, **others):
    return CliRunner().invoke(app, ["classify", *map(str, arguments)], **others)


@pytest.mark.slow
def test_a_folder_for_scripts(project, base_model):
    done = invoke("birds", "--model", base_model, "--classes", names_file(project), "--noun", "bird", "--json")
    assert done.exit_code == 0, done.output
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["file"] for one in answers] == [f"birds/inside/{number}.png" for number in range(4)]
    for one in answers:
        assert one["answer"] in {species.name for species in SPECIES} and sum(one["draws"].values()) <= 6
        assert one["answer"].split()[-1] in {name.split()[-1] for name in one["draws"]}
        assert not one["calibrated"] and 0 < one["confidence"] <= 1


@pytest.mark.slow
def test_people_read_bars_and_stdin_is_a_picture(project, base_model):
    bird = (project / "birds/inside/1.png").read_bytes()
    done = invoke("-", "--model", base_model, "--classes", names_file(project), "--noun", "bird", input=bird)
    assert done.exit_code == 0, done.output
    head, *rest = done.stdout.splitlines()
    assert head.startswith("-: ") and head.endswith("not calibrated)")
    assert any("█" in line for line in rest)


@pytest.mark.slow
def test_exit_codes(project, base_model):
    names = names_file(project)
    (project / "bad.jpg").write_bytes(b"no picture")
    done = invoke("birds/inside/0.png", "bad.jpg", "--model", base_model, "--classes", names, "--noun", "bird")
    assert done.exit_code == 3
    assert "bad.jpg: no answer (picture cannot be read" in done.stdout
    assert "2 pictures, 1 with an answer" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no picture given"),
        (("nowhere.jpg",), "nowhere.jpg: no such file or folder"),
        (("empty",), "no pictures in this folder"),
        (("birds",), "data/classes.parquet: no such file; give the classes with --classes"),
        (("birds", "--classes", "none.txt"), "none.txt: cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(project, arguments, message):
    (project / "empty").mkdir()
    done = invoke(*arguments)
    assert isinstance(done.exception, UserError) and message in str(done.exception)


def test_the_classes_of_the_run(project):
    two = pl.concat([NAMES.with_columns(dataset=pl.lit(name)) for name in ("birds", "owls")])
    tables.write(tables.CLASSES, two, Path("data/classes.parquet"))
    with pytest.raises(UserError, match="choose one with --dataset: birds, owls"):
        command.load_classes(None, "", "")
    with pytest.raises(UserError, match="choose one of birds, owls"):
        command.load_classes(None, "cars", "")
    rows = command.load_classes(None, "owls", "")
    assert rows["name"].to_list() == NAMES["name"].to_list() and set(rows["noun"]) == {"bird"}
    assert rows["aliases"].to_list()[0] == ["Troglodytes ruber"] and rows["subset"].n_unique() == 1


def test_calibration_is_that_of_the_run_however_its_model_is_named(project):
    trained = Path("data/predictions/trained.parquet")
    for name in ("models/policy", "models/policy/", "./models/policy", "birds/../models/policy"):
        assert command.run_predictions(name) == trained
    assert command.run_predictions(str(project / "models" / "policy")) == trained
    assert command.run_predictions("./models/fieldguide/") == Path("data/predictions/base.parquet")
    assert command.run_predictions("models/other") is None and command.run_predictions("policy") is None


@pytest.mark.slow
def test_with_other_classes_nothing_is_calibrated(project, base_model, monkeypatch):
    monkeypatch.setattr(command, "calibration", lambda table: lambda confidence: 0.125)
    text = (
        Path("params.yaml").read_text(encoding="utf-8").replace("model: models/fieldguide", f"model: {base_model}", 1)
    )
    Path("params.yaml").write_text(text, encoding="utf-8")
    names = names_file(project)
    run = class_rows([(species.name, ()) for species in SPECIES], "bird")
    tables.write(tables.CLASSES, run, Path("data/classes.parquet"))
    arguments = ("birds/inside/0.png", "--model", base_model, "--json")
    own, other = (invoke(*arguments, *more) for more in ((), ("--classes", names, "--noun", "bird")))
    assert json.loads(own.stdout)["calibrated"] and json.loads(own.stdout)["confidence"] == 0.125
    assert not json.loads(other.stdout)["calibrated"] and json.loads(other.stdout)["confidence"] != 0.125


@pytest.mark.parametrize(
    ("text", "expected", "reason"),
    [
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m", "colours, and worse: titles, links, keys sent back"),
        ("a\x9b2Jb", "a\\u009b2Jb", "the same in one character of C1"),
        ("wren\b\b\b\bowl", "wren\\u0008\\u0008\\u0008\\u0008owl", "overwrites what was read before"),
        ("a\x00b\x7f", "a\\u0000b\\u007f", "no text"),
        ("bad\udcff.jpg", "bad\\udcff.jpg", "a file name that is no UTF-8 cannot be printed"),
        ("ß漢🐦 “é”", "ß漢🐦 “é”", "text stays as it is"),
    ],
)
def test_a_terminal_interprets_nothing_of_a_model(text, expected, reason):
    (one,) = scripted([RED, BLUE] * 2, letter_of("red wren")).classify([("a.png", picture())], 999)
    hostile = replace(one, file=f"{text}.png", reasoning=f"<think>{text}</think>")
    lines = command.lines(hostile)
    assert lines[0].startswith(f"{expected}.png: ") and lines[-1] == f"  <think>{expected}</think>", reason


def test_the_answer_is_marked_with_and_without_a_second_question():
    (two_steps,) = scripted([RED, BLUE, BLUE, BLUE], letter_of("red wren")).classify([("a.png", picture())], 999)
    (one_step,) = scripted([RED] * 4).classify([("a.png", picture())], 999)
    for one in (two_steps, one_step):
        (line,) = [line for line in command.lines(one) if line.endswith(" ←")]
        assert line.endswith("red wren ←")
    assert one_step.letter is None


def test_every_picture_counts_alike_in_the_bar(monkeypatch):
    """Those that cannot be opened, that are there twice, and those of a later block too."""
    monkeypatch.setattr("pipeline.commands.photo_classifier.BLOCK", 2)
    log = []
    pictures = [("a", picture(1)), ("b", picture(1)), ("c", b"none"), ("d", picture(2)), ("e", picture(3))]
    classifier = scripted([RED, BLUE] * 2, "<answer>A</answer>")
    counts = [len(log) for _ in classifier.classify(pictures, 999, lambda: log.append(1))]
    assert classifier.answers == 6 and counts == [12, 12, 24, 24, 30] and len(log) == 30


BARS = """
from dataclasses import dataclass
from pipeline.commands.photo_classifier import PhotoAnswer
from pipeline.commands.classify import print_answers
class Model:
    answers = 3
    def classify(self, pictures, max_pixels, advance):
        for number in pictures:
            for _ in range(3):
                advance()
            yield PhotoAnswer(f"{number}.png", "wren", "ok", None, 0.5, True, "wren", "A", None, [], {})
print(print_answers(Model(), range(300), 9, False), "without an answer")
"""


@pytest.mark.slow
def test_one_bar_for_all_pictures_and_nothing_of_it_is_left():
    output = in_terminal(BARS)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    assert plain.count("900/900") >= 1 and "/768" not in plain and "0 draws/s" not in plain
    left = [line for line in plain.replace("\r", "\n").split("\n") if line.strip()]
    assert left[-1] == "0 without an answer" and sum(line.startswith("299.png: wren") for line in left) == 1


@pytest.mark.slow
def test_answers_go_to_a_file_though_the_bar_is_in_a_terminal(tmp_path):
    code = f"import sys\nsys.stdout = open({str(tmp_path / 'out')!r}, 'w')\n{BARS}"
    assert "299.png" not in in_terminal(code)
    assert (tmp_path / "out").read_text(encoding="utf-8").splitlines()[-2:] == [
        "299.png: wren (50%)",
        "0 without an answer",
    ]


@pytest.mark.slow
def test_a_mistake_is_one_line_and_exit_code_1(project):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "classify", "nowhere.jpg"],
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: nowhere.jpg: no such file") and len(done.stderr.splitlines()) == 1


def require_closed(url: str, folder: Path) -> None:
    """The page gives no file away, takes none that is too large, and serves no other host's pages."""
    import httpx

    (folder / "secret.txt").write_text("SECRET", encoding="utf-8")
    client = httpx.Client(base_url=url, trust_env=False, timeout=30)
    places = (str(folder / "secret.txt"), "/etc/passwd", "../../../../etc/passwd", "http://127.0.0.1:9/x")
    for path in [f"{route}{place}" for route in ("/file=", "/gradio_api/file=") for place in places]:
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code in (403, 404) and "SECRET" not in answer.text and "root:" not in answer.text
    for path in ("/etc/passwd", "http://127.0.0.1:9/x", None, ["x"]):
        data = {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}
        event = client.post("/gradio_api/call/look", json={"data": [data]}).json()["event_id"]
        assert "event: error" in client.get(f"/gradio_api/call/look/{event}").text
    assert client.get("/config", headers={"Host": "evil.example"}).status_code == 400
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/gradio_api/call/look", headers=preflight).headers
    for size, taken in ((2**20, True), (photo_page.LARGEST_UPLOAD + 2**20, False)):
        answer = client.post("/gradio_api/upload", files={"files": ("a.png", bytes(size))})
        assert (answer.status_code == 200) is taken, answer.text[:200]
    assert client.get("/").status_code == 200


@pytest.mark.slow
def test_the_page_takes_a_picture(tmp_path):
    """A real server, asked by its own client: what is shown is plain text."""
    gradio = pytest.importorskip("gradio")
    from gradio_client import Client, handle_file

    from pipeline.commands.photo_page import serve_page

    hostile = "<think><img src=x onerror=alert(1)></think><answer>A</answer>"
    interface = serve_page(scripted([RED, BLUE] * 2, hostile), 999, 0, block=False)
    try:
        assert interface.local_url.startswith("http://127.0.0.1:")
        (tmp_path / "a.png").write_bytes(picture())
        (tmp_path / "b.png").write_bytes(picture(9))
        client = Client(interface.local_url, verbose=False)
        answer, votes, reasoning = client.predict(handle_file(tmp_path / "a.png"), api_name="/look")
        assert answer in ("red wren", "blue wren") and reasoning == hostile
        assert {one["label"]: one["confidence"] for one in votes["confidences"]} == {"red wren": 0.5, "blue wren": 0.5}
        parts = [type(part) for part in interface.output_components]
        assert parts == [gradio.Textbox, gradio.Label, gradio.Textbox], "nothing that renders HTML"
        require_closed(interface.local_url.rstrip("/"), tmp_path)
    finally:
        interface.close()


def test_without_gradio_it_says_what_to_install(monkeypatch):

    monkeypatch.setattr(photo_page, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs gradio.*pip install --no-deps -r requirements-dev.lock"):
        photo_page.serve_page(None, 0, 0)
