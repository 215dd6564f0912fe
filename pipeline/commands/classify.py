"""The command `classify`: classifies a user's own pictures and prints the answers."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.commands.photo_classifier import (
    PhotoAnswer,
    PhotoClassifier,
    PhotoParams,
    Picture,
    calibration,
    class_rows,
)
from pipeline.core import tables
from pipeline.core.model_language import require_prompt_for
from pipeline.core.params import UserError, first_line, load_params, read_param
from pipeline.core.progress import bar
from pipeline.core.terminal import printable
from pipeline.core.words import counted
from pipeline.datasets.formats import SUFFIXES

NO_ANSWER = 3  # exit code where a picture has no answer
BAR_WIDTH = 20  # characters of the longest bar
STDIN = "-"


def classify(
    photos: Annotated[
        list[str] | None, typer.Argument(help="Pictures, folders of pictures, or - for one picture from stdin.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model folder or hub id.")] = "models/policy",
    classes: Annotated[
        Path | None, typer.Option(help="Text file of class names, one per line; default: the classes of the run.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Data set whose classes to use, where the run has several.")] = "",
    noun: Annotated[str, typer.Option(help="What the pictures show, as used in the question, such as bird.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and picture.")] = False,
    serve: Annotated[bool, typer.Option(help="Serve a local web page that takes pictures; needs gradio.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of that page; 0 takes a free one.")] = 7860,
) -> None:
    """Classify pictures: K draws, the options they make, the model's choice, and its confidence.

    K, the number of options and the engine are those of params.yaml. Confidence is calibrated on the validation images
    of the last run if the model and the classes are those of the run. Exit codes: 0 every picture has an answer;
    1 wrong usage; 3 a picture has no answer, because it cannot be opened or no draw names a class.
    """
    params, max_pixels = load_params(PhotoParams), int(read_param("data.max_pixels"))
    params = replace(params, processes=params.processes or 1)  # a few pictures need no more
    require_prompt_for(model, params.prompt)
    pictures = [] if serve else find_pictures(photos or [])
    names = load_classes(classes, dataset, noun)
    # Other classes make other questions, for which the calibration of the run does not hold.
    predictions = run_predictions(model) if classes is None else None
    fit = calibration(predictions) if predictions else None
    with params.connect(model, params.samplers(), params.choice_prefix) as engine:
        classifier = PhotoClassifier(engine, names, params, fit)
        if serve:
            from pipeline.commands.photo_page import serve_page

            serve_page(classifier, max_pixels, port)
            return
        failures = print_answers(classifier, pictures, max_pixels, as_json)
    if not as_json and len(pictures) > 1:
        print(f"{counted(len(pictures), 'picture')}, {len(pictures) - failures} with an answer")
    if failures:
        raise typer.Exit(NO_ANSWER)


def print_answers(classifier: PhotoClassifier, pictures: Sequence[Picture], max_pixels: int, as_json: bool) -> int:
    """Prints each answer as soon as it is there; returns the number of pictures without one."""
    failures = 0
    # rich prints lines above its bar, to stderr: right in a terminal, wrong where stdout is a file or a pipe.
    out = None if sys.stdout.isatty() else sys.stdout
    with bar("answers", len(pictures) * classifier.answers, "answers") as advance:
        for one in classifier.classify(pictures, max_pixels, advance):
            text = printable(json.dumps(asdict(one), ensure_ascii=False)) if as_json else "\n".join(lines(one))
            print(text, file=out, flush=True)
            failures += one.answer is None
    return failures


def find_pictures(photos: Sequence[str]) -> list[Picture]:
    """Every picture once, those of a folder in alphabetical order. Raises UserError."""
    files: dict[str, Path | bytes] = {}
    for photo in photos:
        path = Path(photo)
        if photo == STDIN:
            files[STDIN] = files.get(STDIN) or sys.stdin.buffer.read()
        elif path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise UserError(f"{photo}: no pictures in this folder; their names must end in {', '.join(SUFFIXES)}")
            files |= {str(file): file for file in inside}
        elif path.is_file():
            files[photo] = path
        else:
            raise UserError(f"{photo}: no such file or folder; `python -m pipeline classify --help` shows the usage")
    if not files:
        raise UserError("no picture given; use `python -m pipeline classify photo.jpg`")
    return list(files.items())


def load_classes(file: Path | None, dataset: str, noun: str) -> pl.DataFrame:
    """The table of classes to choose from: those of the file, or else those of the run. Raises UserError."""
    if file is not None:
        try:
            texts = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{file}: cannot be read ({first_line(error)}); it must be a text file with one class name per line"
            ) from None
        return class_rows([(text, ()) for text in dict.fromkeys(filter(None, texts))], noun or "object")
    path = Path("data/classes.parquet")
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the classes with --classes names.txt, or run `dvc repro download`")
    rows = tables.read(tables.CLASSES, path)
    sets = rows["dataset"].unique(maintain_order=True).to_list()
    if not dataset and len(sets) > 1:
        raise UserError(f"the run has several data sets; choose one with --dataset: {', '.join(sets)}")
    if dataset and dataset not in sets:
        raise UserError(f"--dataset {dataset} is not a data set of the run; choose one of {', '.join(sets)}")
    rows = rows.filter(dataset=dataset or sets[0])
    return class_rows(rows.select("name", "aliases").rows(), noun or rows["noun"][0])


def run_predictions(model: str) -> Path | None:
    """The predictions of the last run by this model; None where it is another model."""
    labels = {Path(read_param("model")).resolve(): "base", Path("models/policy").resolve(): "trained"}
    label = labels.get(Path(model).resolve())
    return Path(f"data/predictions/{label}.parquet") if label else None


def lines(one: PhotoAnswer) -> list[str]:
    """The answer as text, without characters that a terminal interprets."""
    texts = [f"{one.file}: {one.summary()}"]
    most = max([1, *(option["votes"] for option in one.options)])
    for option in one.options:
        votes = "█" * round(BAR_WIDTH * option["votes"] / most)
        mark = " ←" if option["name"] == one.answer else ""
        texts.append(f"  {option['letter']} {option['votes']:>3} {votes:{BAR_WIDTH}} {option['name']}{mark}")
    if one.reasoning is not None:
        texts.append(f"  {' '.join(one.reasoning.split())}")
    return [printable(text) for text in texts]
