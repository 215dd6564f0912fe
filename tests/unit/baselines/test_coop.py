"""Prompt learning: the context starts as its words, and is all that is learned."""

import re
from dataclasses import replace

import pytest
import torch

from pipeline.baselines.classifier import shots
from pipeline.baselines.clip import Clip
from pipeline.baselines.coop import Context
from pipeline.core.params import UserError
from pipeline.datasets.species import SPECIES

pytestmark = pytest.mark.slow


def test_the_context_starts_as_the_words_themselves(clip_folder):
    clip, names = Clip(str(clip_folder)), [species.name for species in SPECIES[:5]]
    context = Context(clip, "a photo of a")
    assert torch.allclose(context.classes(names), clip.texts([f"a photo of a {name}." for name in names]), atol=1e-6)
    clip.texts(["a photo of a bird."])
    assert not clip.model.text_model.embeddings.token_embedding._forward_hooks, "the model reads texts as before"


def test_only_the_context_is_learned_and_twice_the_same(clip_folder):
    clip, names = Clip(str(clip_folder)), [SPECIES[i].name for i in (0, 8, 16)]  # of three genera
    context = Context(clip, "a photo of a")
    before = {name: weight.clone() for name, weight in clip.model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(12, 128, generator=generator), dim=-1)
    labels = torch.arange(12) % 3
    start = context.vectors.detach().clone()
    losses = context.learn(images, labels, names, epochs=30, rate=0.5, seed=0)
    assert losses[-1] < losses[0] - 0.05, "a context can be fitted even to random vectors"
    assert not torch.equal(context.vectors, start)
    assert all(torch.equal(weight, before[name]) for name, weight in clip.model.state_dict().items())
    again = Context(clip, "a photo of a")
    assert again.learn(images, labels, names, epochs=30, rate=0.5, seed=0) == losses
    assert torch.equal(again.vectors, context.vectors)


def test_learning_corrects_a_misleading_context(answer, params, share, capsys):
    """On the training images: 36 others are too few."""
    misleading = replace(params, context="finch finch finch finch", rate=0.3, epochs=1)
    learned = replace(misleading, epochs=30)
    before, after = (answer("coop", one, "train").filter(subset="base") for one in (misleading, learned))
    assert before.height == 192 and share(after) > share(before)
    first, last = re.findall(r"loss ([\d.]+) to ([\d.]+)", capsys.readouterr().out)[1]
    assert float(last) < float(first) - 0.15


def test_a_context_without_words_is_refused(clip_folder):
    with pytest.raises(UserError, match="the tokenizer splits these words differently"):
        Context(Clip(str(clip_folder)), "")


def test_shots_are_of_base_classes_and_drawn_by_seed(world):
    classes, images = world
    rows = shots(images, classes, 3, seed=1)
    counts = rows.group_by("class_id").len()
    assert counts["len"].to_list() == [3] * 24 and set(rows["split"]) == {"train"}
    assert set(rows["class_id"]) == set(classes.filter(subset="base")["class_id"])
    assert rows["image_id"].to_list() != shots(images, classes, 3, seed=2)["image_id"].to_list()
    assert shots(images, classes, 0, seed=1).height == 24 * 8
