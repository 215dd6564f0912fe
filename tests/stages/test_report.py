"""The report: right numbers, every image, nothing from outside, no text of a model taken for HTML."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.evaluation.results import evaluate, results
from pipeline.reporting.caveats import ONE_SEED, cautions
from pipeline.reporting.charts import Series, classes_chart, curves_chart, line_chart, read_log, running_mean, ticks
from pipeline.reporting.gallery import KINDS, LARGEST_SIDE, Gallery, by_image, data_uri, embedded, kind
from pipeline.stages import report

ATTACK = '<script>alert(1)</script><img src="https://example.com/x.png" onerror="alert(2)"><!--'
NAMES = ["red <b>finch</b>", "blue finch", 'the "green" finch', "grey finch"]
OTHERS = {"aliases": [], "noun": "bird"}
CLASSES = pl.DataFrame(
    [
        {"dataset": "tiny", "class_id": c, "name": n, "split": "base" if c < 2 else "novel"} | OTHERS
        for c, n in enumerate(NAMES)
    ],
    schema=tables.CLASSES.schema,
)
HEADER = (
    "step,answer_reward,format_reward,share_of_groups_without_variance,entropy,kl,completion_length,"
    "gradient_norm,learning_rate,validation_two_step\n"
)
PARAMS = """
dataset: tiny
model: some/model
num_samples: 5
topk: 3
seed: 7
train: {method: divek}
options: {strategy: topk}
data: {protocol: official, shots: 0, limit_per_class: 0}
"""
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
        "subset": "base" if truth < 2 else "novel",
        "greedy_text": "",
        "greedy_status": "ok",
        "draws": [truth, truth, other, truth, None],
        "draw_statuses": ["ok"] * 5,
        "draw_texts": [""] * 5,
        "draw_tokens": [4] * 5,
        "greedy_tokens": 4,
        "choice_tokens": 9,
        "rotated": [],
        "rotated_tokens": [],
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
    images = [
        {"image_id": f"{n:016x}", "dataset": "tiny", "class_id": n % 4, "split": "test", "image": png(n)}
        | {"width": 8, "height": 6, "file": f"{n}.png", "status": "ok"}
        for n in range(40)
    ]
    tables.write(tables.CLASSES, CLASSES, Path("data/classes.parquet"))
    tables.write(tables.IMAGES, pl.DataFrame(images, schema=tables.IMAGES.schema), Path("data/images.parquet"))
    Path("data/training.csv").write_text(LOG)
    Path("params.yaml").write_text(PARAMS)
    return tmp_path


def save(base: list[dict], trained: list[dict]) -> None:
    """Both tables of predictions, and what evaluate makes of them."""
    for name, rows in (("base", base), ("trained", trained)):
        tables.write(tables.PREDICTIONS, predictions(rows), Path(f"data/predictions/{name}.parquet"))
    scored(base + trained)


def scored(rows: list[dict]) -> None:
    Path("reports").mkdir(exist_ok=True)
    Path("reports/metrics.json").write_text(json.dumps(evaluate(predictions(rows)), sort_keys=True))
    for name, table in results(predictions(rows), CLASSES, 3).items():
        table.write_csv(f"reports/{name}.csv")


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
        self.scripts: list[tuple[tuple[str, dict[str, str | None]], str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append((self.tags[-1], data))
        else:
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
    assert "DiVE-k training gained 30.0 points" in words
    assert "From 30.00 % to 60.00 %" in words
    intervals = r" [\d.]+–[\d.]+"
    assert re.search(f"Two-step 30.0{intervals} 30.0{intervals} 30.0{intervals} Gated", words)
    assert re.search(f"Two-step 60.0{intervals} 60.0{intervals} 60.0{intervals} Gated", words)
    assert re.search(r"Training, two-step \+30.0 .* \+30.0 .* \+30.0 .* Training, one-step", words)
    assert "Before training 20 base + 20 novel images" in words
    assert re.search(f"pass@K\\) 100.0{intervals} 100.0", words)
    assert "After training 60.0 50.0 0.0 40 of 40" in words, "letter choice, chance with two options, flips, n"
    assert "before training 39 ok, 1 truncated" in words
    for shown in ("tiny", "some/model", "Seed 7", "Draws per image, K 5", "Options at most, k 3"):
        assert shown in words


def csvs() -> dict[str, pl.DataFrame]:
    return {name: report.read_csv(name, Path("reports")) for name in report.CSVS}


def test_ceilings_stand_by_themselves(run_folder):
    words = Elements(made()).words
    ways, ceilings = words.index("Ways to answer"), words.index("Ceilings: where")
    assert ways < words.index("Two-step, turned") < ceilings < words.index("Among the draws (pass@K)")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"method: divek": "method: sft"}, ["Supervised fine-tuning gained 30.0", "Training SFT: image to class name"]),
        ({"method: divek": "method: virft"}, ["ViRFT training gained 30.0", "Training ViRFT: open question, GRPO"]),
        (
            {"strategy: topk": "strategy: random"},
            ["Training on options of random base classes gained", "Options in training random base classes"],
        ),
        ({"method: divek": "method: none"}, ["No training was asked for: both models are the same", "Training none"]),
        ({"protocol: official": "protocol: coop"}, ["Parts of the data set protocol coop"]),
        ({"shots: 0": "shots: 4"}, ["Training images per class 4, all classes trained on"]),
        ({"class: 0": "class: 9"}, ["Images used at most 9 per class and part"]),
    ],
)
def test_the_first_screen_says_what_was_run(run_folder, settings, wanted):
    text = PARAMS
    for old, new in settings.items():
        text = text.replace(old, new)
    Path("params.yaml").write_text(text)
    words = Elements(made()).words
    for one in wanted:
        assert one in words
    assert ("One training with one seed" in words) is ("method: none" not in text)
    assert "DiVE-k training gained" not in words or ("method: divek" in text and "strategy: topk" in text)
    Path("params.yaml").write_text(PARAMS)
    words = Elements(made()).words
    assert "Training DiVE-k: multiple choice, GRPO" in words and not any(one in words for one in wanted)


def test_the_gain_has_its_interval_and_is_doubted_where_that_covers_nothing(run_folder):
    gain = pl.read_csv("reports/differences.csv").filter(
        first="base two_step", second="trained two_step", dataset="all", part="hm"
    )
    low, high = (report.points(gain[name][0]) for name in ("low", "high"))
    words = Elements(made()).words
    assert f"Its 95 % interval is {low} to {high} points." in words and "told from nothing" not in words
    save([row("base", n, n % 5 < 2) for n in range(40)], [row("trained", n, (n + n // 20) % 5 < 2) for n in range(40)])
    words = Elements(made()).words
    assert "DiVE-k training changed two‑step accuracy by" in words
    assert "points: it cannot be told from nothing." in words


@pytest.mark.parametrize(
    ("share", "digits", "wanted"), [(0.8885, 1, "88.9"), (0.6639, 1, "66.4"), (0.8885, 2, "88.85"), (1.0, 1, "100.0")]
)
def test_halves_are_rounded_up(share, digits, wanted):
    assert report.percent(share, digits) == wanted


@pytest.mark.parametrize(("share", "wanted"), [(0.2246, "+22.5"), (-0.3, "−30.0"), (0.0, "0.0"), (-0.0001, "0.0")])
def test_points_have_signs(share, wanted):
    assert report.points(share) == wanted


def two_sets(run_folder: Path) -> None:
    """The same run with two data sets that have classes of the same names, the second one worse."""
    Path("params.yaml").write_text(PARAMS.replace("dataset: tiny", "dataset: [tiny, other]"))
    tables.write(
        tables.CLASSES,
        pl.concat([CLASSES.with_columns(dataset=pl.lit(name)) for name in ("tiny", "other")]),
        Path("data/classes.parquet"),
    )
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    later = images.with_columns(dataset=pl.lit("other"), image_id=pl.concat_str(pl.lit("a"), pl.col("image_id")))
    tables.write(tables.IMAGES, pl.concat([images, later]), Path("data/images.parquet"))
    rows = []
    for model, tiny, other in (("base", 12, 8), ("trained", 24, 16)):
        own = [row(model, n, n < tiny) for n in range(40)]
        own += [row(model, n, n < other, dataset="other", image_id=f"a{n:016x}") for n in range(40)]
        rows.append(own)
        tables.write(tables.PREDICTIONS, predictions(own), Path(f"data/predictions/{model}.parquet"))
    both, classes = predictions(rows[0] + rows[1]), tables.read(tables.CLASSES, Path("data/classes.parquet"))
    Path("reports/metrics.json").write_text(json.dumps(evaluate(both), sort_keys=True))
    for name, table in results(both, classes, 3).items():
        table.write_csv(f"reports/{name}.csv")


def test_each_data_set_has_its_arms_gains_and_classes(run_folder):
    two_sets(run_folder)
    page = made()
    words = Elements(page).words
    assert "Ways to answer, all data sets" in words and "DiVE-k training gained 25.0 points" in words
    of = {
        name: re.search(f"{name} by itself(.*?)Gains, points, {name}(.*?)Second step", words)
        for name in ("tiny", "other")
    }
    assert re.search(r"Two-step 60.0 .* 60.0", of["tiny"][1]) and re.search(r"Two-step 40.0 .* 40.0", of["other"][1])
    assert "Training, two-step +30.0" in of["tiny"][2] and "Training, two-step +20.0" in of["other"][2]
    assert "tiny, base classes" in words and "other, novel classes" in words
    assert re.search(r"blue finch other base 10 20.0 40.0 \+20.0", words), "with its data set, and its gain"
    links = [attributes["href"] for tag, attributes in Elements(page).tags if tag == "a"]
    assert {"#exact=blue%20finch&dataset=tiny", "#exact=blue%20finch&dataset=other"} <= set(links)


def test_the_table_of_classes_is_sorted_as_the_charts(run_folder):
    rows = report.Found(report.read_scores(Path("reports/metrics.json")), csvs(), {}).by_class()
    assert [row["subset"] for row in rows] == ["base"] * 2 + ["novel"] * 2
    for subset in ("base", "novel"):
        own = [(row["shares"][1], row["shares"][0], row["name"]) for row in rows if row["subset"] == subset]
        assert own == sorted(own)


def test_calibration_shows_the_fit_and_the_error_before_and_after(run_folder):
    rows = [
        row(model, n, n % 3 == 0, choice_probability=0.3 + n % 7 / 10, **extra)
        for model in ("base", "trained")
        for n in range(40)
        for extra in ({}, {"split": "val", "image_id": f"b{n:016x}"})
    ]
    scored(rows)
    found = report.Found(report.read_scores(Path("reports/metrics.json")), csvs(), {}).confidence()
    chart = next(one for one in found.charts if one.title == "Calibration of two-step")
    assert "curve of-fitted on-novel" in chart.svg and "curve of-trained on-novel" in chart.svg
    assert "Fitted on validation images, base classes" in [name for name, _ in found.key]
    trust = json.loads(Path("reports/metrics.json").read_text())["trained"]["confidence"]["two_step"]["base"]
    before, after = (report.percent(trust[name]) for name in ("ece", "ece_calibrated"))
    assert chart.caption.startswith(f"Calibration error in points: {before} on base classes, {after} when fitted")


def test_confidence_that_leaves_no_doubt_is_a_sentence_and_no_pile(run_folder):
    scored([row(model, n, n % 3 == 0, choice_probability=0.999) for model in ("base", "trained") for n in range(40)])
    found = report.Found(report.read_scores(Path("reports/metrics.json")), csvs(), {}).confidence()
    chart = next(one for one in found.charts if one.title == "Calibration of two-step")
    assert chart.svg == "" and "nearly every confidence is 0.99 or more" in chart.caption
    assert "nearly every confidence is 0.99 or more, right or wrong" in Elements(made()).words


def test_intervals_are_those_of_the_table_of_arms(run_folder):
    page = Elements(made()).words
    arms = pl.read_csv("reports/accuracies.csv")
    for row in arms.filter(pl.col("metric") == "two_step", pl.col("part") != "total").iter_rows(named=True):
        assert f"{100 * row['accuracy']:.1f} {100 * row['low']:.1f}–{100 * row['high']:.1f}" in page


def test_a_loss_is_called_a_loss(run_folder):
    save([row("base", n, n < 32) for n in range(40)], [row("trained", n, n < 20) for n in range(40)])
    words = Elements(made()).words
    assert "DiVE-k training lost 30.0 points" in words
    assert re.search(r"Training, two-step −30.0", words)


def shown(page: str) -> tuple[dict, list]:
    """The index and the images of a page, in order."""
    elements = Elements(page)
    scripts = {a["id"]: text for (tag, a), text in elements.scripts if a.get("type") == "application/json"}
    index = json.loads(scripts.pop("index"))
    return index, [image for number in range(len(scripts)) for image in json.loads(scripts[f"chunk-{number}"])]


def test_every_image_is_there_with_the_answers_of_both(run_folder):
    index, images = shown(made())
    assert index["models"] == ["Before training", "After training"] and len(index["images"]) == len(images) == 40
    assert [c["name"] for c in index["classes"]] == NAMES
    for number, ((image_id, class_number, *kinds), image) in enumerate(zip(index["images"], images, strict=True)):
        assert image_id == f"{number:016x}" and class_number == number % 4
        wanted = [KINDS.index(k) for k in ("right" if number < 12 else "wrong letter", "wrong letter")]
        wanted[1] = 0 if 4 <= number < 28 else 1
        assert kinds == ([3, 1] if number == 38 else wanted)
        before = image["answers"][0]
        assert before["votes"] == [[number % 4, 3], [(number + 1) % 4, 1]] and before["draws"] == 5
        assert before["options"] == [number % 4, (number + 1) % 4]
        assert image["picture"].startswith("data:image/webp;base64,")


def test_what_a_model_wrote_cannot_leave_its_script_element(run_folder):
    save(*([row(m, n, n % 3 == 0, choice_text=ATTACK) for n in range(40)] for m in ("base", "trained")))
    page = made()
    elements = Elements(page)
    assert page.lower().count("<script") == page.lower().count("</script") == 3, "index, chunk, and the page's own"
    assert "<!--" not in page and "onerror" not in {name for _, attributes in elements.tags for name in attributes}
    _, images = shown(page)
    assert {answer["text"] for image in images for answer in image["answers"]} == {ATTACK}, "and yet nothing is lost"
    assert "<b>finch" not in page and "red <b>finch</b>" in elements.text


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a\u2028b", "&lt;", '"quoted" \\ back', "ß漢🐦"])
def test_embedded_json_says_the_same(text):
    found = embedded({"text": text})
    assert json.loads(found) == {"text": text}
    assert not set(found) & set("<>&\u2028\u2029")


def test_nothing_is_fetched_and_only_its_own_script_runs(run_folder):
    page = made()
    elements = Elements(page)
    addresses = [
        (tag, attributes[name])
        for tag, attributes in elements.tags
        for name in ("src", "href", "srcset", "data", "action", "xlink:href")
        if name in attributes
    ]
    outside = {value for _, value in addresses if not value.startswith(("#", "data:"))}
    assert outside == {"https://arxiv.org/abs/2511.18305"}
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in elements.tags}
    assert not re.search(r"url\(|@import", page)
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    policy = next(a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = (report.PAGE / "gallery.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert script in page


def test_every_chart_has_words(run_folder):
    tags = Elements(made()).tags
    charts = [attributes["aria-label"] for tag, attributes in tags if tag == "svg" and "aria-label" in attributes]
    assert [label.split(",")[0] for label in charts] == [
        *("pass@k", "Truth offered", "Vote", "Calibration of the vote", "Base classes", "Novel classes"),
        *("Answer reward", "Groups without variance", "Entropy", "Completion length", "KL from the base model"),
        "Validation",
    ]
    assert "0.4 in step 1, 0.6 in step 2" in charts[6]
    assert "Before training, base classes 0.60 to 1.00" in charts[0]
    silent = [attributes for tag, attributes in tags if tag == "svg" and "aria-label" not in attributes]
    assert all(attributes["aria-hidden"] == "true" for attributes in silent)


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
        ("reports/accuracies.csv", "dvc repro evaluate"),
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
    assert not [path for path in Path("reports").iterdir() if "partial" in path.name]
    assert not Path("reports/training.csv").exists()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("reports/metrics.json", "{", "found no metrics of the base model as JSON"),
        ("reports/metrics.json", "[]", "found no metrics of the base model as JSON"),
        ("reports/metrics.json", '{"trained": {}}', "found no metrics of the base model as JSON"),
        ("reports/metrics.json", '{"base": {"pass@1": {}}}', "found no base.pass@K, base.one_step"),
        ("reports/accuracies.csv", "", "found no column model, dataset"),
        ("reports/draws.csv", "a,b\n1\n2,3,4,5\n", "found no column draws"),
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
    scored([row("base", n, n < 12) for n in range(40)])
    page = made("--predictions", "data/predictions/base.parquet")
    words = Elements(page).words
    assert "Two‑step accuracy of the base model: 30.0 %" in words
    assert "rained model" not in words.replace("No trained model was scored", "")
    assert "after training" not in words.lower() and "Training, two-step" not in words
    assert shown(page)[0]["models"] == ["Base model"] and "put right by training" not in words
    assert "What the second step gave" in words and "Second step, base model" in words
    charts = [attributes for tag, attributes in Elements(page).tags if tag == "circle" and "dot" in attributes["class"]]
    assert len(charts) == 4 and {one["class"] for one in charts} == {"dot after"}, "one dot for each class"
    assert "blue finch: 30% base model" in words and "Dots: base model." in words
    assert "Gain" not in re.search("All classes as a table(.*)Training The thin", words)[1]


def test_further_models_stand_in_the_table(run_folder):
    rows = [row(m, n, n < k) for m, k in (("base", 10), ("trained", 20)) for n in range(40)]
    plain = {"draws": [], "draw_statuses": [], "draw_texts": [], "draw_tokens": [], "choice_text": None}
    rival = [row("clip_small", n, False, **plain, one_step=n % 4 if n < 8 else None) for n in range(40)]
    scored(rows + rival)
    words = Elements(made()).words
    assert re.search(r"clip_small 20 base \+ 20 novel images One-step 20.0 [\d.]+–[\d.]+ 20.0", words)


def test_shots_without_novel_classes(run_folder):
    save(*([row(m, n, n % 3 == 0) for n in range(40) if n % 4 < 2] for m in ("base", "trained")))
    words = Elements(made()).words
    assert "on classes that were all trained on" in words and "Novel classes" not in words


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"two_step": 0}, "right"),
        ({"two_step": 1}, "wrong letter"),
        ({"two_step": 1, "options": [{"class_id": 1}]}, "not offered"),
        ({"two_step": None}, "unreadable"),
        ({"two_step": None, "options": []}, "unreadable"),
    ],
)
def test_kinds_of_outcome(changes, wanted):
    assert KINDS[kind(row("base", 0, True, **changes))] == wanted


def test_pictures_are_small_and_what_cannot_be_opened_is_empty():
    uri = data_uri(png(200, (1000, 500)))
    small = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert small.format == "WEBP" and small.size == (LARGEST_SIDE, LARGEST_SIDE // 2)
    assert small.getpixel((9, 9))[0] == pytest.approx(200, abs=4)
    assert Image.open(io.BytesIO(base64.b64decode(data_uri(png(1)).split(",")[1]))).size == (8, 6)
    assert data_uri(b"") == ""


def found_cautions(base: list[dict], trained: list[dict]) -> list[str]:
    rows = predictions(base + trained)
    tables_of = results(rows, CLASSES, 3)
    return cautions(evaluate(rows), tables_of["differences"], tables_of["letters"], rows)


MODELS = ("base", "trained")
NO_LETTERS = pl.DataFrame(
    schema=dict.fromkeys(("model", "letter"), pl.String) | {"chosen": pl.Int64, "truth": pl.Int64}
)


def many(model: str, right, **changes) -> list[dict]:
    return [row(model, n, right(n), **changes) for n in range(400)]


def test_a_good_run_has_no_cautions():
    def mixed(model, share):
        rows = many(model, lambda n: n % 10 < share)
        for one in rows[::2]:  # the truth stands at B as often as at A, and is found as often
            one["options"] = one["options"][::-1]
            one["letter"] = {"A": "B", "B": "A"}[one["letter"]]
        return rows

    named = [c for c in found_cautions(mixed("base", 2), mixed("trained", 8)) if "draws name no class" not in c]
    assert named == [ONE_SEED]


def test_what_cannot_be_trusted_is_said():
    few = found_cautions([row("base", n, n < 5) for n in range(40)], [row("trained", n, n < 6) for n in range(40)])
    assert "Few test images: 20 of base classes and 20 of novel classes. Look at the intervals first." in few
    told = r"What training did on base classes cannot be told from nothing, \+\d.* to \+.*: 20 images show \d.* or more"
    assert any(re.match(told, one) for one in few)
    broken = {"letter": None, "two_step": None, "status": "truncated"}
    failed = found_cautions(many("base", lambda n: True), many("trained", lambda n: True, **broken))
    assert "After training: 400 of 400 second steps gave no letter (400 truncated)." in failed
    always_b = {"letter": "B"}
    biased = found_cautions(many("base", lambda n: False, **always_b), many("trained", lambda n: True))
    assert any(
        one.startswith("Before training: it prefers the letter B, chosen in 100% of the questions") for one in biased
    )
    assert "Before training: 20% of the draws name no class of the list." in biased


def test_a_gain_that_is_told_from_nothing_is_not_called_too_small():
    """Even where a true gain of this size would often have been missed."""
    differences = pl.DataFrame(
        [
            {"first": "base two_step", "second": "trained two_step", "dataset": "all", "part": part, "n": 288}
            | {"difference": 0.05, "low": low, "high": 0.09, "detectable": 0.08}
            for part, low in (("base", 0.01), ("novel", -0.01))
        ]
    )
    scores = {model: {"two_step": {"n_base": 288, "n_novel": 288}, "letter_choice": {"flips": 0.1}} for model in MODELS}
    found = cautions(scores, differences, NO_LETTERS, predictions([row("base", 0, True, draws=[0])]))
    assert found == [
        "What training did on novel classes cannot be told from nothing, +5.0 points (-1.0 to +9.0): 288 images show "
        "8.0 or more.",
        ONE_SEED,
    ]


def test_flips_and_confidence_without_doubt_are_said():
    flipped = found_cautions(many("base", lambda n: n % 2, rotated=[0, 1, 2, 3]), many("trained", lambda n: n % 2))
    assert "Before training: in 100% of the questions another order of the options gives another answer." in flipped
    assert not any(one.startswith("After training: in") for one in flipped)
    sure = found_cautions(many("base", lambda n: n % 2), many("trained", lambda n: n % 2, choice_probability=0.999))
    assert [one for one in sure if "do not read it as confidence" in one] == [
        "After training: in 100% of the questions the model gives its letter a probability of 0.99 or more, right or "
        "wrong: do not read it as confidence."
    ]


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
    assert "0.5 in step 5" in chart.caption
    assert 'aria-label="a &lt; b, in &#34;units&#34;' in chart.svg
    assert "nan" not in chart.svg


def test_empty_cells_are_left_out(tmp_path):
    log = tmp_path / "training.csv"
    log.write_text(HEADER + "1,0.4,1,,nan,,30,1,1\n2,,1,,nan,,31,1,1\n")
    assert read_log(log) == {"answer_reward": [(1, 0.4)], "completion_length": [(1, 30), (2, 31)]}


def test_curves_are_told_apart_by_more_than_colour(run_folder):
    """Halves by dashes, models by the shape and the filling of their marks: on the page and in its key."""
    one = Series("a, base", "of-base on-base", [(1, 0.2), (3, 0.6)], "square")
    chart = curves_chart("pass@k", "share", "draws", [one], shares=True)
    assert '<path class="curve of-base on-base" d="M42.0 138.0L308.0 82.0h0"/>' in chart.svg
    assert chart.svg.count('<rect class="mark of-base on-base"') == 2
    style = (report.PAGE / "style.css").read_text()
    assert "stroke-dasharray" in style[style.index(".curve.on-novel") :].split("}")[0]
    assert "fill: var(--card)" in style[style.index(".mark.of-base") :].split("}")[0]
    found = report.Found(report.read_scores(Path("reports/metrics.json")), csvs(), {}).draws()
    shapes = {"Before training": "<rect", "After training": "<circle"}
    assert [name for name, _ in found.key] == [f"{m}, {subset} classes" for m in shapes for subset in ("base", "novel")]
    for name, piece in found.key:
        assert {shape for shape in shapes.values() if shape in piece} == {shapes[name.split(",")[0]]}
    assert found.charts[0].svg.count("<rect") == found.charts[0].svg.count("<circle") == 2 * 5


def test_marks_are_few_on_a_long_curve():
    chart = curves_chart("c", "u", "x", [Series("a", "l", [(n, n) for n in range(200)])])
    assert 10 <= chart.svg.count("<circle") <= 12


def test_calibration_has_its_diagonal():
    chart = curves_chart("c", "u", "x", [Series("a", "l", [(0.5, 0.5)])], diagonal=True, shares=True)
    assert '<path class="diagonal" d="M42.0 166.0L308.0 26.0h0"/>' in chart.svg


def test_classes_stand_worst_first_with_their_names():
    models = ["Before training", "After training"]
    chart = classes_chart("Base classes", [("b <i>", [0.5, 1.0]), ("a", [0.25, 0.0])], models)
    first = chart.svg.index("a: 25% before training, 0% after training")
    assert first < chart.svg.index("b &lt;i&gt;: 50% before training, 100% after training")
    assert chart.caption == "worst a 0%, median 100%, best 100%"


def test_a_class_that_did_not_change_shows_both_its_marks():
    chart = classes_chart("Base classes", [("a", [0.5, 0.5])], ["Before training", "After training"])
    found = dict(re.findall(r'<circle class="dot (\w+)" cx="[\d.]+" cy="[\d.]+" r="([\d.]+)"', chart.svg))
    assert list(found) == ["before", "after"] and float(found["before"]) >= float(found["after"]) + 1.5


def test_tables_of_different_runs_have_no_gallery():
    with pytest.raises(UserError, match="wanted all of one run"):
        Gallery(
            predictions([row("base", 0, True)]), CLASSES, pl.DataFrame({"image_id": [], "image": []}), {"base": "B"}
        )


def test_images_come_sorted_and_answered_by_every_model():
    rows = [row("trained", 2, True), row("base", 2, True), row("base", 3, True), row("trained", 1, True)]
    found = by_image(predictions([*rows, row("base", 1, False)]), ["base", "trained"])
    assert [[(r["model"], r["image_id"][-1]) for r in pair] for pair in found] == [
        [("base", "1"), ("trained", "1")],
        [("base", "2"), ("trained", "2")],
    ]
