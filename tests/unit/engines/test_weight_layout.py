"""Weights by column, for inference on a CPU."""

import pytest
import torch
from support.engines import engine_of

from pipeline.engines.common.loading import load_model
from pipeline.engines.local.weight_layout import use_column_major

pytestmark = pytest.mark.slow


def test_names_shapes_and_values_stay(base_model):
    stock, ours = load_model(base_model, "float32", "eager"), engine_of(base_model).model
    assert list(ours.state_dict()) == list(stock.state_dict())
    for name, weights in ours.state_dict().items():
        assert torch.equal(weights, stock.state_dict()[name]), name
    weights = ours.model.language_model.layers[0].mlp.gate_proj.weight
    assert weights.stride() == (1, weights.shape[0])


def test_the_output_layer_and_the_embedding_stay_as_they_are(base_model):
    model = engine_of(base_model).model
    assert model.get_output_embeddings().weight.is_contiguous()
    assert model.get_input_embeddings().weight.is_contiguous()


def test_16_bits_stay_as_they_are(base_model):
    model = load_model(base_model, "bfloat16", "eager")
    use_column_major(model)
    assert all(weights.is_contiguous() for weights in model.parameters())
