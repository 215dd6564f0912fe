"""Engines and samplers that several tests draw with."""

from functools import wraps

from pipeline.core.engine import Sampler
from pipeline.core.pictures import picture
from pipeline.engines.local.transformers import TransformersEngine

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
    return TransformersEngine(str(model), "float32", "eager", max_rows=max_rows, max_tokens=max_tokens, threads=0)


def texts(engine, requests, sampler=SAMPLER):
    completions = [completion for batch in engine.draw(requests, sampler) for completion in batch]
    assert len({(one.image_id, one.draw) for one in completions}) == len(completions), "every draw once"
    return {(one.image_id, one.draw): one.text for one in completions}


def agreement(some, others):
    assert some.keys() == others.keys()
    return sum(some[key] == others[key] for key in some) / len(some)


def generate(engine, request, **settings):
    """The completion of one request by transformers' own `generate`, as token ids."""
    inputs = engine.reader.inputs([request], [picture(request.image)])
    out = engine.model.generate(**inputs, max_new_tokens=SAMPLER.max_new_tokens, **settings)
    prompt = 1 if engine.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return out[0, prompt:].tolist()


def decode(engine, tokens):
    return engine.processor.tokenizer.decode([t for t in tokens if t not in engine._end_tokens])


def forward_calls(engine, monkeypatch):
    """Shapes of (token ids, whether pixels came along) of every forward pass from here on."""
    assert engine.reader, "the model is tried before"
    calls, forward = [], engine.model.forward

    @wraps(forward)  # `generate` looks at its signature
    def record(*args, **kwargs):
        calls.append((tuple(kwargs["input_ids"].shape), kwargs.get("pixel_values") is not None))
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine.model, "forward", record)
    return calls
