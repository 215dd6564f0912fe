"""Thoughts whose opening tag is no part of the completion: chat templates open some, and servers keep some apart."""

import re

OPENING, CLOSING = "<think>", "</think>"

_TAG = re.compile(r"<\s*(/?)\s*think\s*>", re.IGNORECASE)
_OPENED = re.compile(rf"{OPENING}\s*\Z")
_BEGUN = re.compile(rf"{OPENING}\s*(?:{CLOSING}\s*)?\Z")


def complete_thought(text: str, prompt: str) -> str:
    """A completion with <think> in front where its prompt, as the chat template rendered it, ends with <think>.

    A block that the prompt closes, as templates write it for a model that is not to think, leaves nothing to complete.
    """
    return OPENING + text if _OPENED.search(prompt) else text


def whole_turn(text: str, prompt: str) -> str:
    """A completion with the thought in front that its prompt ends with: opened, or empty and closed."""
    thought = _BEGUN.search(prompt)
    return thought[0] + text if thought else text


def complete_served_thought(text: str) -> str:
    """A completion with <think> in front where its first tag is </think>: of a prompt that a server rendered."""
    tag = _TAG.search(text)
    return OPENING + text if tag and tag[1] else text


def with_thought(thought: str, text: str) -> str:
    """A thought that a server keeps apart, in front of its completion; not closed where nothing came after it."""
    return f"{OPENING}{thought}{CLOSING}{text}" if text else OPENING + thought


def after_thought(text: str) -> str:
    """What stands behind the last thought."""
    return text.rpartition(CLOSING)[2]
