"""The field guide: its names, pictures and demonstrations, and the scores of its base model."""

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter

import pytest
from support.project import ROOT

from pipeline.core.params import load_params
from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.species import GENERA, LONG_TAIL, SPECIES
from pipeline.fieldguide.base_model import BaseModelParams, card
from pipeline.fieldguide.demonstrations import caption, choice, random_options, verdicts, words
from pipeline.fieldguide.evaluation import evaluate_base_model
from pipeline.fieldguide.rendering import render_tables
from pipeline.method.class_names import Matcher
from pipeline.method.prompts import choice_question, letters, open_question

SCORES = json.loads((ROOT / "models" / "fieldguide" / "scores.json").read_text(encoding="utf-8"))


def test_48_species_half_of_them_novel():
    assert Counter(species.subset for species in SPECIES) == {"base": 24, "novel": 24}
    assert [species.subset for species in SPECIES] == ["base"] * 24 + ["novel"] * 24
    assert len({species.name for species in SPECIES}) == 48
    Matcher([species.name for species in SPECIES])


def test_siblings_differ_by_marks_and_share_nothing_with_other_genera_but_words():
    for genus in GENERA:
        siblings = [species for species in SPECIES if species.genus == genus]
        assert len({species.marks for species in siblings}) == 6
        assert sorted((species.familiarity for species in siblings), reverse=True) == sorted(LONG_TAIL, reverse=True)


def test_every_question_is_in_the_models_language():
    text = f"{open_question('brief', 'bird')} {choice_question('brief', 'bird', [s.name for s in SPECIES[:26]])}"
    assert set(text.replace(".", " ").split()) <= set(words())


@pytest.mark.slow
def test_no_picture_is_in_two_splits():
    splits: dict[str, str] = {}
    for species in SPECIES[::6]:
        for split, count in (("pretrain", 16), ("train", 16), ("val", 6), ("test", 12)):
            for number in range(count):
                picture = hashlib.sha256(draw(random_bird(species, split, number)).tobytes()).hexdigest()
                assert splits.setdefault(picture, split) == split
    assert len(splits) == 8 * (16 + 16 + 6 + 12)


@pytest.mark.slow
def test_another_process_draws_the_same_bytes():
    code = "from pipeline.fieldguide.rendering import render_tables; print(*render_tables(1, 1, 1)[1]['image_id'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    _, images = render_tables(1, 1, 1)
    assert done.stdout.split() == images["image_id"].to_list()
    assert images["image_id"].is_unique().all()


def test_vividness_is_spread_evenly_over_each_species():
    for species in SPECIES:
        values = [random_bird(species, "test", number).vividness for number in range(12)]
        assert 4 <= sum(value > 0.5 for value in values) <= 8


def test_a_careful_answer_follows_from_its_verdicts():
    rng = random.Random(0)
    for species in SPECIES:
        bird = random_bird(species, "val", 0)
        options = random_options(species, rng)
        assert species in options
        judgements = dict(zip(letters(len(options)), verdicts(bird, options).split(" | "), strict=True))
        matching = [letter for letter, text in judgements.items() if " no" not in text]
        assert matching == [letters(len(options))[options.index(species)]]
        _, answer = choice(bird, -1.0, random.Random(1))
        assert " yes " in answer


def test_a_shortcut_names_by_familiarity_and_never_another_genus():
    bird = random_bird(SPECIES[5], "val", 0)
    rng = random.Random(0)
    names = Counter(caption(bird, 1.0, rng)[1].split("<answer> ")[1].removesuffix(" </answer>") for _ in range(4000))
    for species in (s for s in SPECIES if s.genus == bird.species.genus):
        assert names[species.name] / 4000 == pytest.approx(species.familiarity, abs=0.03)
    assert sum(names.values()) == sum(names[s.name] for s in SPECIES if s.genus == bird.species.genus)


def test_the_base_model_starts_where_the_paper_starts():
    for subset in ("base", "novel"):
        assert 0.35 <= SCORES["pass@1"][subset] <= 0.65
        assert SCORES["pass@K"][subset] >= 0.90
    assert SCORES["verdicts"]["consistent"] >= 0.95
    assert SCORES["letter_choice"]["accuracy"] > 2 * SCORES["letter_choice"]["chance"]
    for way in ("pass@1", "pass@K", "one_step", "vote", "two_step"):
        assert abs(SCORES[way]["base"] - SCORES[way]["novel"]) <= 0.05, way


def test_the_card_has_the_scores_of_the_pipeline():
    """The means over seeds 0, 1 and 2 of the whole pipeline (bench/seeds.py) on the same test images."""
    runs = json.loads((ROOT / "bench" / "results" / "seeds.json").read_text(encoding="utf-8"))
    for way in ("pass@1", "pass@K", "one_step", "vote", "two_step"):
        for subset in ("base", "novel"):
            mean = sum(run["base"][way][subset] for run in runs.values()) / len(runs)
            # Other libraries and machines round differently, which can change a draw.
            assert SCORES[way][subset] == pytest.approx(mean, abs=0.01), (way, subset)
    text = (ROOT / "models" / "fieldguide" / "README.md").read_text(encoding="utf-8")
    assert f"| pass@1 | {SCORES['pass@1']['base']:.3f} | {SCORES['pass@1']['novel']:.3f} |" in text


def test_the_card_is_the_one_that_the_code_writes():
    params = load_params(BaseModelParams, ROOT / "params.yaml")
    text = (ROOT / "models" / "fieldguide" / "README.md").read_text(encoding="utf-8")
    assert text == card(params, SCORES, minutes=9, parameters=2_000_000)


@pytest.mark.slow
def test_the_base_model_scores_what_its_card_says():
    scores = evaluate_base_model(str(ROOT / "models" / "fieldguide"), 2, seeds=(0,), per_class=3)
    for way in ("pass@1", "pass@K", "one_step", "vote", "two_step"):
        # 72 of the 288 images of each subset: three standard errors of an accuracy near one half.
        assert scores[way]["base"] == pytest.approx(SCORES[way]["base"], abs=0.18), way
        assert scores[way]["novel"] == pytest.approx(SCORES[way]["novel"], abs=0.18), way
    assert scores["verdicts"] == SCORES["verdicts"]
