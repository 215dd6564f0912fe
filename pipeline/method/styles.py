"""The styles of the prompts: those that come with the pipeline, and a person's own, from a file."""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from pipeline.core.params import UserError
from pipeline.core.yaml_text import load_yaml
from pipeline.method.answers import answer_text

FOLDER = Path("prompts")  # of own style files; dvc.yaml declares it, so that an edit reruns the stages that ask
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Style:
    """A way of asking.

    Attributes:
        open: the open question of step 1.
        choice: the multiple-choice question of step 2.
        listed: text in front of the open question where class names are shown with it.
        answer: target of supervised training for the open question.
        thought: whether replies have one, as <think>…</think>; without it the format reward wants the answer alone.
    """

    open: str
    choice: str
    listed: str
    answer: str = "<answer>{name}</answer>"
    thought: bool = True


REQUIRED: dict[str, str | None] = {"open": None, "choice": "options", "listed": "names", "answer": "name"}
"""The placeholder that each text must have; every text but `answer` may also have {noun} and {category}."""

CATEGORIES = {
    "bird": "species",
    "flower": "species",
    "pet": "species",
    "car": "make and model",
    "aircraft": "make and model",
}
"""What is identified, by what the images show, as in the published run. Of anything else it is the kind."""

STYLES = {
    "brief": Style(
        open="Which {noun} is this ?",
        choice="Which {noun} is this ?\n{options}",
        listed="{names}\n",
        answer="<answer> {name} </answer>",
    ),
    # The published requests in other words: what the image shows, what to identify, and the form of the reply.
    "paper": Style(
        open=(
            "The image contains one {noun}. Identify the {category} of the {noun}.\n"
            "Write your thinking between <think> and </think> and your final answer between <answer> and </answer>. "
            "Keep exactly to this form:\n<think> ... </think> <answer>{category}</answer>"
        ),
        choice=(
            "The image contains one {noun}. Which of these options is the most likely {noun} in the image?\n"
            "{options}\nAnswer with the letter of the right {noun}.\n"
            "Write your thinking between <think> and </think> and your final answer between <answer> and </answer>. "
            "Keep exactly to this form:\n<think> ... </think> <answer>letter</answer>"
        ),
        listed="The {category} of the {noun} is one of this list: {names}.\n",
    ),
    # Asks for the comparison that the method is meant to teach: scores with it measure the request as well.
    "comparison": Style(
        open=(
            "This is an image containing a {noun}. Please identify the {noun} in the image as precisely as you can.\n"
            "Think about the marks that tell similar kinds apart inside <think> </think> tags, then give the name "
            "alone inside <answer> </answer> tags."
        ),
        choice=(
            "This is an image containing a {noun}. Please find the most likely {noun} in the image from the below "
            "options:\n{options}\n"
            "Compare the options with the image inside <think> </think> tags, then give the letter of your choice "
            "alone inside <answer> </answer> tags."
        ),
        listed="These are the kinds of {noun} that it can be: {names}.\n",
    ),
    # The paper's questions, answered without reasoning.
    "answer_only": Style(
        open=(
            "The image contains one {noun}. Identify the {category} of the {noun}.\n"
            "Reply with your final answer alone. Keep exactly to this form:\n<answer>{category}</answer>"
        ),
        choice=(
            "The image contains one {noun}. Which of these options is the most likely {noun} in the image?\n"
            "{options}\nReply with the letter of the right {noun} alone. Keep exactly to this form:\n"
            "<answer>letter</answer>"
        ),
        listed="The {category} of the {noun} is one of this list: {names}.\n",
        thought=False,
    ),
}
STYLES["brief_answer_only"] = replace(STYLES["brief"], thought=False)  # the field guide has no words to ask for it


def category(noun: str) -> str:
    """What is identified of a {noun}: species, make and model, or kind."""
    return CATEGORIES.get(noun, "kind")


def style(prompt: str) -> Style:
    """The style of this name, or that of a file in `prompts/`, which is read once in a process.

    Raises:
        UserError: there is no such style or file, the file is outside of `prompts/`, or its texts lack a place.
    """
    if prompt in STYLES:
        return STYLES[prompt]
    file = Path(prompt)
    if file.suffix not in SUFFIXES:
        raise UserError(
            f"params.yaml: prompt is {prompt!r}, expected one of {', '.join(sorted(STYLES))}, or a style file such as "
            f"{FOLDER}/example.yaml; set it with `dvc exp run -S prompt=…` or in params.yaml"
        )
    if not file.resolve().is_relative_to(FOLDER.resolve()):
        raise UserError(
            f"params.yaml: prompt is {prompt}, expected a file in {FOLDER}/, the folder that DVC tracks; move it there "
            f"and `dvc exp run -S prompt={FOLDER / file.name}`"
        )
    return _read(prompt, file.resolve())


@lru_cache  # an edit while a stage runs must not change what it asks half-way
def _read(prompt: str, file: Path) -> Style:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"not readable as UTF-8 ({error})"
        raise UserError(
            f"{prompt}: {reason}, expected the style file that prompt names in params.yaml; "
            f"`cp {FOLDER}/example.yaml {prompt}` starts one"
        ) from None
    return _parsed(prompt, text)


def _parsed(file: str, text: str) -> Style:
    tree = load_yaml(text, file, f"correct it as {FOLDER}/example.yaml shows")
    names = [field.name for field in fields(Style)]
    if not isinstance(tree, dict) or not {*tree} <= {*names}:
        content = f"the keys {', '.join(map(str, tree))}" if isinstance(tree, dict) else "no keys"
        raise _fault(file, content, f"only {', '.join(names)}")
    if not isinstance(tree.get("thought", True), bool):
        raise _fault(file, f"thought is {tree['thought']!r}", "true or false")
    for name in (name for name in names if name != "thought"):
        if name in tree:
            _require_places(file, name, tree[name])
        elif name != "answer":
            raise _fault(file, f"no text {name}", "the texts open, choice and listed")
    return Style(**tree)


def _require_places(file: str, name: str, text: Any) -> None:
    """Raises UserError where a text lacks its placeholder or has one that is not filled in."""
    if not isinstance(text, str) or not text.strip():
        raise _fault(file, f"{name} is {text!r}", "a text")
    required = REQUIRED[name]
    allowed = ({required} if required else set()) | (set() if name == "answer" else {"noun", "category"})
    shown = ", ".join(f"{{{place}}}" for place in sorted(allowed))
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise _fault(file, f"{name} has a stray brace ({error})", f"only {shown}, and {{{{ for a brace") from None
    for _, place, form, conversion in parts:
        if place is not None and (place not in allowed or form or conversion):
            raise _fault(file, f"{name} has the place {{{place}}}", f"only {shown}, and {{{{ for a brace")
    if required and required not in {place for _, place, _, _ in parts}:
        raise _fault(file, f"{name} has no place {{{required}}}", f"{{{required}}} in it")
    if name == "answer" and answer_text(text.format(name="x")) != "x":
        raise _fault(file, f"answer is {text!r}", "{name} alone between <answer> and </answer>")


def _fault(file: str, actual: str, expected: str) -> UserError:
    return UserError(f"{file}: {actual}, expected {expected}; correct it as {FOLDER}/example.yaml shows")
