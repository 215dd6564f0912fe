"""What the tests of the baselines share: settings, images of the field guide, and the answers of a classifier."""

from dataclasses import replace

import pytest
from support.project import ROOT

from pipeline.baselines.classifier import Classifier, ClassifierParams, shots
from pipeline.core.params import load_params
from pipeline.fieldguide.clip_model import DESCRIPTIONS
from pipeline.fieldguide.rendering import render_tables
from pipeline.method.class_lists import ClassLists
from pipeline.method.predictions import prediction_table


@pytest.fixture(scope="session")
def world():
    """Classes, and images of the field guide: eight of each class to train on, one to validate, three to test."""
    return render_tables(8, 1, 3)


@pytest.fixture(scope="session")
def params(clip_folder) -> ClassifierParams:
    defaults = load_params(ClassifierParams, ROOT / "params.yaml")
    return replace(defaults, threads=2, shots=0, concurrency=4, descriptions=str(clip_folder / DESCRIPTIONS))


@pytest.fixture(scope="session")
def answer(clip_folder, world):
    """The table of predictions of a classifier of some kind, for the images of a split."""
    classes = world[0]
    subsets = classes.select("dataset", "class_id", "subset")

    def answer(kind, params, split="test", images=world[1]):
        train = shots(images, classes, params.shots, params.seed) if kind == "coop" else images.clear()
        classifier = Classifier(kind, str(clip_folder), kind, params, ClassLists(classes), train)
        rows = images.filter(split=split).join(subsets, on=["dataset", "class_id"])
        return prediction_table(*classifier.answer(rows), kind, 0.1)

    return answer


@pytest.fixture(scope="session")
def clip_predictions(answer, params):
    return answer("clip", params)


@pytest.fixture(scope="session")
def fudd_predictions(answer, params):
    return answer("fudd", params)


@pytest.fixture(scope="session")
def share():
    """The share of images that a way to answer has right."""
    return lambda rows, way="one_step": (rows[way] == rows["class_id"]).fill_null(False).mean()
