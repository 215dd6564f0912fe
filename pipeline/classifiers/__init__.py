"""Models without a language model: they compare a picture with texts. Baselines, named in evaluate.models."""
