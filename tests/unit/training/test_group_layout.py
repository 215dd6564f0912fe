"""The slots of prompts and completions in a shared pass, and the pictures of groups."""

import pytest
import torch

from pipeline.training.shared_prompts.layout import layout_of
from pipeline.training.shared_prompts.pictures import GroupProcessor, by_group


def test_completions_fill_the_slots_behind_all_prompts_without_padding():
    layout = layout_of(2, torch.tensor([3, 1, 1, 3]), generations=2)
    # Two sequences of a prompt and four slots; the third completion stands behind the prompt of the first group.
    assert layout.reach.tolist() == [[0, 1, 2, 3, 4], [0, 1, 5, 5, 5], [6, 7, 8, 8, 8], [6, 7, 9, 10, 11]]
    assert layout.tokens.tolist() == [[0, 1, 2, 3], [6, 9, 10, 11]]
    assert layout.before.tolist() == [[1, 2, 3], [1, 5, 5], [7, 8, 8], [7, 9, 10]]


def test_each_token_is_found_again_in_its_slot():
    lengths = torch.randint(1, 9, (12,), generator=torch.Generator().manual_seed(0))
    layout = layout_of(5, lengths, generations=3)
    table = torch.arange(12 * layout.completion).view(12, -1)
    sequences = torch.cat([torch.full((4, 5), -1), layout.by_slot(table)], dim=1)
    found = layout.by_completion(sequences[:, None, :, None], layout.slots)[:, 0, :, 0]
    counts = torch.arange(layout.completion) < lengths[:, None]
    assert torch.equal(found[counts], table[counts])


def test_a_completion_longer_than_all_others_together_has_room_for_its_mask():
    layout = layout_of(2, torch.tensor([7, 1, 1, 1]), generations=2)
    assert layout.tokens.shape == (2, 7)
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    assert layout.mask_of_completions(mask).shape == (4, 1, 7, 9)


def test_pictures_of_groups_are_those_of_their_first_completions():
    grids = torch.tensor([[1, 1, 2]] * 2 + [[1, 2, 2]] * 2)
    pictures = {
        "image_grid_thw": grids,
        "pixel_values": torch.arange(12)[:, None],
        "mm_token_type_ids": torch.arange(4)[:, None],
        "num_images": [1, 1, 1, 1],
        "pixel_attention_mask": None,
    }
    parts = {name: torch.cat(tensors).flatten().tolist() for name, tensors in by_group(pictures, 2).items()}
    assert parts == {
        "image_grid_thw": [1, 1, 2, 1, 2, 2],
        "pixel_values": [0, 1, 4, 5, 6, 7],
        "mm_token_type_ids": [0, 2],
    }


class Patches:
    """A processor whose pictures have as many patches as their name says; it counts what it prepares."""

    prepared = 0

    def __call__(self, images, text, **_):
        self.prepared += len(images)
        return {
            "input_ids": torch.tensor([[len(one)] for one in text]),
            "image_grid_thw": torch.tensor([[1, 1, count] for count in images]),
            "pixel_values": torch.cat([torch.full((count, 2), count) for count in images]),
        }


@pytest.mark.parametrize("counts", [(3, 1), (1, 1)])
def test_a_picture_is_prepared_once_for_its_group(counts):
    images, text = [counts[0]] * 2 + [counts[1]] * 2, ["a", "a", "bc", "bc"]
    plain, processor = Patches()(images, text), Patches()
    for_groups = GroupProcessor(processor, 2)(images=images, text=text)
    assert all(torch.equal(for_groups[name], value) for name, value in plain.items())
    assert processor.prepared == 2


def test_tiles_of_unknown_number_are_prepared_for_each_completion():
    def tiles(images, text, **_):
        return {"input_ids": torch.zeros(len(text), 1), "pixel_values": torch.ones(5 * len(images) + 1, 2)}

    for_groups = GroupProcessor(tiles, 2)(images=[1] * 4, text=["a"] * 4)
    assert len(for_groups["pixel_values"]) == 21
