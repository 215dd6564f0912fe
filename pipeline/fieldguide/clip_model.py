"""Train a small CLIP on drawn birds, and write what distinguishes their species: baselines for the field guide.

A minute on two cores. The model is not committed: CLIP, CoOp and FuDD on the field guide need it (docs/method.md).
"""

import csv
import io
import math
import random
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.cli import run
from pipeline.core.files import whole_folder, write_text
from pipeline.core.params import load_params
from pipeline.datasets.drawing import SIZE, Bird, draw, random_bird
from pipeline.datasets.species import MARKS, SPECIES, Species
from pipeline.engines.common.loading import computes_in_bfloat16
from pipeline.fieldguide.base_model import BaseModelParams

BIRDS, BATCH, RATE = 4800, 128, 1e-3
WIDTH, LONGEST = 128, 32
SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
DESCRIPTIONS = "descriptions.csv"


def caption(bird: Bird, rng: random.Random) -> str:
    """The caption of a training picture: its name, or its genus and some of its marks."""
    if rng.random() < 1 / 3:
        return f"a photo of a {bird.species.name}, a type of bird."
    return description(bird.species.genus.name, *rng.sample(list(bird.marks.values()), rng.randint(1, 3)))


def description(noun: str, *marks: str) -> str:
    """The caption that names these marks."""
    return f"a photo of a {noun}, {', '.join(marks)}."


def differences(one: Species, other: Species) -> list[str]:
    """Descriptions of photos of `one` by what distinguishes it from `other`: a mark each, or the genus."""
    if one.genus != other.genus:
        return [f"a photo of a {one.genus.name}, a type of bird."]
    return [description(one.genus.name, mark) for mark in one.marks if mark not in other.marks]


def descriptions() -> str:
    """The differences of all pairs, as a CSV file for fudd.descriptions."""
    content = io.StringIO()
    rows = csv.writer(content, lineterminator="\n")
    rows.writerow(("name", "other", "description"))
    for one, other in permutations(SPECIES, 2):
        rows.writerows((one.name, other.name, text) for text in differences(one, other))
    return content.getvalue()


def new_tokenizer() -> Any:
    """One token per word of the captions."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {"a", "photo", "of", "type", "bird", ".", ","}
    words |= {word for species in SPECIES for word in species.name.split()}
    words |= {form for forms in MARKS.values() for form in forms}
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    splits = [(r"\s+", "removed"), (r"[.,]", "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(at), how) for at, how in splits])
    marks = [(name, vocabulary[name]) for name in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=LONGEST,
    )


def new_model(tokenizer: Any, seed: int) -> Any:
    """A `CLIPModel` of 0.9 million parameters with random weights."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4, "projection_dim": WIDTH}
    text = {
        "num_hidden_layers": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LONGEST,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"num_hidden_layers": 4, "image_size": SIZE, "patch_size": 14}
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=shape | text, vision_config=shape | vision, projection_dim=WIDTH)
    return CLIPModel._from_config(config, attn_implementation="eager")


def train_clip(
    steps: int,
    seed: int,
    threads: int,
    birds: int = BIRDS,
    rate: float = RATE,
    report: Callable[[str], None] = print,
) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor, after `steps` steps of the contrastive loss over `birds` pictures.

    Equal captions in a batch share the probability, since each fits the pictures of all.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    if threads:
        torch.set_num_threads(threads)
    rng, tokenizer = random.Random(seed), new_tokenizer()
    images = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    pool = [random_bird(SPECIES[i % len(SPECIES)], "clip", i // len(SPECIES)) for i in range(birds)]
    chunks = [[draw(bird) for bird in pool[i : i + 400]] for i in range(0, birds, 400)]
    pixels = torch.cat([images(chunk, return_tensors="pt")["pixel_values"] for chunk in chunks])
    model = new_model(tokenizer, seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = rate * min(1, step / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        indices = [rng.randrange(birds) for _ in range(BATCH)]
        texts = [caption(pool[i], rng) for i in indices]
        same = torch.tensor([[float(a == b) for b in texts] for a in texts])
        same /= same.sum(dim=1, keepdim=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16()):
            logits = model(pixel_values=pixels[indices], **tokenizer(texts, padding=True, return_tensors="pt"))
        logits = logits.logits_per_image.float()
        loss = (cross_entropy(logits, same) + cross_entropy(logits.T, same)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            report(f"step {step}/{steps}  loss {loss.item():.3f}")
    return model.eval(), tokenizer, images


def main(
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("models/fieldguide-clip"),
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps, 128 birds each.")] = 600,
) -> None:
    """Train a small CLIP on drawn birds, and write what distinguishes their species: baselines for the field guide."""
    params, start = load_params(BaseModelParams), time.perf_counter()
    parts = train_clip(steps, params.seed, params.threads)
    with whole_folder(out) as folder:
        for part in parts:
            part.save_pretrained(folder)
        write_text(folder / DESCRIPTIONS, descriptions())
    print(f"{out}: written after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    run(main, BaseModelParams)
