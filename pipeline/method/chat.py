"""What stands around every question: a system message, and the settings of the model's chat template."""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.core.params import Scalars, UserError, first_line, key
from pipeline.method.prompts import Message, chat

# Arguments of `apply_chat_template`, which are no settings of the template.
RESERVED = (
    *("conversation", "messages", "chat_template", "tools", "documents", "add_generation_prompt"),
    *("continue_final_message", "tokenize", "return_dict", "return_tensors", "return_assistant_tokens_mask"),
    *("processor_kwargs", "load_audio_from_video", "sanitize_control_tokens"),
)

ADVICE = 'set chat.system to "" and chat.template_kwargs to {} there, or take another model'


@dataclass(frozen=True)
class Chat:
    """How a question becomes a prompt.

    Attributes:
        system: the system message; empty for none.
        template_kwargs: settings of the chat template, by name.
    """

    system: str
    template_kwargs: Scalars

    def __post_init__(self) -> None:
        if reserved := [name for name in self.template_kwargs if name in RESERVED]:
            raise UserError(
                f"params.yaml: chat.template_kwargs has {', '.join(reserved)}, which is no setting of a chat "
                "template; expected settings of the model's chat template, such as {enable_thinking: false}"
            )

    def fingerprint(self) -> dict[str, str]:
        """What draws depend on; empty without settings, as draws were stored before there were any."""
        settings = {name: value for name, value in asdict(self).items() if value}
        return {"chat": json.dumps(settings, sort_keys=True)} if settings else {}

    def kwargs_of(self, processor: Any) -> Scalars:
        """The settings that the chat template mentions; a processor would take the others for its own."""
        template = str(processor.chat_template)
        return {name: value for name, value in self.template_kwargs.items() if re.search(rf"\b{name}\b", template)}

    def messages(self, question: str) -> list[Message]:
        """The turns before the answer."""
        system = {"role": "system", "content": [{"type": "text", "text": self.system}]}
        return [system] * bool(self.system) + chat(question)

    def prompt(self, processor: Any, question: str) -> str:
        """The chat template around `question`. Raises UserError where the template refuses or omits a setting."""
        try:
            text: str = processor.apply_chat_template(
                self.messages(question), add_generation_prompt=True, tokenize=False, **self.kwargs_of(processor)
            )
        except Exception as error:  # of Jinja, or whatever an expression of the template raises
            if self == PLAIN:
                raise
            names = " and ".join(f"chat.{name}" for name, value in asdict(self).items() if value)
            raise UserError(
                f"params.yaml: the model's chat template does not take {names} ({first_line(error)[:200]}); {ADVICE}"
            ) from error
        if self.system.strip() not in text:
            raise UserError(f"params.yaml: the model's chat template leaves out the text of chat.system; {ADVICE}")
        return text


PLAIN = Chat("", {})
"""The question alone, by the template's own defaults."""


@dataclass(frozen=True)
class ChatParams:
    """The same for every question about a picture: in sampling, training and prediction, here and on servers."""

    system: str = key("chat.system", or_empty=True)
    template_kwargs: Scalars = key("chat.template_kwargs")

    @property
    def chat(self) -> Chat:
        return Chat(self.system, self.template_kwargs)
