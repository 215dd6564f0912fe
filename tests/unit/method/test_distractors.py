"""Options that are not the model's own answers: random classes, and the names most like the true one."""

import numpy as np
import polars as pl
import pytest

from pipeline.core import tables
from pipeline.core.params import UserError, load_params
from pipeline.datasets.species import SPECIES
from pipeline.engines.text_encoders import text_encoder
from pipeline.method.distractors import nearest_classes, random_classes
from pipeline.method.options import questions
from pipeline.stages.options import OptionsParams, distractors


def test_random_classes_are_others_seeded_by_image():
    found = random_classes(3, range(10), 4, 0, "x")
    assert len(set(found)) == 4 and 3 not in found and set(found) <= set(range(10))
    assert random_classes(3, range(10), 4, 0, "x") == found
    assert random_classes(3, range(10), 4, 1, "x") != found != random_classes(3, range(10), 4, 0, "y")
    assert sorted(random_classes(0, range(3), 9, 0, "x")) == [1, 2], "all there are"


def test_random_classes_have_no_favourite():
    drawn = [c for n in range(3000) for c in random_classes(0, range(6), 2, 0, f"{n}")]
    counts = np.bincount(drawn, minlength=6)
    assert counts[0] == 0 and counts[1:].min() > 1100 and counts[1:].max() < 1300


def test_the_nearest_names_come_nearest_first_and_ties_in_order():
    vectors = {"a": [1, 0], "b": [1, 0.1], "c": [0, 1], "d": [1, 0.2], "e": [-1, 0], "f": [0, 2]}
    found = nearest_classes(list(vectors), 3, lambda names: np.array([vectors[name] for name in names], float))
    assert found[0][:2] == [1, 3] and found[2][0] == 5 and found[4][-1] != 4
    assert found[0][2] in (2, 5) and found[0][2] == 2, "c and f are as far: the first in the list"
    assert all(len(row) == 3 and number not in row for number, row in enumerate(found))
    assert [len(row) for row in nearest_classes(["a", "b"], 3, lambda names: np.eye(2))] == [1, 1]


def test_the_models_own_word_vectors_find_siblings(base_model):
    names = [species.name for species in SPECIES[:24]]
    near = nearest_classes(names, 4, text_encoder("", base_model))
    siblings = [sum(SPECIES[other].genus == SPECIES[number].genus for other in row) for number, row in enumerate(near)]
    assert np.mean(siblings) > 2, "names of a genus share words"


def test_a_sentence_encoder_is_used_where_there_is_one(tmp_path, base_model):
    """A small one of the library's own parts: word vectors and their mean."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, WordEmbeddings
    from sentence_transformers.models.tokenizer import WhitespaceTokenizer

    words = ["red", "blue", "wren", "owl"]
    vectors = WordEmbeddings(WhitespaceTokenizer(words), np.array([[1, 0, 0], [0.5, 0, 0], [0, 1, 0], [0, 0, 1.0]]))
    SentenceTransformer(modules=[vectors, Pooling(3)], device="cpu").save(str(tmp_path / "encoder"))
    near = nearest_classes(
        ["red wren", "blue owl", "blue wren"], 2, text_encoder(str(tmp_path / "encoder"), base_model)
    )
    assert near[0] == [2, 1]


def test_an_encoder_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"options\.encoder .*empty: cannot be loaded") as caught:
        text_encoder(str(tmp_path / "empty"), "unused")
    assert "\n" not in str(caught.value)


CLASSES = pl.DataFrame(
    [
        {
            "dataset": "d",
            "class_id": c,
            "name": f"{('red', 'blue')[c % 2]} wren {c}",
            "subset": "base" if c < 6 else "novel",
        }
        | {"aliases": [], "noun": "bird"}
        for c in range(10)
    ],
    schema=tables.CLASSES.schema,
)
SAMPLES = pl.DataFrame(
    [
        {
            "image_id": f"i{image}",
            "draw": draw,
            "text": "",
            "answer": "",
            "class_id": named,
            "status": "ok",
            "tokens": 1,
        }
        for image in range(6)
        for draw, named in enumerate([image, 1, 1, 2])
    ],
    schema=tables.SAMPLES.schema,
)
IMAGES = pl.DataFrame({"image_id": [f"i{n}" for n in range(6)], "dataset": ["d"] * 6, "class_id": list(range(6))})


@pytest.mark.parametrize("strategy", ["random", "text_embedding"])
def test_the_questions_offer_base_classes_and_the_truth(strategy, base_model):
    params = OptionsParams(topk=4, seed=0, strategy=strategy, encoder="", model=base_model, mass=1.0, filler=0)
    found = questions(SAMPLES, IMAGES, CLASSES, 4, 0, 1.0, distractors(CLASSES, params))
    own = questions(SAMPLES, IMAGES, CLASSES, 4, 0)
    for row in found.iter_rows(named=True):
        ids = [option["class_id"] for option in row["options"]]
        assert len(set(ids)) == 4 and row["class_id"] in ids and max(ids) < 6, "no novel class"
        assert "ABCD"[ids.index(row["class_id"])] == row["answer"]
        sources = {option["class_id"]: option["source"] for option in row["options"]}
        assert sources.pop(row["class_id"]) == "truth" and set(sources.values()) == {strategy}
    counts = ["truth_rank", "truth_votes", "valid_draws", "distinct"]
    assert found.select(counts).equals(own.select(counts)), "the filter keeps the same images"


def test_the_default_is_the_models_own_answers():
    assert load_params(OptionsParams).strategy == "topk"
