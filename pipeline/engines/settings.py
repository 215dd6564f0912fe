"""Who draws: the settings of the engines, and the engine that they ask for."""

from dataclasses import dataclass

from pipeline import params
from pipeline.engines import Engine
from pipeline.engines.wire import DIALECTS
from pipeline.store import StoredEngine, draws_folder


@dataclass(frozen=True)
class EngineParams:
    engine: str = params.key("engine.name", one_of=("transformers", "openai"))
    dtype: str = params.key("engine.dtype", one_of=("float32", "bfloat16", "float16"))
    attention: str = params.key("engine.attention", one_of=("eager", "sdpa", "flash_attention_2"))
    max_rows: int = params.key("engine.max_rows", at_least=1)
    max_tokens: int = params.key("engine.max_tokens", at_least=1)
    threads: int = params.key("engine.threads", at_least=0)
    endpoints: tuple[str, ...] = params.key("server.endpoints")
    dialect: str = params.key("server.dialect", one_of=DIALECTS)
    draws_per_request: int = params.key("server.draws_per_request", at_least=1)
    concurrency: int = params.key("server.concurrency", at_least=1)
    timeout: float = params.key("server.timeout", above=0)
    retries: int = params.key("server.retries", at_least=0)
    request_budget: int = params.key("server.max_requests", at_least=0)
    token_budget: int = params.key("server.max_tokens", at_least=0)
    key_variable: str = params.key("server.key_variable")

    def connect(self, model: str) -> StoredEngine:
        """The engine that draws from `model`, and keeps what it draws."""
        if self.engine == "openai":
            return StoredEngine(self._server(model), draws_folder())
        from pipeline.engines.transformers import TransformersEngine

        engine = TransformersEngine(model, self.dtype, self.attention, self.max_rows, self.max_tokens, self.threads)
        return StoredEngine(engine, draws_folder())

    def _server(self, model: str) -> Engine:
        from pipeline.engines.openai import OpenAIEngine, Server

        return OpenAIEngine(
            model,
            Server(
                endpoints=self.endpoints,
                dialect=self.dialect,
                draws_per_request=self.draws_per_request,
                concurrency=self.concurrency,
                timeout=self.timeout,
                retries=self.retries,
                max_requests=self.request_budget,
                max_tokens=self.token_budget,
                key_variable=self.key_variable,
            ),
        )
