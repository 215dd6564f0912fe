"""publish: a folder that transformers and datasets read back, and an upload only with --push."""

import base64
import json
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML
from support.project import ROOT
from support.report_runs import CLASSES, evaluate, row
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.reporting.cards import licence_of


@pytest.fixture
def run(tmp_path, monkeypatch, base_model):
    """What a run leaves behind: tables, accuracies, and the base model for a policy."""
    monkeypatch.chdir(tmp_path)
    settings = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("path: photos", "path: /home/me/secret", 1)
    (tmp_path / "params.yaml").write_text(
        settings.replace("endpoints: []", "endpoints: [http://inside:8000/v1]", 1), encoding="utf-8"
    )
    shutil.copytree(base_model, tmp_path / "models" / "policy")
    rows = {m: [row(m, n, n % 10 < k) for n in range(40)] for m, k in (("base", 4), ("trained", 8))}
    for model, own in rows.items():
        frame = pl.DataFrame(own, schema=tables.PREDICTIONS.schema)
        tables.write(tables.PREDICTIONS, frame, Path(f"data/predictions/{model}.parquet"))
    for table in (tables.QUESTIONS, tables.HARD):
        question = {"image_id": "a", "dataset": "tiny", "class_id": 1, "options": rows["base"][0]["options"]}
        tables.write(table, pl.DataFrame([question], schema=table.schema), Path(f"data/{table.name}.parquet"))
    tables.write(tables.CLASSES, CLASSES, Path("data/classes.parquet"))
    evaluate([*rows["base"], *rows["trained"]])
    return tmp_path


def publish(*arguments):
    return CliRunner().invoke(app, ["publish", *arguments])


def front(card: Path) -> dict:
    return YAML(typ="safe", pure=True).load(card.read_text(encoding="utf-8").split("---\n")[1])


@pytest.mark.parametrize("base", ["owner/base", "models/fieldguide"])
def test_an_adapter_is_published_with_a_base_that_others_can_open(run, base_model, base):
    shutil.copytree(base_model, run / "models" / "fieldguide")
    policy = run / "models" / "policy"
    for name in ("config.json", "model.safetensors"):
        (policy / name).unlink()
    config = {"peft_type": "LORA", "base_model_name_or_path": base}
    (policy / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    done = publish()
    if base == "owner/base":
        card = run / "published" / "model" / "README.md"
        assert front(card)["base_model"] == base and front(card)["library_name"] == "peft"
        assert "which adds this adapter to owner/base" in card.read_text(encoding="utf-8")
    else:
        assert isinstance(done.exception, UserError) and "-S train.save=merged` makes a whole model" in str(
            done.exception
        )
        assert not (run / "published").exists()


@pytest.mark.slow
def test_the_model_is_read_back(run, monkeypatch):
    done = publish("--name", "birds 1", "--licence", "apache-2.0")
    assert done.exit_code == 0, done.output
    assert "nothing was uploaded" in done.output
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    from pipeline.engines.common.loading import load_processor

    model = AutoModelForImageTextToText.from_pretrained("published/model")
    original = AutoModelForImageTextToText.from_pretrained("models/policy")
    assert all(a.equal(b) for a, b in zip(model.parameters(), original.parameters(), strict=True))
    assert model.generation_config.eos_token_id == AutoTokenizer.from_pretrained("published/model").eos_token_id
    assert load_processor("published/model").image_processor.patch_size == 14


def test_the_card_has_data_settings_metrics_and_licence(run):
    assert publish("--name", "birds 1", "--licence", "apache-2.0").exit_code == 0
    card = Path("published/model/README.md")
    about = front(card)
    assert (about["license"], about["library_name"], about["pipeline_tag"]) == (
        *("apache-2.0", "transformers", "image-text-to-text"),
    )
    results = {m["name"]: m["value"] for r in about["model-index"][0]["results"] for m in r["metrics"]}
    table = pl.read_csv("reports/tables/accuracies.csv").filter(dataset="all", model="trained", metric="two_step")
    expected = dict(table.select("subset", 100 * pl.col("accuracy").round(4)).rows())
    assert results["two-step accuracy, base classes"] == pytest.approx(expected["base"], abs=0.006)
    text = card.read_text(encoding="utf-8")
    low, high = (100 * table.filter(subset="novel")[end][0] for end in ("low", "high"))
    assert f"{expected['novel']:.1f} ({low:.1f}–{high:.1f})" in text
    assert licence_of("fieldguide") in text and "20 base and 20 novel test images" in text
    settings = YAML(typ="safe", pure=True).load(text.split("```yaml\n")[1].split("```")[0])
    assert settings["train"]["learning_rate"] == 5e-5 and settings["num_samples"] == 20
    assert "secret" not in text and "inside:8000" not in text, "private settings are left out"


@pytest.mark.slow
def test_the_tables_are_read_back(run, monkeypatch, tmp_path):
    assert publish().exit_code == 0
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from datasets import load_dataset

    parts = {
        name: load_dataset("published/tables", name, cache_dir=str(tmp_path / "cache"))
        for name in ("questions", "hard", "predictions", "classes")
    }
    assert set(parts["predictions"]) == {"base", "trained"}
    base = tables.read(tables.PREDICTIONS, Path("data/predictions/base.parquet"))
    assert parts["predictions"]["base"]["two_step"] == base["two_step"].to_list()
    assert parts["predictions"]["base"][0]["options"] == base["options"][0].to_list()
    assert parts["questions"]["train"].num_rows == 1
    assert (
        parts["classes"]["train"]["name"] == tables.read(tables.CLASSES, Path("data/classes.parquet"))["name"].to_list()
    )
    card = Path("published/tables/README.md").read_text(encoding="utf-8")
    assert all(f"| `{column}` |" in card for column in tables.PREDICTIONS.columns)


def test_an_earlier_folder_is_replaced_and_nothing_else(run):
    assert publish().exit_code == 0
    card = run / "published" / "model" / "README.md"
    card.write_text("old", encoding="utf-8")
    assert publish().exit_code == 0
    assert card.read_text(encoding="utf-8") != "old"
    for own in ("published/thesis.tex", "published/model/notes.txt", "published/tables/link"):
        path = run / own
        path.symlink_to("nowhere") if own.endswith("link") else path.write_text("mine", encoding="utf-8")
        done, name = publish(), path.relative_to(run / "published")
        assert isinstance(done.exception, UserError) and f"published holds {name}" in str(done.exception)
        assert path.is_symlink() or path.read_text(encoding="utf-8") == "mine"
        path.unlink()
    (run / "like" / "model").mkdir(parents=True)
    (run / "like" / "model" / "config.json").write_text("{}", encoding="utf-8")
    done = publish("--out", "like")
    assert isinstance(done.exception, UserError) and (run / "like" / "model" / "config.json").exists()
    done = publish("--out", "data")
    assert isinstance(done.exception, UserError) and "exists and was not written by publish" in str(done.exception)
    assert (run / "data" / "classes.parquet").is_file()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("models/policy/config.json", "`dvc repro train` writes one"),
        ("reports/tables/accuracies.csv", "`dvc repro evaluate` writes it"),
        ("data/hard.parquet", "`dvc repro filter` writes it"),
    ],
)
def test_missing_files_are_named(run, missing, message):
    (run / missing).unlink()
    done = publish()
    assert isinstance(done.exception, UserError) and message in str(done.exception)
    assert not (run / "published").exists()


class Hub(BaseHTTPRequestHandler):
    """The endpoints of the hub that an upload calls; every file comes within the commit."""

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        if self.server.refuses:
            self.send(403, {"error": "not yours"})
        elif self.path.endswith("/repos/create"):
            request = json.loads(body)
            kind = request.get("type", "model")
            self.server.created.append((kind, request["name"], request.get("organization"), request.get("visibility")))
            prefix = "datasets/" if kind == "dataset" else ""
            self.send(200, {"url": f"{self.server.url}/{prefix}{request['organization']}/{request['name']}"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.send(200, {"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[f"{self.path.split('/commit/')[0]}/{line['value']['path']}"] = content
            place = self.path.split("/commit/")[0].replace("/api/models/", "/").replace("/api/", "/")
            self.send(200, {"commitUrl": f"{self.server.url}{place}/commit/{'1' * 40}", "commitOid": "1" * 40})
        else:
            self.send(200, {})

    def do_GET(self):
        self.send(200, {"sha": "1" * 40, "id": "me/birds", "siblings": []})

    def send(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def hub(monkeypatch, refuses=False):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.refuses = f"http://127.0.0.1:{server.server_port}", refuses
    server.paths, server.created, server.files = [], [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint=server.url, token="hf_test"))
    try:
        yield server
    finally:
        server.shutdown()


@pytest.mark.slow
def test_it_is_uploaded_with_push(run, monkeypatch):
    with hub(monkeypatch) as server:
        assert publish().exit_code == 0
        assert not server.paths, "without --push"
        done = publish("--push", "me/birds")
        assert done.exit_code == 0, (done.output, done.exception)
    assert server.created == [
        ("model", "birds", "me", "private"),
        ("dataset", "birds-tables", "me", "private"),
    ]
    sent = {Path(path).name: content for path, content in server.files.items() if "/models/" in path}
    assert sent["model.safetensors"] == Path("models/policy/model.safetensors").read_bytes()
    assert any(path.endswith("predictions/trained.parquet") and "/datasets/" in path for path in server.files)


@pytest.mark.slow
def test_a_refusal_is_one_sentence_and_the_folder_stays(run, monkeypatch):
    with hub(monkeypatch, refuses=True):
        done = publish("--push", "me/birds")
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("me/birds: the hub refused (") and "`hf auth login`" in str(done.exception)
    assert (run / "published" / "model" / "config.json").is_file()
    assert isinstance(publish("--push", "birds").exception, UserError)
