"""Train the field guide's base model on drawn birds and written demonstrations of all 48 species.

Nine minutes on two cores. The result is committed; CONTRIBUTING.md has the command that rebuilds it.
"""

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.cli import run
from pipeline.core.files import whole_folder
from pipeline.core.params import key, load_params
from pipeline.datasets.drawing import Bird, draw, random_bird
from pipeline.datasets.species import SPECIES
from pipeline.engines.common.loading import computes_in_bfloat16, device
from pipeline.fieldguide.architecture import new_model, new_processor
from pipeline.fieldguide.demonstrations import Shortcuts, caption, choice, marks
from pipeline.method.prompts import chat

NO_LABEL = -100  # label of the tokens of the prompt, which have no loss


@dataclass(frozen=True)
class BaseModelParams:
    birds: int = key("fieldguide.birds", at_least=1)
    steps: int = key("fieldguide.steps", at_least=1)
    batch_size: int = key("fieldguide.batch_size", at_least=1)
    learning_rate: float = key("fieldguide.learning_rate", above=0)
    shortcut_caption: float = key("fieldguide.shortcut_caption", at_least=-1, at_most=1)
    shortcut_choice: float = key("fieldguide.shortcut_choice", at_least=-1, at_most=1)
    seed: int = key("fieldguide.seed", at_least=0)
    threads: int = key("engine.threads", at_least=0)


def training_example(bird: Bird, shortcuts: Shortcuts, rng: random.Random) -> tuple[str, str]:
    """A question about `bird` with its answer: its marks, its name or a choice, in the ratio 1 : 1 : 2."""
    kind = rng.random()
    if kind < 0.25:
        return marks(bird)
    return caption(bird, shortcuts.caption, rng) if kind < 0.5 else choice(bird, shortcuts.choice, rng)


class ExampleBatches:
    """Batches of training examples over a fixed pool of birds, whose pictures are drawn once."""

    def __init__(self, processor: Any, params: BaseModelParams):
        import torch

        self.processor, self.params = processor, params
        self.rng = random.Random(params.seed)
        species = sorted(SPECIES, key=lambda one: one.name)
        self.birds = [
            random_bird(species[i % len(species)], "pretrain", i // len(species)) for i in range(params.birds)
        ]
        chunks = [self.birds[i : i + 500] for i in range(0, len(self.birds), 500)]
        pixels = [processor.image_processor([draw(bird) for bird in chunk], return_tensors="pt") for chunk in chunks]
        self.grid = pixels[0]["image_grid_thw"][:1]
        self.patches = torch.cat([p["pixel_values"].to(torch.bfloat16) for p in pixels]).view(
            params.birds, -1, pixels[0]["pixel_values"].shape[-1]
        )

    def batch(self) -> dict[str, Any]:
        """Model inputs and labels of one step; sequences of shape (batch, longest)."""
        import torch

        params, tokenizer = self.params, self.processor.tokenizer
        shortcuts = Shortcuts(params.shortcut_caption, params.shortcut_choice)
        indices = [self.rng.randrange(params.birds) for _ in range(params.batch_size)]
        merged = int(self.grid.prod()) // self.processor.image_processor.merge_size**2
        sequences, labels = [], []
        for index in indices:
            question, answer = training_example(self.birds[index], shortcuts, self.rng)
            prompt = self.processor.apply_chat_template(chat(question), add_generation_prompt=True, tokenize=False)
            prompt = prompt.replace(self.processor.image_token, self.processor.image_token * merged)
            prompt_ids = tokenizer(prompt).input_ids
            answer_ids = tokenizer(f"{answer}{tokenizer.eos_token}").input_ids
            sequences.append(torch.tensor(prompt_ids + answer_ids))
            labels.append(torch.tensor([NO_LABEL] * len(prompt_ids) + answer_ids))
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad(sequences, batch_first=True, padding_value=tokenizer.pad_token_id)
        return {
            "input_ids": ids,
            "attention_mask": pad([torch.ones_like(s) for s in sequences], batch_first=True, padding_value=0),
            "mm_token_type_ids": (ids == self.processor.image_token_id).long(),
            "pixel_values": self.patches[indices].flatten(0, 1),
            "image_grid_thw": self.grid.repeat(len(indices), 1),
            "labels": pad(labels, batch_first=True, padding_value=NO_LABEL),
        }


def train_base_model(params: BaseModelParams, report: Callable[[str], None] = print) -> tuple[Any, Any]:
    """Processor and trained model: AdamW, warm-up over 5 % of the steps, then a cosine to zero, bf16 autocast."""
    import torch

    if params.threads:
        torch.set_num_threads(params.threads)
    processor = new_processor()
    model = new_model(processor.tokenizer, params.seed).to(device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / (0.05 * params.steps))
        return warm * 0.5 * (1 + math.cos(math.pi * step / params.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    batches = ExampleBatches(processor, params)
    for step in range(1, params.steps + 1):
        batch = {name: value.to(device()) for name, value in batches.batch().items()}
        with torch.autocast(device(), torch.bfloat16, enabled=computes_in_bfloat16()):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == params.steps:
            report(f"step {step}/{params.steps}  loss {loss.item():.3f}")
    return processor, model.eval()


def main(
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("models/fieldguide"),
) -> None:
    """Train the field guide's base model on drawn birds and written demonstrations of all 48 species."""
    import torch

    from pipeline.fieldguide.evaluation import evaluate_base_model

    params = load_params(BaseModelParams)
    start = time.perf_counter()
    processor, model = train_base_model(params)
    minutes = (time.perf_counter() - start) / 60
    with whole_folder(out) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        processor.save_pretrained(folder)
        scores = evaluate_base_model(str(folder), params.threads)
        (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card(params, scores, minutes, model.num_parameters()), encoding="utf-8")
    print(f"{out}: pass@1 {scores['pass@1']}, pass@20 {scores['pass@K']} on base, novel and their harmonic mean")


def card(params: BaseModelParams, scores: dict[str, Any], minutes: float, parameters: int) -> str:
    """The model card."""
    from pipeline.fieldguide.card import TEXT

    subsets = ("base", "novel", "hm")
    table = "\n".join(
        f"| {metric} | " + " | ".join(f"{scores[metric][subset]:.3f}" for subset in subsets) + " |"
        for metric in ("pass@1", "pass@K", "one_step", "vote", "two_step")
    )
    return TEXT.format(
        **vars(params),
        minutes=minutes,
        parameters=parameters / 1e6,
        table=table,
        **scores["letter_choice"],
        **scores["verdicts"],
    )


if __name__ == "__main__":
    run(main, BaseModelParams)
