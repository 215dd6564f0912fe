"""The dialects of OpenAI's API, and the settings that each can express."""

from pipeline.core.engine import Sampler
from pipeline.core.params import UserError
from pipeline.method.chat import Chat

DIALECTS = ("openai", "vllm", "sglang")


def require_expressible(dialect: str, sampler: Sampler, chat: Chat) -> None:
    """Raises UserError if the dialect cannot express one of the settings."""
    penalty = sampler.repetition_penalty
    if dialect not in DIALECTS:
        raise UserError(f"server.dialect is {dialect!r}, expected one of {', '.join(DIALECTS)}")
    if dialect == "openai" and sampler.top_k:
        raise UserError(
            f"top_k is {sampler.top_k}, which OpenAI's API cannot express; set it to 0 (`-S sample.top_k=0`), or "
            "server.dialect to vllm where the server is vLLM"
        )
    if dialect == "openai" and penalty != 1:
        raise UserError(
            f"repetition_penalty is {penalty:g}, which OpenAI's API cannot express; set it to 1, or server.dialect to "
            "vllm where the server is vLLM"
        )
    if dialect == "openai" and chat.template_kwargs:
        raise UserError(
            f"chat.template_kwargs is {chat.template_kwargs}, which OpenAI's API cannot express; set it to {{}} in "
            "params.yaml, or server.dialect to vllm where the server is vLLM"
        )
    if dialect == "vllm" and penalty != 1 and not sampler.penalize_prompt:
        raise UserError(
            f"repetition_penalty is {penalty:g} over the completion alone, and vLLM counts the prompt too; set the "
            "penalty to 1, or `-S sample.penalize_prompt=true`"
        )
    if dialect == "sglang" and penalty != 1 and sampler.penalize_prompt:
        raise UserError(
            f"repetition_penalty is {penalty:g} over prompt and completion, and SGLang counts the completion alone; "
            "set the penalty to 1, or `-S sample.penalize_prompt=false`"
        )
