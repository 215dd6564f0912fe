"""Write a run in the layout of the Hugging Face hub: a model folder with its card, and the tables beside it."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables
from pipeline.core.files import whole_folder, write_text
from pipeline.core.params import UserError, all_params, first_line
from pipeline.core.words import counted
from pipeline.engines.common.adapters import base_of
from pipeline.reporting.cards import model_card, tables_card

MARK = ".divek-publish.json"  # in a published folder: the files that publish wrote
TABLES = {
    "questions": (tables.QUESTIONS, [("train", "data/questions.parquet")]),
    "hard": (tables.HARD, [("train", "data/hard.parquet")]),
    "predictions": (
        tables.PREDICTIONS,
        [("base", "data/predictions/base.parquet"), ("trained", "data/predictions/trained.parquet")],
    ),
    "classes": (tables.CLASSES, [("train", "data/classes.parquet")]),
}


def publish(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier one is replaced.")] = Path("published"),
    model: Annotated[Path, typer.Option(help="Model folder to publish.")] = Path("models/policy"),
    name: Annotated[str, typer.Option(help="Name of the model on its card.")] = "divek policy",
    licence: Annotated[str, typer.Option(help="Licence by its name on the hub, such as apache-2.0.")] = "other",
    push: Annotated[str, typer.Option(help="Repository on the hub, owner/name, to upload to.")] = "",
    private: Annotated[bool, typer.Option(help="Whether the repositories are private.")] = True,
) -> None:
    """Write the model as a folder for the Hugging Face hub, with its card, and the tables of the run beside it.

    OUT/model has weights, processor, generation config and a card with data, settings, licence and accuracies;
    OUT/tables has questions and predictions in the format of `datasets`, without the pictures. Without --push nothing
    is uploaded; with it they are uploaded as owner/name and owner/name-tables.
    """
    accuracies = Path("reports/tables/accuracies.csv")
    base = base_of(str(model))
    if not (model / "config.json").is_file() and base is None:
        raise UserError(f"{model} has no config.json, so it is no model folder; `dvc repro train` writes one")
    if base is not None and Path(base).is_dir():
        raise UserError(
            f"{model} is an adapter of {base}, a folder of this machine, without which nobody can open it; "
            "`dvc exp run -S train.save=merged` makes a whole model, or take a base from the hub"
        )
    if not accuracies.is_file():
        raise UserError(f"{accuracies}: no such file; `dvc repro evaluate` writes it")
    if push and push.count("/") != 1:
        raise UserError(f"--push {push} must have the form owner/name")
    require_own_folder(out)
    settings = all_params()
    test = tables.read(tables.PREDICTIONS, Path("data/predictions/trained.parquet"), ["split", "subset"])
    counts = dict(test.filter(split="test").group_by("subset").len().sort("subset").iter_rows())
    files = {config: sources for config, (_, sources) in TABLES.items()}
    for table, sources in TABLES.values():
        for _, path in sources:
            tables.read(table, Path(path), list(table.key))  # raises for a wrong schema version
    with whole_folder(out) as folder:
        shutil.copytree(model, folder / "model")
        card = model_card(name, licence, settings, pl.read_csv(accuracies), counts, base)
        write_text(folder / "model" / "README.md", card)
        target = folder / "tables"
        copies = {config: [(s, f"{config}/{s}.parquet") for s, _ in sources] for config, sources in files.items()}
        for config, sources in files.items():
            (target / config).mkdir(parents=True)
            for (_, path), (_, copy) in zip(sources, copies[config], strict=True):
                shutil.copy(path, target / copy)
        card = tables_card(f"{name}, tables", licence, copies, {config: table for config, (table, _) in TABLES.items()})
        write_text(target / "README.md", card)
        write_text(folder / MARK, json.dumps(files_in(folder), indent=1) + "\n")
    print(f"{out}/model and {out}/tables written" + ("" if push else "; nothing was uploaded (--push owner/name does)"))
    if push:
        upload(out, push, private)


def files_in(folder: Path) -> list[str]:
    """The files of a folder at any depth, with forward slashes, but MARK."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(name for name in files if name != MARK)


def require_own_folder(out: Path) -> None:
    """Raises UserError if `out` holds anything that publish has not written, which replacing it would delete."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        own = set(json.loads((out / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{out} exists and was not written by publish; choose another folder with --out") from None
    if others := [name for name in files_in(out) if name not in own]:
        more = f" and {counted(len(others) - 1, 'more file')}" if len(others) > 1 else ""
        raise UserError(
            f"{out} holds {others[0]}{more}, which publish did not write and would delete; move them, or "
            "choose another folder with --out"
        )


def upload(folder: Path, repository: str, private: bool) -> None:
    """Uploads both folders to the hub. Raises UserError where the hub refuses."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    for name, kind, target in (("model", "model", repository), ("tables", "dataset", f"{repository}-tables")):
        try:
            api.create_repo(target, repo_type=kind, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=target, repo_type=kind, folder_path=folder / name, commit_message="divek"
            )
        except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
            raise UserError(
                f"{target}: the hub refused ({first_line(error)}); run `hf auth login`, then the same command"
            ) from None
        print(f"{kind} uploaded: {getattr(commit, 'repo_url', target)}")
