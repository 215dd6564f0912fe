"""How fast K answers are drawn, by our engine and by `generate`, and what the draw cache costs and survives.

    python bench/sampling.py            writes bench/results/sampling.md; about fifteen minutes on two cores
    python bench/sampling.py --engine   the engine alone: needs only torch, transformers, numpy and pillow

Our engine and the two peers alternate on the same images in one process; a figure is the median, over the rounds, of
the ratio within a round. On a CUDA device the models run in bfloat16 with sdpa, and the full geometry of Qwen2.5-VL-7B
with random weights is measured too, for speed only. The floor is the time that the arithmetic and the bytes of weights,
keys and values would take at the rates that the same device reaches in a matrix product and a copy: of the forward
passes that ours makes, and of those that a row for each draw would need, where ours has one for all that are alike.
"""

import argparse
import functools
import hashlib
import io
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.core.engine import Request, Sampler
from pipeline.core.pictures import picture
from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.species import SPECIES
from pipeline.engines.common.patch_embedding import use_patch_products
from pipeline.engines.local import decoding
from pipeline.engines.local.decoding import Step
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.engines.local.weight_layout import use_column_major

K = 20
FIELD_GUIDE = str(ROOT / "models" / "fieldguide")
QUESTION = "Which bird is this ?"
SAMPLER = Sampler(
    temperature=1.0,
    top_p=0.95,
    top_k=50,
    repetition_penalty=1.0,
    penalize_prompt=True,
    max_new_tokens=16,
    stop=(),
    seed=0,
)
PIXELS = 336
WIDE_TOKENS = 32  # of each completion; the random model hardly ever ends one by itself

# Text: width, layers, heads, key-value heads, inner width, vocabulary. Pictures: width, layers, heads, inner width.
WIDE = ((512, 12, 8, 2, 1408, 32_000), (256, 8, 8, 704))
QWEN_7B = ((3584, 28, 28, 4, 18_944, 152_064), (1280, 32, 16, 3420))


# Models and images


def birds(count: int, pixels: int) -> list[Request]:
    """Test birds of the field guide, enlarged to `pixels`."""
    requests = []
    for number in range(count):
        species = SPECIES[number * 7 % len(SPECIES)]
        image, buffer = draw(random_bird(species, "test", number)).resize((pixels, pixels)), io.BytesIO()
        image.save(buffer, "PNG")
        image_id = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
        requests.append(Request(image_id, buffer.getvalue(), QUESTION, range(K)))
    return requests


def random_model(processor: Any, sizes: Any, dtype: Any, device: str) -> Any:
    """A Qwen2.5-VL of the given sizes with random weights."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    token = processor.tokenizer.convert_tokens_to_ids
    (width, layers, heads, groups, inner, vocabulary), (vision_width, vision_layers, vision_heads, vision_inner) = sizes
    pairs = width // heads // 2
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": groups,
            "max_position_embeddings": 32_768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [pairs // 4, pairs * 3 // 8, pairs * 3 // 8],
            },
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<pad>"),
            "bos_token_id": None,
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": vision_width,
            "intermediate_size": vision_inner,
            "num_heads": vision_heads,
            "out_hidden_size": width,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [n for n in range(vision_layers) if n % 8 == 7],
        },
        **{f"{name}_token_id": token(f"<|{word}|>") for name, word in PLACEHOLDERS.items()},
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = token("<pad>")
    return model.eval()


PLACEHOLDERS = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}


def field_guide(device: str, rows: int) -> TransformersEngine:
    dtype, attention = ("bfloat16", "sdpa") if device == "cuda" else ("float32", "eager")
    return TransformersEngine(FIELD_GUIDE, dtype, attention, rows, 10**6, THREADS)


def wide(device: str, sizes: Any, rows: int) -> TransformersEngine:
    """An engine on a random model; its name is not used."""
    import torch

    engine = field_guide(device, rows)
    engine.processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": PIXELS * PIXELS}
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    engine.model = random_model(engine.processor, sizes, dtype, device)
    use_patch_products(engine.model)  # as when a model is loaded
    use_column_major(engine.model)
    return engine


THREADS = min(os.cpu_count() or 1, 16)


# Engines


def ours(engine: TransformersEngine, requests: list[Request], sampler: Sampler) -> int:
    return sum(len(batch) for batch in engine.draw(requests, sampler))


def generate(engine: TransformersEngine, requests: list[Request], sampler: Sampler, images: int) -> int:
    """The peer: transformers' generate with num_return_sequences, with `images` images per batch."""
    import torch

    draws = 0
    for start in range(0, len(requests), images):
        batch = requests[start : start + images]
        inputs = engine.reader.inputs(batch, [picture(request.image) for request in batch])
        with torch.inference_mode():
            out = engine.model.generate(
                **inputs,
                do_sample=True,
                temperature=sampler.temperature,
                top_p=sampler.top_p,
                top_k=sampler.top_k,
                repetition_penalty=sampler.repetition_penalty,
                num_return_sequences=K,
                max_new_tokens=sampler.max_new_tokens,
            )
        draws += len(engine.processor.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :]))
    return draws


class ForwardCounter:
    """Counts what the model's forward passes do: prompt tokens read, bytes touched, operations."""

    def __init__(self, model: Any):
        self.model, self.forward = model, model.forward
        self.prompt_tokens, self.floor = 0, 0.0
        config = model.config.get_text_config()
        head = config.hidden_size // config.num_attention_heads
        self.layers, self.queries = config.num_hidden_layers, config.num_attention_heads * head
        width = next(model.parameters()).element_size()
        self.token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * head * width
        self.weights = sum(p.numel() for name, p in model.named_parameters() if "visual" not in name)
        self.vision_weights = sum(p.numel() for name, p in model.named_parameters() if "visual" in name)
        self.width = width

    def __enter__(self) -> "ForwardCounter":
        # generate looks at the signature of what it calls.
        self.model.forward = functools.wraps(self.forward)(lambda *args, **kwargs: self.count(*args, **kwargs))
        return self

    def __exit__(self, *_: Any) -> None:
        self.model.forward = self.forward

    def count(self, *args: Any, **kwargs: Any) -> Any:
        rows, tokens = kwargs["input_ids"].shape
        prefix, pixels = kwargs.get("prefix"), kwargs.get("pixel_values")
        before = kwargs["past_key_values"].get_seq_length()
        self.prompt_tokens += rows * tokens if tokens > 1 else 0
        cached = rows * (before + tokens) + (prefix.mask.numel() if prefix else 0)
        length = before + tokens + (prefix.mask.shape[1] if prefix else 0)
        operations = 2 * self.weights * rows * tokens + 4 * self.layers * self.queries * rows * tokens * length
        operations += 2 * self.vision_weights * len(pixels) if pixels is not None else 0
        moved = (
            self.width * (self.weights + (self.vision_weights if pixels is not None else 0)) + self.token_bytes * cached
        )
        self.floor += max(operations / PEAK["operations"], moved / PEAK["bytes"])
        return self.forward(*args, **kwargs)


def rows_apart(row: Any, token: Any, count: int) -> tuple[Step, Any]:
    """In place of `next_rows`: a row for each draw, whatever it has in common with others."""
    return Step(row, token), token.new_tensor(range(len(token)))


PEAK: dict[str, float] = {}


def measure_device(device: str) -> None:
    """Operations and bytes per second in a large matrix product and a large copy."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    side, size = (8192, 2**30) if device == "cuda" else (2048, 2**26)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    flat = torch.ones(size, device=device, dtype=torch.uint8)
    copy = torch.empty_like(flat)
    PEAK["operations"] = 2 * side**3 / best(lambda: a @ b, device)
    PEAK["bytes"] = 2 * size / best(lambda: copy.copy_(flat), device)


def best(call: Any, device: str, times: int = 5) -> float:
    return min(seconds(call, device)[0] for _ in range(times))


def seconds(call: Any, device: str) -> tuple[float, Any]:
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = call()
    wait()
    return time.perf_counter() - start, result


def race(
    name: str,
    engine: TransformersEngine,
    requests: list[Request],
    sampler: Sampler,
    device: str,
    rounds: int,
    batches: list[int],
) -> list[str]:
    """Ours against one image at a time and against the best of several batch sizes, in turns."""
    ours(engine, requests[:2], sampler)
    generate(engine, requests[:2], sampler, 2)
    times = {size: seconds(lambda size=size: generate(engine, requests, sampler, size), device)[0] for size in batches}
    images = min(times, key=times.get)
    alone, batched, rates, shares, shares_apart = [], [], [], [], []
    with patch.object(decoding, "next_rows", rows_apart), ForwardCounter(engine.model) as apart:
        ours(engine, requests, sampler)
    for _ in range(rounds):
        with ForwardCounter(engine.model) as counter:
            mine, draws = seconds(lambda: ours(engine, requests, sampler), device)
        assert draws == len(requests) * K
        one = seconds(lambda: generate(engine, requests, sampler, 1), device)[0]
        many = seconds(lambda: generate(engine, requests, sampler, images), device)[0]
        alone.append(one / mine)
        batched.append(many / mine)
        rates.append(draws / mine)
        shares.append(counter.floor / mine)
        shares_apart.append(apart.floor / mine)
    with ForwardCounter(engine.model) as peers:
        generate(engine, requests[:2], sampler, 2)
    with ForwardCounter(engine.model) as mine_too:
        ours(engine, requests[:2], sampler)
    read = mine_too.prompt_tokens / peers.prompt_tokens
    rate, share = statistics.median(rates), statistics.median(shares)
    print(name, alone, batched, rates, shares, shares_apart, flush=True)
    return [
        f"| {name}: draws/s, ours | {rate:,.0f} |",
        f"| {name}: over one image at a time | {statistics.median(alone):.1f}× ({min(alone):.1f}–{max(alone):.1f}) |",
        f"| {name}: over batched `generate`, {images} images at once, the best of {batches} | "
        f"{statistics.median(batched):.1f}× ({min(batched):.1f}–{max(batched):.1f}) |",
        f"| {name}: prompt tokens read per image, ours over theirs | 1/{1 / read:.0f} |",
        f"| {name}: share of the device's floor that ours reaches | {share:.0%} |",
        f"| {name}: floor of a row for each draw, over the time of ours | {statistics.median(shares_apart):.0%} |",
    ]


def engine_lines(device: str) -> list[str]:
    """Speed on each model, and how often the batch size changes a draw."""
    import torch

    torch.set_num_threads(THREADS)
    measure_device(device)
    small, rounds = birds(120, 84), 5
    engine = field_guide(device, 1200)
    lines = race("field guide", engine, small, SAMPLER, device, rounds, [15, 60])
    texts = []
    for rows in (K, 32 * K):
        engine.max_rows = rows
        texts.append({(d.image_id, d.draw): d.text for batch in engine.draw(small, SAMPLER) for d in batch})
    differences = sum(texts[0][key] != text for key, text in texts[1].items())
    lines.append(
        f"| field guide: draws that differ between 1 and 32 images at once, {engine.dtype} | "
        f"{differences} of {len(texts[0]):,} |"
    )
    long = replace(SAMPLER, max_new_tokens=WIDE_TOKENS)
    question = " ".join([QUESTION] * 58)
    pictures = [replace(request, question=question) for request in birds(64 if device == "cuda" else 4, PIXELS)]
    engine = wide(device, WIDE, 1280)
    name = f"wider ({engine.reader.length(pictures[0])} prompt tokens, {WIDE_TOKENS} drawn)"
    lines += race(name, engine, pictures, long, device, 3, [8, 32] if device == "cuda" else [2, 4])
    if device == "cuda":
        del engine
        torch.cuda.empty_cache()
        engine = wide(device, QWEN_7B, 1280)
        long = replace(SAMPLER, max_new_tokens=128)
        lines += race("Qwen2.5-VL-7B geometry, 128 drawn", engine, pictures, long, device, 2, [4, 16])
    return lines


# The draw cache


def stage(folder: str) -> None:
    """The sample stage, in `folder`."""
    os.chdir(folder)
    os.environ["DVC_ROOT"] = folder
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import transformers

    transformers.logging.disable_progress_bar()
    from pipeline.stages import sample

    sample.main(Path("images.parquet"), Path("classes.parquet"), Path("samples.parquet"), forget=False)


def kill_line(trials: int, rng: random.Random) -> str:
    """The sample stage killed at a random moment and run again, `trials` times: are the bytes the same?"""
    import multiprocessing

    from pipeline.core import tables
    from pipeline.fieldguide.rendering import render_tables

    # A server that has imported the packages, so that a child starts at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "transformers", "polars", "pipeline.stages.sample", "pipeline.engines.local.tokens"]
    )
    with tempfile.TemporaryDirectory() as scratch:
        classes, images = render_tables(4, 1, 1)
        settings = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("max_rows: 1200", "max_rows: 120")
        settings = settings.replace("model: models/fieldguide", f"model: {FIELD_GUIDE}")

        def fresh(name: str) -> Path:
            folder = Path(scratch) / name
            folder.mkdir()
            (folder / "params.yaml").write_text(settings, encoding="utf-8")
            tables.write(tables.CLASSES, classes, folder / "classes.parquet")
            tables.write(tables.IMAGES, images, folder / "images.parquet")
            return folder

        def run(folder: Path, limit: float | None) -> bool:
            """Whether the stage ended within `limit` seconds."""
            child = context.Process(target=stage, args=(str(folder),))
            child.start()
            child.join(limit)
            if child.is_alive():
                child.kill()
                child.join()
                return False
            assert child.exitcode == 0, f"the stage failed in {folder}"
            return True

        run(fresh("warm"), None)
        whole = fresh("whole")
        start = time.perf_counter()
        run(whole, None)
        length = time.perf_counter() - start
        expected = (whole / "samples.parquet").read_bytes()
        equal = kills = with_draws = 0
        while kills < trials:
            folder = fresh(f"trial{kills}")
            if run(folder, rng.uniform(0, length)):
                shutil.rmtree(folder)
                continue
            kills += 1
            with_draws += any((folder / ".work").glob("draws/*/*.parquet"))
            run(folder, None)
            equal += (folder / "samples.parquet").read_bytes() == expected
            shutil.rmtree(folder)
    print(f"killed {kills}, of these with cached draws {with_draws}, equal {equal}", flush=True)
    what = "sample stage killed at a random moment, then run again: same bytes as undisturbed"
    return f"| {what} | {equal} of {kills}; draws were in the cache in {with_draws} of them |"


def full_cache_line(count: int) -> str:
    """Seconds to get `count` draws that are all in the draw cache."""
    from pipeline.core.engine import Completion
    from pipeline.engines.common.draw_cache import CachingEngine

    class ConstantEngine:
        def fingerprint(self) -> dict[str, str]:
            return {"engine": "ready"}

        def draw(self, requests: Any, sampler: Sampler) -> Any:
            for start in range(0, len(requests), 60):
                yield [
                    Completion(r.image_id, d, f"<think> {r.image_id} {d} </think> <answer> a bird </answer>", 12, True)
                    for r in requests[start : start + 60]
                    for d in r.draws
                ]

    requests = [
        Request(hashlib.sha256(str(n).encode()).hexdigest()[:16], b"", QUESTION, range(K)) for n in range(count // K)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for _ in CachingEngine(ConstantEngine(), Path(scratch)).draw(requests, SAMPLER):
            pass
        start = time.perf_counter()
        hits = sum(len(batch) for batch in CachingEngine(ConstantEngine(), Path(scratch)).draw(requests, SAMPLER))
        spent = time.perf_counter() - start
        assert hits == count
    return f"| extra time of a run with all of its {count:,} draws in the cache | {spent:.1f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="store_true", help="the engine alone, without the draw cache")
    parser.add_argument("--kills", type=int, default=50, help="number of kills; default 50")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "sampling.md")
    args = parser.parse_args()
    with_cache = not args.engine and find_spec("polars") is not None
    # Before anything is computed in this process: the stage's processes are forked from a server that it starts.
    lines = [kill_line(args.kills, random.Random(0)), full_cache_line(100_000)] if with_cache else []

    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines = engine_lines(device) + lines
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPU cores, {platform.machine()}"
    rates = f"{PEAK['operations'] / 1e9:,.0f} billion operations/s, {PEAK['bytes'] / 1e9:,.0f} GB/s"
    versions = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    heading = f"`python bench/sampling.py` on {machine} ({rates} measured), {versions}; K = {K}:"
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text("\n".join([heading, "", "| what | measured |", "|---|---|", *lines, ""]), encoding="utf-8")
    print(args.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
