"""The engine for OpenAI-compatible servers on a real one: `transformers serve` with a tiny random LLaVA."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from support.engines import SAMPLER, engine_of
from support.fake_server import server as server_at
from support.project import ROOT
from support.serving import serve
from support.tiny_models import tiny_model

from pipeline.core import tables
from pipeline.core.engine import GREEDY, Request
from pipeline.engines.common.draw_cache import CachingEngine
from pipeline.engines.servers.openai import OpenAIEngine


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Its server keeps pictures out of the answers, as the engine in this process does by itself."""
    from transformers import GenerationConfig

    folder = tiny_model(tmp_path_factory.mktemp("model"), "llava")
    settings = GenerationConfig.from_pretrained(folder)
    settings.suppress_tokens = engine_of(folder)._placeholders
    settings.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model):
    with serve(model) as url:
        yield server_at(url, concurrency=1, timeout=60.0, retries=2, key_variable="NO_KEY_NEEDED")


@pytest.fixture(scope="module")
def requests(birds):
    _, images = birds
    rows = images.filter(split="test")["image_id", "image"].rows()[::4]
    return [Request(i, image, "Which bird is this ?", [GREEDY, 0, 1, 2]) for i, image in rows]


def draw_texts(engine, requests, sampler=SAMPLER):
    completions = {(d.image_id, d.draw): d for batch in engine.draw(requests, sampler) for d in batch}
    assert not [d.error for d in completions.values() if d.error]
    return {key: d.text for key, d in completions.items()}


def test_a_real_server_sees_the_picture_and_draws(model, server, requests, tmp_path):
    engine = CachingEngine(OpenAIEngine(str(model), server), tmp_path)
    texts = draw_texts(engine, requests)
    greedy = {image: text for (image, draw), text in texts.items() if draw == GREEDY}
    assert len(set(greedy.values())) == len(requests) == 3, "another picture, another greedy answer"
    for request in requests:
        assert len({texts[request.image_id, draw] for draw in range(3)}) == 3, "another seed, another draw"
    assert draw_texts(OpenAIEngine(str(model), server), requests) == texts, "the same seeds, the same answers"
    again = CachingEngine(OpenAIEngine(str(model), replace(server, endpoints=("http://127.0.0.1:1/v1",))), tmp_path)
    assert draw_texts(again, requests) == texts, "from the draw cache, without any server"


def test_the_server_reads_the_prompt_that_the_engine_in_process_reads(model, server, requests):
    """Its greedy answers are the same but for special tokens, which it omits and random weights sample often."""
    here = engine_of(model)
    tokenizer = here.processor.tokenizer
    expected = [d for batch in here.draw([replace(r, draws=[GREEDY]) for r in requests], SAMPLER) for d in batch]
    served = draw_texts(OpenAIEngine(str(model), server), [replace(r, draws=[GREEDY]) for r in requests])
    for done in expected:
        plain = tokenizer.decode(tokenizer(done.text)["input_ids"], skip_special_tokens=True)
        assert served[done.image_id, GREEDY].split() == plain.split()


def test_a_server_that_ignores_n_is_reported(model, server, requests, capsys):
    engine = OpenAIEngine(str(model), replace(server, draws_per_request=3))
    assert len(draw_texts(engine, requests)) == 12
    assert "one answer per request" in capsys.readouterr().err


def stage(folder, **settings):
    """Runs the sample stage in `folder` with these settings; exit code and output."""
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in settings.items():
        params, count = re.subn(rf"^( *){old}: .*", rf"\g<1>{old}: {new}", params, count=1, flags=re.MULTILINE)
        assert count == 1
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder)}
    done = subprocess.run(
        (sys.executable, "-m", "pipeline.stages.sample"), cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_the_stage_draws_from_a_server(model, server, birds, tmp_path):
    classes, images = birds
    tables.write(tables.CLASSES, classes, tmp_path / "data" / "classes.parquet")
    tables.write(tables.IMAGES, images, tmp_path / "data" / "images.parquet")
    settings = {"model": model, "num_samples": 2, "top_k": 0, "name": "openai", "dialect": "openai"}
    code, output = stage(tmp_path, **settings, endpoints="[]")
    assert code == 1 and output.startswith(f"error: params.yaml: {model} needs either server.command")
    code, output = stage(tmp_path, **settings, endpoints=f"[{server.endpoints[0]}]")
    assert (code, "6 images × 2 draws (12 new draws, 0 from the draw cache)" in output) == (0, True), output
    samples = tables.read(tables.SAMPLES, tmp_path / "data" / "samples.parquet")
    assert samples.height == 12
    assert samples["text"].n_unique() > 6
