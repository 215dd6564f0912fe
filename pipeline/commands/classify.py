"""Name what is in pictures of one's own."""

import json
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.commands.own_photos import Classified, Classifier, PhotoParams, Picture, calibration, class_rows
from pipeline.core import tables
from pipeline.core.params import UserError, load_params, read_param
from pipeline.core.progress import bar
from pipeline.datasets.folder import SUFFIXES

UNNAMED = 3  # exit code where a picture has no answer
BAR = 20  # characters of the longest bar
STDIN = "-"


def classify(
    photos: Annotated[
        list[str] | None, typer.Argument(help="Pictures, folders with pictures in them, or - for one picture on stdin.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model folder or hub id.")] = "models/policy",
    classes: Annotated[
        Path | None,
        typer.Option(help="Text file of the classes that can be named, one a line; without it those of the run."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Data set whose classes are meant, where the run has several.")] = "",
    noun: Annotated[str, typer.Option(help="What the pictures show, as the question says it, such as bird.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line and picture, for scripts.")] = False,
    serve: Annotated[bool, typer.Option(help="Open a page on this machine to drop pictures on, with gradio.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of that page; 0 takes a free one.")] = 7860,
) -> None:
    """Name what is in pictures: K draws, the options they make, the model's choice, and how sure it is.

    K, the number of options and the engine are those of params.yaml. Confidence is calibrated on the validation images
    of the last run where the model is one of its two and the classes are its own. Exit codes: 0 every picture has an
    answer; 1 a mistake in what was asked for; 3 some picture has none, since it cannot be opened or no class was named.
    """
    asked, max_pixels = load_params(PhotoParams), int(read_param("data.max_pixels"))
    pictures = [] if serve else gathered(photos or [])
    names = known(classes, dataset, noun)
    # With other classes other questions are asked: what was fitted on the run's own says nothing of them.
    table = calibration_table(model) if classes is None else None
    classifier = Classifier(asked.connect(model), names, asked, calibration(table) if table else None)
    if serve:
        from pipeline.commands.web_page import serve_page

        serve_page(classifier, max_pixels, port)
        return
    unnamed = show(classifier, pictures, max_pixels, as_json)
    if not as_json and len(pictures) > 1:
        print(f"{len(pictures)} pictures, {len(pictures) - unnamed} named")
    if unnamed:
        raise typer.Exit(UNNAMED)


def show(classifier: Classifier, pictures: Sequence[Picture], max_pixels: int, as_json: bool) -> int:
    """Prints what is in each picture as soon as it is known; how many have no answer."""
    unnamed = 0
    # rich lets lines through above its bar, on stderr: right in a terminal, wrong where stdout is a file or a pipe.
    out = None if sys.stdout.isatty() else sys.stdout
    with bar("answers", len(pictures) * classifier.answers, "answers") as advance:
        for one in classifier.classify(pictures, max_pixels, advance):
            said = json.dumps(asdict(one), ensure_ascii=False) if as_json else "\n".join(lines(one))
            print(said, file=out, flush=True)
            unnamed += one.answer is None
    return unnamed


def gathered(photos: Sequence[str]) -> list[Picture]:
    """Every picture once, folders in alphabetical order. Raises UserError."""
    files: dict[str, Path | bytes] = {}
    for photo in photos:
        path = Path(photo)
        if photo == STDIN:
            files[STDIN] = files.get(STDIN) or sys.stdin.buffer.read()
        elif path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise UserError(f"{photo}: no pictures in this folder, wanted {', '.join(SUFFIXES)} files")
            files |= {str(file): file for file in inside}
        elif path.is_file():
            files[photo] = path
        else:
            raise UserError(f"{photo}: no such file or folder, wanted pictures; `python -m pipeline classify --help`")
    if not files:
        raise UserError("no picture named, wanted at least one; `python -m pipeline classify photo.jpg`")
    return list(files.items())


def known(names: Path | None, dataset: str, noun: str) -> pl.DataFrame:
    """The table of classes that a picture can be of: those of the file, or all of the run's. Raises UserError."""
    if names is not None:
        try:
            texts = [line.strip() for line in names.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{names}: cannot be read ({error}), wanted a text file with one class name a line"
            ) from None
        return class_rows([(text, ()) for text in dict.fromkeys(filter(None, texts))], noun or "object")
    path = Path("data/classes.parquet")
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the classes with --classes names.txt, or `dvc repro download`")
    rows = tables.read(tables.CLASSES, path)
    sets = rows["dataset"].unique(maintain_order=True).to_list()
    if not dataset and len(sets) > 1:
        raise UserError(f"the run has several data sets; name one of them with --dataset: {', '.join(sets)}")
    if dataset and dataset not in sets:
        raise UserError(f"--dataset {dataset}: not in the run, wanted one of {', '.join(sets)}")
    rows = rows.filter(dataset=dataset or sets[0])
    return class_rows(rows.select("name", "aliases").rows(), noun or rows["noun"][0])


def calibration_table(model: str) -> Path | None:
    """The predictions of the last run by this model; None where it is another one."""
    labels = {Path(read_param("model")).resolve(): "base", Path("models/policy").resolve(): "trained"}
    label = labels.get(Path(model).resolve())
    return Path(f"data/predictions/{label}.parquet") if label else None


def lines(one: Classified) -> list[str]:
    """What a person reads about one picture, without what a terminal would obey."""
    head = [f"{one.file}: {one.said()}"]
    most = max([1, *(option["votes"] for option in one.options)])
    for option in one.options:
        bar = "█" * round(BAR * option["votes"] / most)
        mark = " ←" if option["name"] == one.answer else ""
        head.append(f"  {option['letter']} {option['votes']:>3} {bar:{BAR}} {option['name']}{mark}")
    if one.reasoning is not None:
        head.append(f"  {' '.join(one.reasoning.split())}")
    return [harmless(line) for line in head]


def harmless(text: str) -> str:
    """The text with control characters, and what is no character at all, written out as escapes."""
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text
    )
