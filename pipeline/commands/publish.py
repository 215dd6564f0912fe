"""Write a run as the Hugging Face hub wants it: a model folder with its card, and the tables beside it."""

import shutil
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables
from pipeline.core.files import whole_folder, write_text
from pipeline.core.params import UserError, all_params
from pipeline.reporting.cards import model_card, tables_card

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
    out: Annotated[Path, typer.Option(help="Folder to write; what stands there is replaced.")] = Path("published"),
    model: Annotated[Path, typer.Option(help="Model folder that is published.")] = Path("models/policy"),
    name: Annotated[str, typer.Option(help="Name of the model, on its card.")] = "divek policy",
    licence: Annotated[str, typer.Option(help="The hub's name of its licence, such as apache-2.0.")] = "other",
    push: Annotated[str, typer.Option(help="owner/name on the hub to send it to; without it nothing is sent.")] = "",
    private: Annotated[bool, typer.Option(help="Whether what is sent is private.")] = True,
) -> None:
    """Write the model as a folder for the Hugging Face hub, with its card, and the tables of the run beside it.

    OUT/model has weights, processor, generation config and a card with data, settings, licence and accuracies;
    OUT/tables has questions and predictions as `datasets` reads them, without the pictures. With --push they are sent
    as owner/name and owner/name-tables.
    """
    arms = Path("reports/accuracies.csv")
    if not (model / "config.json").is_file():
        raise UserError(f"{model}: found no model, wanted a folder with config.json; `dvc repro train` writes one")
    if not arms.is_file():
        raise UserError(f"{arms}: no such file, wanted the accuracies for the card; `dvc repro evaluate` writes it")
    if push and push.count("/") != 1:
        raise UserError(f"--push {push}: wanted owner/name")
    if out.exists() and not (out / "model" / "config.json").is_file():
        raise UserError(f"{out}: there, and nothing that was published; name another folder with --out")
    settings = all_params()
    test = tables.read(tables.PREDICTIONS, Path("data/predictions/trained.parquet"), ["split", "subset"])
    counts = dict(test.filter(split="test").group_by("subset").len().sort("subset").iter_rows())
    files = {config: found for config, (_, found) in TABLES.items()}
    for table, found in TABLES.values():
        for _, path in found:
            tables.read(table, Path(path), list(table.key))  # each of this version, or a sentence
    with whole_folder(out) as folder:
        shutil.copytree(model, folder / "model")
        write_text(folder / "model" / "README.md", model_card(name, licence, settings, pl.read_csv(arms), counts))
        target = folder / "tables"
        copies = {config: [(s, f"{config}/{s}.parquet") for s, _ in found] for config, found in files.items()}
        for config, found in files.items():
            (target / config).mkdir(parents=True)
            for (_, path), (_, copy) in zip(found, copies[config], strict=True):
                shutil.copy(path, target / copy)
        card = tables_card(f"{name}, tables", licence, copies, {config: table for config, (table, _) in TABLES.items()})
        write_text(target / "README.md", card)
    print(f"{out}/model and {out}/tables written" + ("" if push else "; nothing was sent (--push owner/name sends it)"))
    if push:
        send(out, push, private)


def send(folder: Path, repository: str, private: bool) -> None:
    """Sends both folders to the hub. Raises UserError where it refuses."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    for part, kind, target in (("model", "model", repository), ("tables", "dataset", f"{repository}-tables")):
        try:
            api.create_repo(target, repo_type=kind, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=target, repo_type=kind, folder_path=folder / part, commit_message="divek")
        except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"{target}: the hub refused ({reason}); `hf auth login`, then the same command") from None
        print(f"{kind} sent: {getattr(done, 'repo_url', target)}")
