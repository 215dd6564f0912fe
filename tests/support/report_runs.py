"""A small run made by hand: tables of predictions, what evaluate makes of them, and the page of it."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import typer
from PIL import Image
from typer.testing import CliRunner

from pipeline.core import tables
from pipeline.evaluation.results import details, report_tables
from pipeline.evaluation.scoring import score
from pipeline.reporting.run_results import RunResults, read_results
from pipeline.stages import report

ATTACK = '<script>alert(1)</script><img src="https://example.com/x.png" onerror="alert(2)"><!--'
NAMES = ["red <b>finch</b>", "blue finch", 'the "green" finch', "grey finch"]
CLASSES = pl.DataFrame(
    [
        {"dataset": "tiny", "class_id": number, "name": name, "subset": "base" if number < 2 else "novel"}
        | {"aliases": [], "noun": "bird"}
        for number, name in enumerate(NAMES)
    ],
    schema=tables.CLASSES.schema,
)
HEADER = (
    "step,answer_reward,format_reward,share_of_groups_without_variance,entropy,kl,completion_length,"
    "gradient_norm,learning_rate,validation_two_step\n"
)
LOG = HEADER + "1,0.4,1,0.25,0.9,,30,1,1e-5,\n2,0.6,1,0.5,0.8,0.01,31,1,1e-5,0.5\n"
PARAMS = """
dataset: tiny
model: some/model
num_samples: 5
topk: 3
seed: 7
train: {method: divek}
options: {strategy: topk}
data: {protocol: official, shots: 0, limit_per_class: 0, partial: false}
"""


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


def image_rows(count: int, pictures: list[bytes]) -> pl.DataFrame:
    """A table of test images, which use the pictures in turn."""
    rows = [
        {"image_id": f"{n:016x}", "dataset": "tiny", "class_id": n % 4, "split": "test", "width": 8, "height": 6}
        | {"image": pictures[n % len(pictures)], "file": f"{n}.png", "status": "ok"}
        for n in range(count)
    ]
    return pl.DataFrame(rows, schema=tables.IMAGES.schema)


def results_of(rows: list[dict], classes: pl.DataFrame = CLASSES) -> RunResults:
    """What evaluate makes of predictions, without files."""
    scored = score(predictions(rows))
    return RunResults(details(scored), report_tables(scored, classes, 3), {})


def evaluate(rows: list[dict], classes: pl.DataFrame = CLASSES) -> None:
    """Writes what evaluate makes of predictions, below reports/."""
    results, folder = results_of(rows, classes), Path("reports/tables")
    folder.mkdir(parents=True, exist_ok=True)
    Path("reports/details.json").write_text(json.dumps(results.details, sort_keys=True), encoding="utf-8")
    for name, table in results.tables.items():
        table.write_csv(folder / f"{name}.csv")


def save(base: list[dict], trained: list[dict], classes: pl.DataFrame = CLASSES) -> None:
    """Writes both tables of predictions, and what evaluate makes of them."""
    for name, rows in (("base", base), ("trained", trained)):
        tables.write(tables.PREDICTIONS, predictions(rows), Path(f"data/predictions/{name}.parquet"))
    evaluate(base + trained, classes)


def read_run() -> RunResults:
    return read_results(Path("reports/details.json"), Path("reports/tables"), Path("data/training.csv"))


def write_run() -> None:
    """All that the stage report reads, in the current folder: 40 images, 12 right before training, 24 after."""
    base = [row("base", n, right=n < 12) for n in range(40)]
    trained = [row("trained", n, right=4 <= n < 28) for n in range(40)]
    base[38] = row("base", 38, False, letter=None, status="truncated", two_step=None)
    save(base, trained)
    tables.write(tables.CLASSES, CLASSES, Path("data/classes.parquet"))
    tables.write(tables.IMAGES, image_rows(40, [png(n) for n in range(40)]), Path("data/images.parquet"))
    Path("data/training.csv").write_text(LOG, encoding="utf-8")
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")


def write_two_sets() -> None:
    """The same run with two data sets that have classes of the same names, the second one less accurate."""
    Path("params.yaml").write_text(PARAMS.replace("dataset: tiny", "dataset: [tiny, other]"), encoding="utf-8")
    classes = pl.concat([CLASSES.with_columns(dataset=pl.lit(name)) for name in ("tiny", "other")])
    tables.write(tables.CLASSES, classes, Path("data/classes.parquet"))
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    more = images.with_columns(dataset=pl.lit("other"), image_id=pl.concat_str(pl.lit("a"), pl.col("image_id")))
    tables.write(tables.IMAGES, pl.concat([images, more]), Path("data/images.parquet"))
    base, trained = (
        [row(model, n, n < tiny) for n in range(40)]
        + [row(model, n, n < other, dataset="other", image_id=f"a{n:016x}") for n in range(40)]
        for model, tiny, other in (("base", 12, 8), ("trained", 24, 16))
    )
    save(base, trained, classes)


def invoke(*arguments: str):
    """Runs the stage report in this process."""
    app = typer.Typer()
    app.command()(report.main)
    return CliRunner().invoke(app, list(arguments))


def report_page(*arguments: str) -> str:
    """The page that the stage report writes."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.exception
    return Path("reports/index.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every tag and attribute of a page, and the text between."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.scripts: list[tuple[tuple[str, dict[str, str | None]], str]] = []
        self.feed(html)

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
        """The text with single spaces."""
        return " ".join(" ".join(self.pieces).split())


def embedded_images(html: str) -> tuple[dict, list]:
    """The index and the images of a page, in order."""
    scripts = {a["id"]: text for (_, a), text in Elements(html).scripts if a.get("type") == "application/json"}
    index = json.loads(scripts.pop("index"))
    return index, [image for number in range(len(scripts)) for image in json.loads(scripts[f"chunk-{number}"])]
