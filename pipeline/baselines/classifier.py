"""CLIP, CoOp and FuDD on the images of a data set: their answers in the form of the two steps.

Step 1 is the most probable class of the image's own subset, with the `topk` most probable ones as options; step 2,
which only FuDD has, is its choice among them. There are no draws, and so no votes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.baselines import fudd
from pipeline.baselines.clip import BATCH, Clip
from pipeline.baselines.coop import Context
from pipeline.core.engine import GREEDY, Completion
from pipeline.core.params import LARGEST_SEED, UserError, key
from pipeline.core.progress import bar
from pipeline.engines.language_model import LLMServerParams
from pipeline.method.class_lists import ClassLists, ParsedAnswer
from pipeline.method.image_sets import training_images
from pipeline.method.progress import draws_bar
from pipeline.method.prompts import letters
from pipeline.method.two_steps import Choices, StepOne

KINDS = ("clip", "coop", "fudd")

InitialPrediction = tuple[StepOne, Any]
"""Step 1 of an image, and the image's vector, (width,), or None if it cannot be read."""


@dataclass(frozen=True)
class ClassifierParams(LLMServerParams):
    topk: int = key("topk", at_least=2)
    seed: int = key("seed", at_least=0, at_most=LARGEST_SEED)
    threads: int = key("engine.threads", at_least=0)
    prompt: str = key("clip.prompt")
    context: str = key("coop.context")
    shots: int = key("coop.shots", at_least=0)
    epochs: int = key("coop.epochs", at_least=1)
    rate: float = key("coop.learning_rate", above=0)
    descriptions: str = key("fudd.descriptions", or_empty=True)
    writer: str = key("fudd.model", or_empty=True)
    writer_endpoints: tuple[str, ...] = key("fudd.endpoints")
    writer_key_variable: str = key("fudd.key_variable")


def shots(images: pl.DataFrame, classes: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """At most `count` training images of every base class, 0 for all: what CoOp learns from."""
    rows = training_images(images, classes).sort("image_id")
    order = pl.int_range(pl.len()).shuffle(seed=seed).over("dataset", "class_id")
    return rows.filter(order < count) if count else rows


class Classifier:
    """One of KINDS with the weights of `source`, a CLIP folder or hub id.

    Args:
        label: what the tables call it.
        train: images that CoOp may learn from, with their bytes; the other kinds take none.
    """

    def __init__(
        self, kind: str, source: str, label: str, params: ClassifierParams, lists: ClassLists, train: pl.DataFrame
    ):
        self.kind, self.label, self.params, self.lists, self.train = kind, label, params, lists, train
        self.clip = Clip(source, params.threads)
        self._contexts: dict[str, Context] = {}

    def answer(self, images: pl.DataFrame) -> tuple[list[StepOne], Choices]:
        """Step 1 of every image, and FuDD's choices.

        Args:
            images: rows of the table of images, with the column `subset`.
        """
        predictions = []
        with draws_bar(self.label, images.height) as advance:
            for (dataset, subset), rows in images.group_by("dataset", "subset", maintain_order=True):
                for batch in self.initial_predictions(rows, str(dataset), str(subset)):
                    advance(step.greedy for step, _ in batch)
                    predictions += batch
        return [step for step, _ in predictions], self.follow_up(predictions) if self.kind == "fudd" else {}

    def initial_predictions(self, images: pl.DataFrame, dataset: str, subset: str) -> Iterator[list[InitialPrediction]]:
        """The most probable classes of images of one subset, batch by batch."""
        ids, classes = self.classes(dataset, subset)
        names = self.lists.names_of(dataset)
        for batch in images.iter_slices(BATCH):
            readable = batch.filter(status="ok")
            vectors = self.clip.images(readable["image"].to_list()) if readable.height else []
            by_id = dict(zip(readable["image_id"], vectors, strict=True))
            predictions: list[InitialPrediction] = []
            for image_id, class_id, reason in batch.select("image_id", "class_id", "reason").iter_rows():
                columns = (image_id, None, dataset, class_id, subset)
                if image_id not in by_id:
                    error = ParsedAnswer(reason or "", None, None, "error", 0)
                    predictions.append((StepOne(*columns, error, [], []), None))
                    continue
                probabilities = self.clip.probabilities(by_id[image_id][None], classes)[0]
                order = probabilities.argsort(descending=True, stable=True)[: self.params.topk].tolist()
                options = [
                    {"class_id": ids[i], "name": names[ids[i]], "votes": 0, "rank": rank, "source": self.kind}
                    for rank, i in enumerate(order, start=1)
                ]
                name, probability = options[0]["name"], float(probabilities[order[0]])
                best = ParsedAnswer(name, name, ids[order[0]], "ok", 0, probability)
                predictions.append((StepOne(*columns, best, [], options), by_id[image_id]))
            yield predictions

    def classes(self, dataset: str, subset: str) -> tuple[list[int], Any]:
        """The classes of one subset, and their vectors, (classes, width)."""
        names = self.lists.names_in(dataset, subset)
        if self.kind == "coop":
            return list(names), self.context(dataset).classes(list(names.values())).detach()
        return list(names), self.clip.texts([self.prompt(dataset)(name) for name in names.values()])

    def prompt(self, dataset: str) -> Callable[[str], str]:
        """Writes the text that stands for a class of the data set."""
        return lambda name: self.params.prompt.format(name=name, noun=self.lists.noun(dataset))

    def context(self, dataset: str) -> Context:
        """CoOp's words for a data set, learned from base classes when first needed."""
        import torch

        if dataset not in self._contexts:
            names = self.lists.names_in(dataset, "base")
            rows = self.train.filter(dataset=dataset, status="ok")
            if not rows.height:
                raise UserError(
                    f"coop: {dataset} has no training images of base classes; remove coop: from evaluate.models"
                )
            images = torch.cat([self.clip.images(part["image"].to_list()) for part in rows.iter_slices(BATCH)])
            labels = torch.tensor([list(names).index(class_id) for class_id in rows["class_id"]], device=images.device)
            context = Context(self.clip, self.params.context)
            with bar(self.label, self.params.epochs, "epochs") as advance:
                losses = context.learn(
                    images,
                    labels,
                    list(names.values()),
                    self.params.epochs,
                    self.params.rate,
                    self.params.seed,
                    advance,
                )
            print(f"{self.label}: {dataset}, {rows.height} images, loss {losses[0]:.3f} to {losses[-1]:.3f}")
            self._contexts[dataset] = context
        return self._contexts[dataset]

    def follow_up(self, predictions: list[InitialPrediction]) -> Choices:
        """FuDD's choice among the options of every image, in the form of a completion."""
        descriptions = self.descriptions([step for step, _ in predictions])
        choices: Choices = {}
        for step, vector in predictions:
            names = [option["name"] for option in step.options]
            if len(names) < 2:
                continue
            probabilities = fudd.follow_up(self.clip, vector, names, descriptions, self.prompt(step.dataset))
            best, second = probabilities.argsort(descending=True, stable=True)[:2].tolist()
            reason, letter = fudd.reason(names, best, second, descriptions), letters(len(names))[best]
            text = f"<think>{reason}</think><answer>{letter}</answer>"
            probability = float(probabilities[best])
            choices[step.image_id] = [Completion(step.image_id, GREEDY, text, 0, True, probability=probability)]
        return choices

    def descriptions(self, steps: list[StepOne]) -> fudd.Descriptions:
        """What distinguishes the options of these images, from the file or from the language model."""
        params = self.params
        pairs = sorted(
            {
                (step.dataset, step.subset, first["name"], second["name"])
                for step in steps
                for first in step.options
                for second in step.options
                if first != second
            }
        )
        if params.descriptions:
            descriptions = self._from_file(dict.fromkeys(row[:2] for row in pairs))
        elif params.writer:
            questions = [(self.lists.noun(row[0]), row[2:]) for row in pairs]
            with params.language_model(params.writer, params.writer_endpoints, params.writer_key_variable) as engine:
                descriptions = fudd.from_language_model(engine, questions)
        else:
            raise UserError(
                "params.yaml: evaluate.models has a model of the kind fudd:, which needs fudd.descriptions, a file, or "
                "fudd.model and fudd.endpoints, a language model; set one with `dvc exp run -S fudd.descriptions=…`"
            )
        count = sum(bool(descriptions.get(row[2:])) for row in pairs)
        if pairs and not count:
            raise UserError(
                f"fudd: none of the {len(pairs):,} pairs of options has a description (the first pair: "
                f"{' and '.join(pairs[0][2:])}); add descriptions to the file fudd.descriptions, or set another "
                "fudd.model, and run `dvc repro baselines`"
            )
        print(f"{self.label}: {count:,} of {len(pairs):,} pairs have descriptions; the others are compared by name")
        return descriptions

    def _from_file(self, subsets: dict[tuple[str, str], None]) -> fudd.Descriptions:
        """The descriptions of the file, under the names of the class list."""
        by_name, descriptions = fudd.from_file(Path(self.params.descriptions)), dict[fudd.Pair, tuple[str, ...]]()
        for dataset, subset in subsets:
            names = self.lists.names_in(dataset, subset)
            for (first, second), texts in by_name.items():
                one, other = (self.lists.match(name, dataset, subset) for name in (first, second))
                if one is not None and other is not None:
                    descriptions[names[one], names[other]] = tuple(texts)
        return descriptions
