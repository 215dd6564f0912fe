"""Style files: what a person writes is asked word for word, and a mistake in it is one sentence."""

from pathlib import Path

import pytest
from support.project import ROOT

from pipeline.core.params import UserError, load_params
from pipeline.method import styles
from pipeline.method.prompts import choice_question, open_question, supervised_answer
from pipeline.method.styles import style
from pipeline.stages.predict import PredictParams
from pipeline.stages.sample import SampleParams
from pipeline.training.params import TrainParams

TEXTS = {
    "open": "What is it?",
    "choice": "Which?\\n{options}",
    "listed": "Of {names}.",
    "answer": "<answer>{name}</answer>",
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes prompts/mine.yaml of a project with params.yaml; gives its path."""
    monkeypatch.chdir(tmp_path)
    Path("prompts").mkdir()
    Path("params.yaml").write_text(
        (ROOT / "params.yaml").read_text(encoding="utf-8").replace("prompt: brief", "prompt: prompts/mine.yaml"),
        encoding="utf-8",
    )

    def write(text=None, **texts):
        content = "".join(f'{name}: "{value}"\n' for name, value in (TEXTS | texts).items() if value is not None)
        Path("prompts/mine.yaml").write_text(content if text is None else text, encoding="utf-8")
        return "prompts/mine.yaml"

    return write


def test_own_texts_are_asked_word_for_word(write):
    file = write(open="{names_} {category}".replace("{names_}", "{{x}} {noun}"))
    assert open_question(file, "car") == "{x} car make and model"
    assert open_question(file, "car", ["p", "q"]) == "Of p, q.{x} car make and model"
    assert choice_question(file, "car", ["p", "{q}"]) == "Which?\nA. p\nB. {q}"
    assert supervised_answer(file, "p") == "<answer>p</answer>"


def test_an_edit_while_a_stage_runs_changes_nothing(write):
    """Half of the images would be asked one question and half another: the next process reads it."""
    assert open_question(write(open="One?"), "car") == "One?"
    assert open_question(write(open="Two?"), "car") == "One?"
    styles._read.cache_clear()
    assert open_question("prompts/mine.yaml", "car") == "Two?"


def test_without_an_answer_the_usual_one_is_taught(write):
    assert supervised_answer(write(answer=None), "p") == "<answer>p</answer>"


def test_the_example_is_right_and_explains_every_text(monkeypatch):
    monkeypatch.chdir(ROOT)
    example = style("prompts/example.yaml")
    assert "{options}" in example.choice and "{names}" in example.listed and "{noun}" in example.open


MISTAKES = [
    ({"text": "open: [1"}, "not valid YAML"),
    ({"text": ""}, "no keys"),
    ({"text": "- open"}, "no keys"),
    ({"question": "What?"}, "only open, choice, listed, answer"),
    ({"open": None}, "no text open"),
    ({"listed": None}, "no text listed"),
    ({"open": " "}, "open is ' '"),
    ({"thought": "maybe"}, "thought is 'maybe', expected true or false"),
    ({"choice": "Which?"}, "choice has no place {options}"),
    ({"listed": "Of these."}, "listed has no place {names}"),
    ({"open": "Which of {options}?"}, "open has the place {options}, expected only {category}, {noun}"),
    ({"open": "{noun.__class__}"}, "open has the place {noun.__class__}"),
    ({"open": "{noun!r}"}, "open has the place {noun}"),
    ({"open": "{}"}, "open has the place {}"),
    ({"open": "What {"}, "open has a stray brace"),
    ({"answer": "{name}"}, "between <answer> and </answer>"),
    ({"answer": "<answer>x</answer>"}, "answer has no place {name}"),
    ({"answer": "<answer>a {name}</answer>"}, "{name} alone between <answer> and </answer>"),
    ({"answer": "<answer>{noun}</answer>"}, "answer has the place {noun}"),
]


@pytest.mark.parametrize(("texts", "reason"), MISTAKES, ids=lambda value: str(value))
def test_a_mistake_in_a_style_is_one_sentence_before_anything_is_drawn(write, texts, reason):
    write(**texts)
    for kind in (SampleParams, TrainParams, PredictParams):
        with pytest.raises(UserError) as caught:
            load_params(kind)
        message = str(caught.value)
        assert message.startswith("prompts/mine.yaml: ") and reason in message and "\n" not in message
        assert message.endswith("correct it as prompts/example.yaml shows")


@pytest.mark.parametrize("thought", [True, False])
def test_an_own_style_says_whether_replies_have_a_thought(write, thought):
    styles._read.cache_clear()
    assert (
        style(write("".join(f'{name}: "{text}"\n' for name, text in TEXTS.items()) + f"thought: {thought}")).thought
        is thought
    )


def test_a_style_that_is_not_there_or_not_tracked_is_one_sentence(write):
    write()
    Path("other.yaml").write_text(Path("prompts/mine.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    for prompt, reason in (
        (
            "papre",
            "expected one of answer_only, brief, brief_answer_only, comparison, paper, or a style file such as "
            "prompts/example.yaml",
        ),
        ("prompts/none.yaml", "`cp prompts/example.yaml prompts/none.yaml` starts one"),
        ("other.yaml", "the folder that DVC tracks; move it there and `dvc exp run -S prompt=prompts/other.yaml`"),
        ("prompts/../other.yaml", "the folder that DVC tracks"),
    ):
        with pytest.raises(UserError) as caught:
            style(prompt)
        assert reason in str(caught.value)
