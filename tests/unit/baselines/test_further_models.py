"""The entries of evaluate.models."""

import pytest

from pipeline.baselines.further_models import parse_models
from pipeline.core.params import UserError


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "clip:openai/clip-vit-base-patch16",
            ("clip", "openai/clip-vit-base-patch16", "", "clip_clip-vit-base-patch16"),
        ),
        ("models/other/", ("", "models/other/", "", "other")),
        ("Qwen/Qwen2.5-VL-3B-Instruct", ("", "Qwen/Qwen2.5-VL-3B-Instruct", "", "Qwen2-5-VL-3B-Instruct")),
        ("gpt@https://api.example/v1", ("", "gpt", "https://api.example/v1", "gpt")),
        ("org/m@http://localhost:8000/v1", ("", "org/m", "http://localhost:8000/v1", "m")),
        ("fudd:models/x", ("fudd", "models/x", "", "fudd_x")),
    ],
)
def test_an_entry_has_kind_source_endpoint_and_label(entry, expected):
    (model,) = parse_models((entry,))
    assert (model.kind, model.source, model.endpoint, model.label) == expected


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("a/m", "b/m"), "another model is called m too"),
        (("models/trained",), "another model is called trained too"),
        (("clip:",), "each entry must be a model folder"),
        (("@http://x/v1",), "each entry must be a model folder"),
        (("clip:m@http://x/v1",), "each entry must be a model folder"),
    ],
)
def test_labels_that_are_not_unique_and_incomplete_entries_are_refused(entries, message):
    with pytest.raises(UserError, match=message):
        parse_models(entries)
