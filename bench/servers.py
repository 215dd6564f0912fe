"""Whether a server draws what the engine in this process draws, and how fast: greedy answers, frequencies of classes.

    python bench/servers.py --command 'vllm serve {model} --served-model-name {model} --port {port}'

Takes the training images of data/images.parquet, the model and the settings of params.yaml. Greedy answers are compared
as texts, but for outer white space. Frequencies are compared by the sum over images of the total variation between the
two engines' K answers; under the hypothesis that both draw from the same distribution, the 2K answers of an image may
be exchanged between the engines, so the p-value is the share of such permutations with a sum at least as large. Adds a
section to bench/results/servers.md.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.core import tables
from pipeline.core.engine import GREEDY, Completion, Request
from pipeline.core.params import load_params
from pipeline.engines.common.draw_cache import CachingEngine
from pipeline.method.class_lists import ClassLists
from pipeline.stages.sample import SampleParams

PERMUTATIONS = 2_000
RESULTS = ROOT / "bench" / "results" / "servers.md"


def draw(engine, requests, sampler):
    """Texts by (image, draw), None for those that failed, and draws per second."""
    warm_up = replace(requests[0], image_id="warm-up", draws=[0])
    list(engine.draw([warm_up], sampler))  # starts the server, if there is one
    start = time.monotonic()
    texts = {
        (one.image_id, one.draw): None if one.error else one.text
        for batch in engine.draw(requests, sampler)
        for one in batch
    }
    return texts, len(texts) / (time.monotonic() - start)


def classes_of(texts, lists, datasets):
    """The classes that the draws of each image name, -1 for none."""
    classes = {}
    for (image_id, number), text in sorted(texts.items()):
        if number != GREEDY:
            completion = Completion(image_id, number, text or "", 0, True)
            class_id = lists.parse(completion, datasets[image_id], "base").class_id
            classes.setdefault(image_id, []).append(-1 if class_id is None else class_id)
    return classes


def total_variation(first, second):
    """Mean over images of the total variation between the frequencies of two lists of classes of one length."""
    counts = ((Counter(first[name]), Counter(second[name]), len(first[name])) for name in first)
    return float(np.mean([sum(abs(a[k] - b[k]) for k in a | b) / 2 / size for a, b, size in counts]))


def p_value(first, second, seed=0):
    """Share of the permutations whose variation is at least as large, the actual one included."""
    rng, actual, larger = np.random.default_rng(seed), total_variation(first, second), 1
    for _ in range(PERMUTATIONS):
        shuffled = {name: rng.permutation(first[name] + second[name]).tolist() for name in first}
        one = {name: row[: len(first[name])] for name, row in shuffled.items()}
        other = {name: row[len(first[name]) :] for name, row in shuffled.items()}
        larger += total_variation(one, other) >= actual - 1e-12
    return larger / (PERMUTATIONS + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", required=True, help="server.command")
    parser.add_argument("--dialect", default="vllm")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--name", help="of the section; by default the command's first word")
    options = parser.parse_args()
    params = load_params(SampleParams)
    classes = tables.read(tables.CLASSES, Path("data/classes.parquet"))
    lists = ClassLists(classes)
    base = classes.filter(subset="base").select("dataset", "class_id")
    rows = tables.read(tables.IMAGES, Path("data/images.parquet"), where=pl.col("split") == "train")
    rows = rows.join(base, on=["dataset", "class_id"], maintain_order="left")[: options.images]
    datasets = dict(rows["image_id", "dataset"].iter_rows())
    question = params.question(lists, rows["dataset"][0], "base")
    draws = [GREEDY, *range(params.num_samples)]
    requests = [Request(name, image, question, draws) for name, image in rows["image_id", "image"].iter_rows()]
    local = replace(params, engine="transformers")
    served = replace(params, engine="openai", command=options.command, dialect=options.dialect, endpoints=())
    runs, rates = [], []
    for own in (local, replace(local, seed=params.seed + 1), served, served):
        with tempfile.TemporaryDirectory() as folder, own.connect(params.model, []) as connected:
            engine = CachingEngine(connected.engine, Path(folder))
            texts, rate = draw(engine, requests, own.sampler())
            version = engine.fingerprint().get("version", "")
        runs.append(texts)
        rates.append(rate)
    ours, other_seed, theirs, again = runs
    greedy = [key for key in ours if key[1] == GREEDY]
    same = sum((theirs[key] or "").strip() == ours[key].strip() for key in greedy)
    first, second, third = (classes_of(texts, lists, datasets) for texts in (ours, theirs, other_seed))
    sums = [(total_variation(first, other), p_value(first, other)) for other in (second, third)]
    section = f"""
## {options.name or options.command.split()[0]} {version}, {params.model}
`{options.command}`

| | |
|---|---|
| images × draws | {len(requests)} × {params.num_samples} |
| greedy answers that are equal | {same} of {len(greedy)} |
| draws that failed | {sum(text is None for text in theirs.values())} |
| total variation between process and server | {sums[0][0]:.3f}, p = {sums[0][1]:.3f} |
| total variation between two seeds in the process | {sums[1][0]:.3f}, p = {sums[1][1]:.3f} |
| draws equal after a restart of the server | {sum(theirs[key] == again[key] for key in theirs)} of {len(theirs)} |
| draws per second of the server, of the process = 1 | {rates[2] / rates[0]:.2f} |
"""
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(section)
    print(section)


if __name__ == "__main__":
    main()
