"""The params of the engines, and the engine that they select."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.core.engine import Engine, Sampler
from pipeline.core.gpus import claim, visible
from pipeline.core.params import UserError, key
from pipeline.engines.common.adapters import base_of
from pipeline.engines.common.draw_cache import CachingEngine, draw_cache_folder
from pipeline.engines.servers.dialects import DIALECTS, require_expressible
from pipeline.method.chat import ChatParams


@dataclass(frozen=True)
class EngineParams(ChatParams):
    engine: str = key("engine.name", one_of=("transformers", "openai"))
    dtype: str = key("engine.dtype", one_of=("float32", "bfloat16", "float16"))
    attention: str = key("engine.attention", one_of=("eager", "sdpa", "flash_attention_2"))
    max_rows: int = key("engine.max_rows", at_least=1)
    max_tokens: int = key("engine.max_tokens", at_least=1)
    threads: int = key("engine.threads", at_least=0)
    processes: int = key("engine.processes", at_least=0, at_most=64)
    command: str = key("server.command", or_empty=True)
    start_timeout: float = key("server.start_timeout", above=0)
    endpoints: tuple[str, ...] = key("server.endpoints")
    dialect: str = key("server.dialect", one_of=DIALECTS)
    draws_per_request: int = key("server.draws_per_request", at_least=1)
    concurrency: int = key("server.concurrency", at_least=1)
    timeout: float = key("server.timeout", above=0)
    retries: int = key("server.retries", at_least=0)
    request_budget: int = key("server.max_requests", at_least=0)
    token_budget: int = key("server.max_tokens", at_least=0)
    key_variable: str = key("server.key_variable")

    def connect(self, model: str, samplers: Iterable[Sampler], prefix: str = "") -> CachingEngine:
        """The engine that draws from `model`, with the draw cache in front of it.

        Args:
            samplers: all that it will be given. Raises UserError, before any server starts, where the dialect of the
                server lacks one of their settings.
            prefix: text with which some completions will begin. Raises UserError for a server, which takes none.
        """
        if self.engine == "openai":
            if prefix:
                raise UserError(
                    f"predict.choice_prefix is {prefix!r}, and engine.name openai: servers take no beginning of a "
                    "completion; set one of them: `-S predict.choice_prefix=` or `-S engine.name=transformers`"
                )
            for sampler in samplers:
                require_expressible(self.dialect, sampler, self.chat)
            return CachingEngine(self._server(model), draw_cache_folder())
        return CachingEngine(self._local(model), draw_cache_folder())

    def claim_gpus(self) -> list[str]:
        """Claims the GPUs of the stage for its engines: to be called before anything claims fewer."""
        if self.processes <= 1 and not visible():
            return []  # without torch, whose import takes seconds: the draws may all be cached
        import torch

        if torch.version.hip and self.processes > 1:
            raise UserError("params.yaml: engine.processes above 1 needs NVIDIA's GPUs; set it to 1, or use a server")
        return claim(self.processes) if torch.version.cuda else []

    def _local(self, model: str) -> Engine:
        from pipeline.engines.local.transformers import TransformersEngine

        gpus = self.claim_gpus()
        count = self.processes or max(1, len(gpus))
        engine = TransformersEngine(
            model, self.dtype, self.attention, self.max_rows, self.max_tokens, self.threads, self.chat
        )
        if count == 1:
            return engine
        from pipeline.engines.processes import ProcessesEngine

        return ProcessesEngine(engine, count, gpus)

    def _server(self, model: str) -> Engine:
        from pipeline.engines.servers.budget import Server
        from pipeline.engines.servers.openai import OpenAIEngine

        if self.command and (base := base_of(model)):
            raise UserError(
                f"{model} is an adapter of {base}, which server.command cannot serve by itself; set "
                "`dvc exp run -S train.save=merged`, or serve base and adapter yourself and set server.endpoints "
                "(docs/training.md)"
            )
        return OpenAIEngine(
            model,
            Server(
                endpoints=self.endpoints,
                command=self.command,
                start_timeout=self.start_timeout,
                gpus=self.processes or 1,
                dialect=self.dialect,
                # SGLang gives all answers of a request one seed, and so one text where seeds have an effect.
                draws_per_request=1 if self.dialect == "sglang" else self.draws_per_request,
                concurrency=self.concurrency,
                timeout=self.timeout,
                retries=self.retries,
                max_requests=self.request_budget,
                max_tokens=self.token_budget,
                key_variable=self.key_variable,
            ),
            chat=self.chat,
        )
