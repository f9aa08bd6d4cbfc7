"""An LLM judge behind an OpenAI-compatible endpoint (a hosted API, or `vllm serve`)."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from evals.judges.base import Judge, JudgeError, Request
from evals.judges.cache import Cost, Reply
from evals.judges.endpoint import Budget, Endpoint, Pace, Unanswered
from evals.judges.served import Server
from evals.judges.templates import load_template
from trainers.common import Json, checked, file_hash, refuse

Name = Annotated[str, Field(min_length=1)]

#: After this many requests in a row without an answer, retries included, the server is taken to be down.
GIVE_UP_AFTER = 3
TOP_LOGPROBS = 20


class LLMJudge(Judge):
    """Asks a chat model for a verdict, with a prompt template from a file.

    Its identity is the model name, the template's content and the decoding settings. The address is not part of it, so
    two different models must be served under two names.

    Args:
        model: name the server knows the model by; with `serve`, its last path component by default.
        base_url: address up to the version, for example http://localhost:8000/v1.
        serve: instead of an address, the checkpoint that a vLLM server is started with when the first reply is needed; it is
            stopped with this process. serve_options: of `vllm serve`, such as {max_model_len: 4096}.
        template: name of a shipped template, or the path of a YAML file.
        api_key_env: environment variable with the key; None for servers without one.
        temperature: 0 for one and the same verdict each time.
        extra_body: further keys of the request, part of the identity; null removes a key that is sent otherwise.
        concurrency: requests in flight. requests_per_minute: rate limit, None for none.
        max_requests, max_tokens: budget of this judge over the life of its cache, killed runs included (but for the requests
            in flight at a kill); requests count retries and what was not answered, tokens are prompt and completion.
            None for no limit.
        timeout_s: per request, seconds. retries: after the first try, on 408, 409, 425, 429, 5xx, broken connections and
            timeouts. backoff_s: first pause, doubled each time; a longer Retry-After is obeyed.
    """

    @checked
    def __init__(
        self,
        model: Name | None = None,
        base_url: Name | None = None,
        serve: Name | None = None,
        serve_options: Mapping[str, Any] | None = None,
        template: Name = "pairwise",
        api_key_env: str | None = None,
        temperature: Annotated[float | int, Field(ge=0)] = 0.0,
        extra_body: Mapping[str, Any] | None = None,
        concurrency: PositiveInt = 4,
        requests_per_minute: PositiveFloat | None = None,
        max_requests: PositiveInt | None = None,
        max_tokens: PositiveInt | None = None,
        timeout_s: PositiveFloat = 120.0,
        retries: NonNegativeInt = 5,
        backoff_s: NonNegativeFloat = 1.0,
    ) -> None:
        name, extra = model or Path(serve or "").name, dict(extra_body or {})
        address = urlsplit("http://served" if base_url is None else base_url)
        refuse(
            JudgeError,
            (
                (base_url is None) == (serve is None),
                "base_url or serve is needed, and not both: the address of a server, or a model to start one with",
            ),
            (
                serve is None and serve_options is not None,
                "serve_options are for serve; remove them, or give a model to serve instead of base_url",
            ),
            (not name, "needs the parameter 'model': the name that the server knows it by"),
            (
                address.scheme not in ("http", "https") or not address.netloc,
                f"base_url is {base_url!r}; it must be like http://localhost:8000/v1",
            ),
            (
                "@" in address.netloc or address.query,
                "base_url must hold no credentials; name an environment variable in api_key_env",
            ),
            (
                "messages" in extra,
                "extra_body must not hold 'messages': they come from the template; remove the key",
            ),
        )
        self._server = None if serve is None else Server(serve, name, serve_options or {})
        self.template = load_template(template)
        self.compares = self.template.compares
        self._endpoint = Endpoint(base_url or "", api_key_env, timeout_s, retries, backoff_s)
        self._concurrency, self._per_minute = concurrency, requests_per_minute
        self._limits, self.max_requests = (max_requests, max_tokens), max_requests
        settings: Json = {"model": name, "temperature": temperature, "max_tokens": self.template.max_tokens}
        if self.template.reads_logprobs:
            settings |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        self._settings = {key: value for key, value in (settings | extra).items() if value is not None}

    @classmethod
    def placed(cls, params: Json, base: Path) -> tuple[Json, dict[str, str]]:
        template = params.get("template")
        if not isinstance(template, str) or not template.endswith((".yaml", ".yml")):
            return params, {}
        path = (base / Path(template).expanduser()).resolve()
        if not path.is_file():
            raise JudgeError(f"template is {template!r}; no such file: {path} (paths are relative to the matrix file)")
        return {**params, "template": str(path)}, {"template": file_hash(path)}

    def seconds_each(self, flops: Callable[[], float]) -> float | None:
        return None if self._per_minute is None else 60.0 / self._per_minute

    def identity(self) -> Json:
        served = {} if self._server is None else {"served": self._server.identity()}
        return {"kind": "llm", "settings": self._settings, "template": dict(self.template.content), **served}

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        if self._server is not None:
            self._endpoint = replace(self._endpoint, base_url=self._server.start())
        pace, budget, stop = Pace(self._per_minute), Budget(*self._limits, spent), threading.Event()
        client = self._endpoint.client()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="judge")
        running: dict[Future[Reply], int] = {}
        waiting = iter(range(len(requests)))
        failures, given_up = 0, None
        try:
            while True:
                # no more are handed out than can be asked: none waits in the pool when the server turns out to be down
                free = self._concurrency - len(running) if given_up is None else 0
                for index in itertools.islice(waiting, free):
                    running[pool.submit(self._one, requests[index], client, pace, budget, stop)] = index
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    index, reply = running.pop(future), future.result()
                    # a reply with words: the server spoke, if only to refuse
                    failures = failures + 1 if reply.raw is None else 0
                    yield index, reply
                    if failures >= GIVE_UP_AFTER:
                        given_up = reply.reason
            for index in waiting:
                yield index, Reply(None, f"not asked: {given_up}", final=False)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            client.close()

    def _one(self, request: Request, client: Any, pace: Pace, budget: Budget, stop: threading.Event) -> Reply:
        body = {**self._settings, "messages": self.template.fill(request)}
        try:
            answer, cost = self._endpoint.chat(client, body, pace, budget, stop)
        except Unanswered as error:
            return Reply(None, str(error), error.said, error.cost, final=False)
        choice = answer["choices"][0]
        text = self._endpoint.redact(choice["message"]["content"] or "")
        value, reason = self.template.verdict.of(text, choice)
        if value is None and choice.get("finish_reason") == "length" and not self.template.reads_logprobs:
            reason = "cut off before a verdict (max_tokens of the template)"
        return Reply(value, reason, text, cost)
