"""The report: right numbers, honest examples, nothing from outside, no text of a model taken for HTML."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path

import polars as pl
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from pipeline import report, tables
from pipeline.charts import line_chart, read_log, running_mean, ticks
from pipeline.evaluate import evaluate
from pipeline.params import UserError
from pipeline.report import by_image, data_uri, examples

ATTACK = '<script>alert(1)</script><img src="https://example.com/x.png" onerror="alert(2)">'
NAMES = ["red <b>finch</b>", "blue finch", 'the "green" finch', "grey finch"]
OTHERS = {"aliases": [], "noun": "bird"}
HEADER = (
    "step,answer_reward,format_reward,share_of_groups_without_variance,entropy,kl,completion_length,"
    "gradient_norm,learning_rate,validation_two_step\n"
)
LOG = HEADER + "1,0.4,1,0.25,0.9,,30,1,1e-5,\n2,0.6,1,0.5,0.8,0.01,31,1,1e-5,0.5\n"


def png(colour: int, size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def row(model: str, number: int, right: bool, **changes):
    """A prediction for image `number`, class `number` modulo 4; classes 0 and 1 are base, 2 and 3 novel."""
    truth, other = number % 4, (number + 1) % 4
    options = [
        {"class_id": c, "name": NAMES[c], "votes": votes, "rank": rank, "source": "draws"}
        for c, votes, rank in ((truth, 3, 1), (other, 1, 2))
    ]
    return {
        "model": model,
        "image_id": f"{number:016x}",
        "split": "test",
        "dataset": "tiny",
        "class_id": truth,
        "half": "base" if truth < 2 else "novel",
        "greedy_text": "",
        "greedy_status": "ok",
        "draws": [truth, truth, other, truth, None],
        "draw_texts": [""] * 5,
        "turned": [],
        "options": options,
        "choice_text": f"<think> {model} looks </think> <answer> {'A' if right else 'B'} </answer>",
        "letter": "A" if right else "B",
        "status": "ok",
        "one_step": other,
        "vote": truth,
        "two_step": truth if right else other,
        **changes,
    }


def predictions(rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder with all that the stage reads: 40 images, 12 right before training, 24 after."""
    monkeypatch.chdir(tmp_path)
    base = [row("base", n, right=n < 12) for n in range(40)]
    trained = [row("trained", n, right=4 <= n < 28) for n in range(40)]
    base[38] = row("base", 38, False, letter=None, status="truncated", two_step=None)
    save(base, trained)
    classes = [
        {"dataset": "tiny", "class_id": c, "name": n, "split": "base" if c < 2 else "novel"} | OTHERS
        for c, n in enumerate(NAMES)
    ]
    images = [
        {"image_id": f"{n:016x}", "dataset": "tiny", "class_id": n % 4, "split": "test", "image": png(n)}
        | {"width": 8, "height": 6, "file": f"{n}.png", "status": "ok"}
        for n in range(40)
    ]
    tables.write(tables.CLASSES, pl.DataFrame(classes, schema=tables.CLASSES.schema), Path("data/classes.parquet"))
    tables.write(tables.IMAGES, pl.DataFrame(images, schema=tables.IMAGES.schema), Path("data/images.parquet"))
    Path("data/training.csv").write_text(LOG)
    Path("params.yaml").write_text("dataset: tiny\nmodel: some/model\nnum_samples: 5\ntopk: 3\nseed: 7\n")
    return tmp_path


def save(base: list[dict], trained: list[dict]) -> None:
    """Both tables of predictions, and the metrics that evaluate makes of them."""
    for name, rows in (("base", base), ("trained", trained)):
        tables.write(tables.PREDICTIONS, predictions(rows), Path(f"data/predictions/{name}.parquet"))
    Path("reports").mkdir(exist_ok=True)
    Path("reports/metrics.json").write_text(json.dumps(evaluate(predictions(base + trained)), sort_keys=True))


def invoke(*arguments: str):
    app = typer.Typer()
    app.command()(report.main)
    return CliRunner().invoke(app, list(arguments))


def made(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.exception
    return Path("reports/index.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every tag and attribute of a page, and the text between."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def test_numbers_on_the_page_are_those_of_the_metrics(run_folder):
    words = Elements(made()).words
    # 12 of 40 before and 24 of 40 after, half of them in each half.
    assert "Training gained 30.0 points" in words
    assert "From 30.0 % to 60.0 %" in words
    assert "Two-step 30.0 30.0 30.0 20 + 20" in words
    assert "Two-step 60.0 60.0 60.0 20 + 20" in words
    assert "Two-step +30.0 +30.0 +30.0" in words
    assert "Base model, pass@5 100.0 100.0 100.0" in words
    assert "Trained model 60.0 50.0 40 of 40" in words, "letter choice, chance with two options, n"
    assert "base model 39 ok, 1 truncated" in words
    for shown in ("tiny", "some/model", "Seed 7", "Draws per image, K 5", "Options at most, k 3"):
        assert shown in words


def test_a_loss_is_called_a_loss(run_folder):
    save([row("base", n, n < 32) for n in range(40)], [row("trained", n, n < 20) for n in range(40)])
    words = Elements(made()).words
    assert "Training lost 30.0 points" in words
    assert "Two-step −30.0 −30.0 −30.0" in words


def test_what_a_model_wrote_is_text(run_folder):
    save(*([row(m, n, n % 3 == 0, choice_text=ATTACK) for n in range(40)] for m in ("base", "trained")))
    page = made()
    elements = Elements(page)
    assert "<script" not in page.lower()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert elements.text.count(ATTACK) == 24, "the reader sees it as it is, from both models"
    assert "<b>finch" not in page and "red <b>finch</b>" in elements.text
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]


def test_nothing_is_fetched(run_folder):
    elements = Elements(made())
    addresses = [
        (tag, attributes[name])
        for tag, attributes in elements.tags
        for name in ("src", "href", "srcset", "data", "action", "xlink:href")
        if name in attributes
    ]
    assert {value for tag, value in addresses if tag == "a"} == {"https://arxiv.org/abs/2511.18305"}
    pictures = [value for tag, value in addresses if tag != "a"]
    assert len(pictures) == 12 and all(value.startswith("data:image/png;base64,") for value in pictures)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in elements.tags}
    assert not re.search(r"url\(|@import", Path("reports/index.html").read_text())


def test_every_picture_and_chart_has_words(run_folder):
    tags = Elements(made()).tags
    alternatives = [attributes["alt"] for tag, attributes in tags if tag == "img"]
    assert len(alternatives) == 12 and all(any(name in words for name in NAMES) for words in alternatives)
    charts = [attributes["aria-label"] for tag, attributes in tags if tag == "svg"]
    assert [label.split(",")[0] for label in charts] == [
        "Answer reward",
        "Groups without variance",
        "Entropy",
        "Completion length",
        "KL from the base model",
        "Validation",
    ]
    assert "0.4 in step 1, 0.6 in step 2" in charts[0]


def test_same_tables_same_bytes(run_folder):
    first = made()
    # The order of the files is the caller's, and no part of what they say.
    paths = [f"data/predictions/{name}.parquet" for name in ("trained", "base")]
    assert made("--predictions", paths[0], "--predictions", paths[1]) == first
    assert Path("reports/training.csv").read_text() == LOG


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("data/predictions/trained.parquet", "dvc repro predict"),
        ("data/images.parquet", "dvc repro download"),
        ("data/classes.parquet", "dvc repro download"),
        ("data/training.csv", "dvc repro train"),
        ("reports/metrics.json", "dvc repro evaluate"),
    ],
)
def test_missing_file_is_one_sentence_and_the_old_page_stays(run_folder, file, command):
    before = made()
    Path(file).unlink()
    result = invoke()
    assert isinstance(result.exception, UserError)
    sentence = str(result.exception)
    assert sentence.startswith(f"{file}: no such file, wanted ") and command in sentence and "\n" not in sentence
    assert Path("reports/index.html").read_text() == before


def test_nothing_half_written_is_left(run_folder):
    Path("reports/index.html").mkdir()
    assert isinstance(invoke().exception, OSError)
    assert {path.name for path in Path("reports").iterdir()} == {"index.html", "metrics.json"}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("reports/metrics.json", "{", "found no metrics of the base model as JSON"),
        ("reports/metrics.json", "[]", "found no metrics of the base model as JSON"),
        ("reports/metrics.json", '{"trained": {}}', "found no metrics of the base model as JSON"),
        ("reports/metrics.json", '{"base": {"pass@1": {}}}', "found no base.pass@K, base.one_step"),
        ("data/training.csv", "", "found no column step, answer_reward"),
        (
            "data/training.csv",
            "step,answer_reward\n1,2\n",
            "found no column share_of_groups_without_variance",
        ),
        (
            "data/training.csv",
            LOG + "3,oops,1,0,0,0,0,0,0\n",
            "line 4 has step '3' with answer_reward 'oops'",
        ),
        ("data/training.csv", LOG + ",0.5,1,0,0,0,0,0,0\n", "line 4 has step ''"),
    ],
)
def test_damaged_file_is_named(run_folder, file, content, words):
    Path(file).write_text(content)
    error = invoke().exception
    assert isinstance(error, UserError)
    assert str(error).startswith(f"{file}: ") and words in str(error)
    assert "`dvc repro " in str(error)


def test_tables_of_different_runs_are_refused(run_folder):
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    tables.write(tables.IMAGES, images.head(3), Path("data/images.parquet"))
    error = invoke().exception
    assert isinstance(error, UserError) and "wanted all of one run" in str(error)


def test_base_model_alone(run_folder):
    rows = [row("base", n, n < 12) for n in range(40)]
    Path("reports/metrics.json").write_text(json.dumps(evaluate(predictions(rows))))
    words = Elements(made("--predictions", "data/predictions/base.parquet")).words
    assert "Two‑step accuracy of the base model: 30.0 %" in words
    assert "Trained model" not in words and "What training gained" not in words


def test_no_question_and_no_letter_are_told(run_folder):
    alone = {"choice_text": None, "letter": "A"}
    rows = [row("base", n, False, choice_text="hm", letter=None, status="no_answer", two_step=None) for n in range(4)]
    after = [row("trained", n, True, options=row("trained", n, True)["options"][:1], **alone) for n in range(3)]
    nothing = {"options": [], "draws": [None] * 5, "vote": None, "two_step": None, "status": "no_answer"}
    save(rows, [*after, row("trained", 3, False, **{**alone, **nothing, "letter": None})])
    words = Elements(made()).words
    assert words.count("no letter: no letter could be read") == 4
    assert words.count("No question was asked: the draws named one class only.") == 3
    assert words.count("No question was asked: the draws named no class.") == 1
    assert words.count("1 of 5 draws named a class that is no option.") == 3
    assert "5 of 5 named no class." in words and "Vote: no class ✗ wrong" in words


def outcomes(pairs: list[tuple[bool, bool]], **changes):
    return [[row("base", n, b, **changes), row("trained", n, t, **changes)] for n, (b, t) in enumerate(pairs)]


def test_examples_hold_every_kind_that_there_is():
    pairs = [(False, True)] * 60 + [(True, False)] * 3 + [(True, True)] * 30 + [(False, False)] * 7
    answers = outcomes(pairs)
    answers[0] = [{**answer, "vote": None} for answer in answers[0]]
    picked = examples(answers)
    titles = [rule.title for rule, _ in picked]
    assert len(titles) == 12
    assert len(list(groupby(titles))) == len(set(titles)), "each kind stands together"
    assert titles.count("Training put it right") >= 4
    assert titles.count("Training spoiled it") >= 2, "rare, and shown all the same"
    assert titles.count("Right throughout") >= 2
    assert "Wrong, though it was among the options" in titles
    assert "The vote was right, the choice wrong" in titles
    ids = [answer[0]["image_id"] for _, answer in picked]
    assert len(set(ids)) == 12
    halves = [answer[0]["half"] for _, answer in picked]
    assert halves.count("base") == halves.count("novel") == 6


def test_examples_prefer_a_question_that_was_asked():
    answers = outcomes([(False, True)] * 40)
    for pair in answers[:36]:
        pair[0]["choice_text"] = None
    asked = {pair[0]["image_id"] for pair in answers[36:]}
    first = {answer[0]["image_id"] for _, answer in examples(answers)}
    assert asked <= first


def test_examples_prefer_classes_not_yet_shown():
    numbers = [*range(0, 80, 4), 81]  # class 0 twenty times, class 1 once and last, both of the base half
    answers = [[row("base", n, False), row("trained", n, True)] for n in numbers]
    assert 1 in {answer[0]["class_id"] for _, answer in examples(answers)}


def test_truth_that_is_no_option_has_its_own_kind():
    options = [{"class_id": 9, "name": "x", "votes": 5, "rank": 1, "source": "draws"}]
    answers = outcomes([(False, False)], options=options, vote=9, two_step=9)
    assert [rule.title for rule, _ in examples(answers)] == ["Wrong, it was not among the options"]


def test_fewer_images_than_places():
    assert len(examples(outcomes([(True, True)] * 5))) == 5


def test_every_outcome_fits_a_rule():
    for before in (True, False):
        for after in (True, False):
            assert len(examples(outcomes([(before, after)]))) == 1


def test_large_pictures_shrink_and_small_ones_stay():
    assert base64.b64decode(data_uri(png(1)).split(",")[1]) == png(1)
    uri = data_uri(png(200, (1000, 500)))
    assert uri.startswith("data:image/jpeg;base64,")
    small = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert small.size == (480, 240) and small.getpixel((9, 9))[0] == pytest.approx(200, abs=3)


@pytest.mark.parametrize(
    ("low", "high", "wanted", "reason"),
    [
        (0, 1, [0, 0.5, 1.0], "a share, whole"),
        (0.43, 0.58, [0.4, 0.45, 0.5, 0.55, 0.6], "both ends covered"),
        (1, 200, [0, 50, 100, 150, 200], "steps"),
        (-0.3, 0.2, [-0.4, -0.2, 0, 0.2], "through zero"),
        (30, 30, [26, 28, 30, 32, 34], "all the same: still an axis"),
        (0, 0, [-0.5, 0, 0.5], "all zero"),
    ],
)
def test_ticks(low, high, wanted, reason):
    assert ticks(low, high) == pytest.approx(wanted), reason


def test_running_mean_is_over_full_windows_at_their_middle():
    assert running_mean([(1, 0.0), (2, 3.0), (3, 6.0), (5, 0.0)], 3) == [(2.0, 3.0), (10 / 3, 3.0)]


def test_lines_run_from_corner_to_corner():
    svg = line_chart("Reward", "share", [(1, 0.0), (2, 0.5), (3, 1.0)]).svg
    assert '<path class="raw" d="M42.0 166.0L175.0 96.0L308.0 26.0h0"/>' in svg


def test_chart_of_one_point_and_escaped_title():
    chart = line_chart("a < b", 'in "units"', [(5, 0.5)])
    assert "0.5 in step 5" in chart.summary
    assert 'aria-label="a &lt; b, in &#34;units&#34;' in chart.svg
    assert "nan" not in chart.svg


def test_empty_cells_are_left_out(tmp_path):
    log = tmp_path / "training.csv"
    log.write_text(HEADER + "1,0.4,1,,nan,,30,1,1\n2,,1,,nan,,31,1,1\n")
    assert read_log(log) == {"answer_reward": [(1, 0.4)], "completion_length": [(1, 30), (2, 31)]}


def test_images_come_sorted_and_answered_by_every_model():
    rows = [row("trained", 2, True), row("base", 2, True), row("base", 3, True), row("trained", 1, True)]
    found = by_image(predictions([*rows, row("base", 1, False)]), ["base", "trained"])
    assert [[(r["model"], r["image_id"][-1]) for r in pair] for pair in found] == [
        [("base", "1"), ("trained", "1")],
        [("base", "2"), ("trained", "2")],
    ]
