"""A scripted engine, with the classes that it speaks of."""

from dataclasses import replace

import polars as pl

from pipeline.core import tables
from pipeline.core.engine import Completion

CLASSES = pl.DataFrame(
    [
        {
            "dataset": "d",
            "class_id": 0,
            "name": "red wren",
            "subset": "base",
            "aliases": ["Troglodytes ruber"],
            "noun": "bird",
        },
        {"dataset": "d", "class_id": 1, "name": "blue wren", "subset": "base", "aliases": [], "noun": "bird"},
        {"dataset": "d", "class_id": 2, "name": "grey owl", "subset": "novel", "aliases": [], "noun": "bird"},
        {"dataset": "d", "class_id": 3, "name": "snow owl", "subset": "novel", "aliases": [], "noun": "bird"},
    ],
    schema=tables.CLASSES.schema,
)


def said(name):
    return f"<think>t</think><answer>{name}</answer>"


class Scripted:
    """An engine that answers what it is told: open[image] for step 1, choice[image] for step 2."""

    def __init__(self, draws, choices):
        self.draws, self.choices, self.asked_twice = draws, choices, []

    def draw(self, requests, sampler):
        for request in requests:
            if "\n" in request.question:
                self.asked_twice.append(request.image_id)
            batch = []
            for draw in request.draws:
                choice = "\n" in request.question
                text = self.choices[request.image_id] if choice else self.draws[request.image_id][max(draw, 0)]
                text = text(request.question) if callable(text) else text
                if isinstance(text, Completion):
                    batch.append(replace(text, image_id=request.image_id, draw=draw))
                else:
                    batch.append(Completion(request.image_id, draw, text, 3, finished=not text.endswith("…")))
            yield batch
