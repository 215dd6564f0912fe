"""The scores on the base model's card, computed by the code of the pipeline."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.species import SPECIES
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.evaluation import metrics
from pipeline.evaluation.ways import prepare
from pipeline.fieldguide.demonstrations import NOUN, STYLE, random_options, verdicts
from pipeline.fieldguide.rendering import render_tables
from pipeline.method.class_lists import ClassLists
from pipeline.method.predictions import prediction_table
from pipeline.method.prompts import chat, choice_question, letters
from pipeline.method.two_steps import TwoStepParams, two_steps

SEEDS = (0, 1, 2)


def evaluate_base_model(model: str, threads: int, seeds: Sequence[int] = SEEDS, per_class: int = 12) -> dict[str, Any]:
    """Metrics of `model` on the test images, with the settings named on its card.

    Args:
        seeds: of draws and option order; the metrics are over the answers of all of them.
        per_class: test images of each class.
    """
    params = TwoStepParams(
        num_samples=20,
        seed=0,
        prompt=STYLE,
        class_list="none",
        temperature=1.0,
        top_p=0.95,
        top_k=50,
        repetition_penalty=1.0,
        penalize_prompt=True,
        stop=(),
        max_new_tokens=16,
        max_error_rate=0.0,
        topk=5,
        mass=1.0,
        greedy_repetition_penalty=1.0,
        choice_max_new_tokens=56,
        choice_repetition_penalty=1.0,
    )
    classes, images = render_tables(train=0, val=0, test=per_class)
    engine = TransformersEngine(model, "float32", "eager", max_rows=1200, max_tokens=100_000, threads=threads)
    lists, runs = ClassLists(classes), [replace(params, seed=seed) for seed in seeds]
    predictions = [prediction_table(*two_steps(engine, images, lists, run), "base", run.max_error_rate) for run in runs]
    rows = pl.concat(predictions)
    return {
        **metrics.averages(metrics.scores(prepare(rows))),
        "letter_choice": metrics.letter_choice(rows),
        "verdicts": follows_verdicts(engine),
    }


def follows_verdicts(engine: Any, per_species: int = 5) -> dict[str, Any]:
    """The share of questions in which the likeliest token after correct verdicts is the letter that follows."""
    import torch

    rng = random.Random(0)
    right, total = 0, 0
    for species in SPECIES:
        texts, pictures, expected = [], [], []
        for number in range(per_species):
            bird = random_bird(species, "test", number)
            options = random_options(species, rng)[:5]
            if species not in options:
                options[-1] = species
            question = choice_question(STYLE, NOUN, [option.name for option in options])
            prompt = engine.processor.apply_chat_template(chat(question), add_generation_prompt=True, tokenize=False)
            texts.append(f"{prompt}<think> {verdicts(bird, options)} </think> <answer>")
            pictures.append(draw(bird))
            expected.append(letters(len(options))[options.index(species)])
        inputs = engine.processor(text=texts, images=pictures, padding=True, return_tensors="pt").to(
            engine.model.device
        )
        with torch.inference_mode():
            likeliest = engine.model(**inputs).logits[:, -1].argmax(-1).tolist()
        tokens = engine.processor.tokenizer.convert_ids_to_tokens(likeliest)
        right += sum(a == b for a, b in zip(tokens, expected, strict=True))
        total += per_species
    return {"consistent": round(right / total, 4), "cases": total}
