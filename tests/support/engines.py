"""Engines and samplers that several tests draw with."""

from pipeline.core.engine import Sampler
from pipeline.engines.transformers import TransformersEngine

SAMPLER = Sampler(
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    repetition_penalty=1.0,
    penalize_prompt=False,
    max_new_tokens=16,
    stop=(),
    seed=0,
)


def engine_of(model, max_rows=400, max_tokens=100_000):
    return TransformersEngine(str(model), "float32", "eager", max_rows=max_rows, max_tokens=max_tokens, threads=2)
