"""The folder of a run: no other run's checkpoints, none that is incomplete."""

from dataclasses import replace

import polars as pl
import pytest
from support.training import DEFAULTS, question, questions

from pipeline.method import styles
from pipeline.training.checkpoints import COMPLETE, RunFolder


@pytest.fixture
def run_folder_of(tmp_path, monkeypatch):
    """The folder of a run with these settings and questions."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("pipeline.training.checkpoints.content", lambda model: f"content of {model}")
    first = questions(question(0, 0, 1))

    def folder(params=DEFAULTS, rows=first):
        rows = rows.with_columns(image=pl.lit(b"x"))
        return RunFolder.of(params, rows, pl.DataFrame({"image_id": ["v"]}))

    return folder


def test_a_run_of_other_settings_or_questions_has_another_folder(run_folder_of):
    others = [replace(DEFAULTS, learning_rate=1e-4), replace(DEFAULTS, seed=1), replace(DEFAULTS, model="other")]
    rows = questions(question(0, 0, 2))
    folders = [run_folder_of().path, *(run_folder_of(params).path for params in others), run_folder_of(rows=rows).path]
    assert len(set(folders)) == 5 and run_folder_of().path == folders[0]


def test_a_run_whose_style_file_was_edited_has_another_folder(run_folder_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").mkdir()
    paths = set()
    for text in ("What?", "Which?"):
        texts = f"open: {text}\nchoice: '{{options}}'\nlisted: '{{names}}'\n"
        (tmp_path / "prompts" / "mine.yaml").write_text(texts, encoding="utf-8")
        styles._read.cache_clear()
        paths.add(run_folder_of(replace(DEFAULTS, prompt="prompts/mine.yaml")).path)
    assert len(paths) == 2


def test_only_complete_checkpoints_count(run_folder_of):
    folder = run_folder_of()
    assert folder.last() is None
    for number in (2, 4, 10):
        (folder.path / f"checkpoint-{number}").mkdir(parents=True)
    folder.complete(folder.path / "checkpoint-2", {"checks": {"2": 0.5}, "rollouts": []})
    assert folder.last().name == "checkpoint-2", "the others are not complete"
    folder.complete(folder.path / "checkpoint-4", {"checks": {}, "rollouts": []})
    assert folder.last().name == "checkpoint-4"
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == ["checkpoint-10", "checkpoint-2", "checkpoint-4"], (
        "the one before stays, should the last be damaged"
    )
    folder.complete(folder.path / "checkpoint-10", {"checks": {"4": 0.25}, "rollouts": []})
    assert folder.last().name == "checkpoint-10" and RunFolder.progress(folder.last())["checks"] == {"4": 0.25}
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint-10", "checkpoint-4"]


@pytest.mark.parametrize("file", ["optimizer.pt", "trainer_state.json", "model.safetensors", COMPLETE])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed"])
def test_a_damaged_checkpoint_is_renamed_and_the_one_before_is_taken(run_folder_of, capsys, file, damage):
    folder = run_folder_of()
    for number in (2, 4):
        checkpoint = folder.path / f"checkpoint-{number}"
        checkpoint.mkdir(parents=True)
        for name in ("optimizer.pt", "trainer_state.json", "model.safetensors"):
            (checkpoint / name).write_bytes(b"x" * 100)
        folder.complete(checkpoint, {"checks": {}, "rollouts": []})
    target = folder.path / "checkpoint-4" / file
    content = target.read_bytes()
    if damage == "removed":
        target.unlink()
    else:
        target.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert folder.last().name == "checkpoint-2"
    if file != COMPLETE or damage != "removed":  # without its mark a checkpoint was never complete
        assert f"{file}" in capsys.readouterr().out
        assert (folder.path / "damaged-checkpoint-4").is_dir()
    folder.last().joinpath("model.safetensors").write_bytes(b"")
    assert folder.last() is None, "none is left: training starts again"
