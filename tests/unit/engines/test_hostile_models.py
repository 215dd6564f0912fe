"""Model folders with faults made here: loading and drawing end in completions or in a sentence."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.hostile_models import TEMPLATES, hostile_model

from pipeline.core.engine import GREEDY, Request
from pipeline.core.params import UserError
from pipeline.engines.common import loading
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.method.sampling import SamplingParams

pytestmark = pytest.mark.slow

FOLDERS = int(os.environ.get("DIVEK_HOSTILE_MODELS", "60"))


def png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((56, 56), 60).convert("RGB").save(file, "PNG")
    return file.getvalue()


def outcome(folder: Path, sampler) -> str:
    """How a draw from the model of a folder ends: "drawn", or the sentence."""
    engine = TransformersEngine(str(folder), "float32", "eager", 8, 4096, 1)
    try:
        (batch,) = list(engine.draw([Request("x", png(), "Which bird is this?", [GREEDY, 0])], sampler))
        assert len(batch) == 2
        return "drawn"
    except UserError as error:
        return str(error)


@pytest.fixture
def sampler(base_model):
    from support.project import ROOT

    from pipeline.core.params import load_params

    return load_params(SamplingParams, ROOT / "params.yaml").sampler()


def test_any_fault_of_a_model_folder_is_a_sentence_or_none(base_model, tmp_path, sampler):
    """Seeded; DIVEK_HOSTILE_MODELS sets how many folders, of which 2,000 were tried."""
    sentences = 0
    for seed in range(FOLDERS):
        folder = tmp_path / str(seed)
        faults = hostile_model(Path(base_model), folder, seed)
        try:
            text = outcome(folder, sampler)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {faults}") from error
        assert "\n" not in text and len(text) < 2000, faults
        sentences += text != "drawn"
        shutil.rmtree(folder)
    assert FOLDERS / 4 < sentences < FOLDERS, "faults matter, and not all of them are fatal"


@pytest.mark.parametrize("template", TEMPLATES[1:])
def test_a_chat_template_that_fails_or_reaches_out_is_a_sentence_or_harmless(base_model, tmp_path, template):
    folder = shutil.copytree(base_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    try:
        processor = loading.load_processor(str(folder))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        text = processor.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        assert "root:" not in text and "<class" not in text


def test_a_tokenizer_of_another_model_is_refused(base_model, tmp_path, sampler):
    folder = shutil.copytree(base_model, tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"] |= {f"word{number}": 1000 + number for number in range(200)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert "tokens, and the model" in outcome(folder, sampler)
