"""evaluate.models: which further models there are, and their answers as a table of predictions."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from pipeline.baselines.classifier import KINDS, Classifier, ClassifierParams, shots
from pipeline.core import tables
from pipeline.core.model_language import require_prompt_for
from pipeline.core.params import UserError, key
from pipeline.engines.params import EngineParams
from pipeline.method.class_lists import ClassLists
from pipeline.method.predictions import UNION, PredictionParams, images_to_answer, predict, prediction_table

RESERVED = ("base", "trained", "gain")  # labels that reports/metrics.json has for other things
EXPECTED = "a model folder, a hub id, model@http://…, or clip:, coop: or fudd: and a CLIP folder or hub id"


@dataclass(frozen=True)
class FurtherModelParams(PredictionParams, EngineParams):
    models: tuple[str, ...] = key("evaluate.models")


@dataclass(frozen=True)
class FurtherModel:
    """One entry of evaluate.models: `kind:source`, `source`, or `source@URL`."""

    kind: str  # one of KINDS, or "" for a vision-language model
    source: str
    endpoint: str  # "" where it runs in this process

    @property
    def label(self) -> str:
        """The model's name in the tables; without dots, which DVC takes for levels."""
        name = re.sub(r"[^\w-]+", "-", self.source.rstrip("/").rpartition("/")[2])
        return f"{self.kind}_{name}" if self.kind else name


def parse_models(entries: tuple[str, ...]) -> list[FurtherModel]:
    """The further models in the order named. Raises UserError where two models would have the same label."""
    models: dict[str, FurtherModel] = {}
    for entry in entries:
        kind, colon, rest = entry.partition(":")
        kind, rest = (kind, rest) if colon and kind in KINDS else ("", entry)
        source, _, url = rest.partition("@http")
        model = FurtherModel(kind, source, f"http{url}" if url else "")
        if not source or (kind and url):
            raise UserError(f"params.yaml: evaluate.models has {entry!r}; each entry must be {EXPECTED}")
        if model.label.endswith(UNION):
            raise UserError(
                f"params.yaml: evaluate.models has {entry!r}, whose name ends with {UNION}, as in reports the names of "
                "answers with all classes as labels do; rename or link the folder"
            )
        if model.label in models or model.label in RESERVED:
            raise UserError(
                f"params.yaml: evaluate.models has {entry!r}, but another model is called {model.label} too; rename or "
                "link one of the folders, or remove one"
            )
        models[model.label] = model
    return list(models.values())


def predict_further_models(
    images: Path, classes: pl.DataFrame, params: FurtherModelParams, classifier_params: ClassifierParams
) -> pl.DataFrame:
    """The table of predictions of all further models, for the images that `predict` answers."""
    lists, index = ClassLists(classes), images_to_answer(images, classes, params.val_images)
    if params.engine == "transformers" and params.models:
        params.claim_gpus()  # before CLIP claims one
    predictions = [tables.PREDICTIONS.schema.to_frame()]
    for model in parse_models(params.models):
        if model.kind:
            predictions += _by_classifier(model, images, index, lists, params, classifier_params)
        else:
            if not model.endpoint:  # a served model may have any name
                require_prompt_for(model.source, params.prompt)
            served = replace(params, engine="openai", endpoints=(model.endpoint,), command="")
            own = served if model.endpoint else params
            with own.connect(model.source, own.samplers(), own.choice_prefix) as engine:
                predictions.append(predict(engine, images, index, lists, own, model.label))
    return pl.concat(predictions)


def _by_classifier(
    model: FurtherModel,
    images: Path,
    index: dict[str, pl.DataFrame],
    lists: ClassLists,
    params: FurtherModelParams,
    classifier_params: ClassifierParams,
) -> list[pl.DataFrame]:
    """The predictions of CLIP, CoOp or FuDD, for each split."""
    train = tables.IMAGES.schema.to_frame()
    if model.kind == "coop":
        rows = tables.read(tables.IMAGES, images, ["image_id", "dataset", "class_id", "split"])
        rows = shots(rows, lists.table, classifier_params.shots, classifier_params.seed)
        train = tables.read_images(images, rows["image_id"])
    classifier = Classifier(model.kind, model.source, model.label, classifier_params, lists, train)
    subsets = lists.table.select("dataset", "class_id", "subset")
    predictions = []
    for split, entries in index.items():
        pictures = tables.read_images(images, entries["image_id"]).join(subsets, on=["dataset", "class_id"])
        steps, choices = classifier.answer(pictures)
        predictions.append(prediction_table(steps, choices, model.label, params.max_error_rate, split))
    return predictions
