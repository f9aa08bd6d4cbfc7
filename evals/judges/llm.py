"""An LLM judge behind an OpenAI-compatible endpoint (a hosted API, or `vllm serve`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from evals.judges.base import Judge, JudgeError, Request
from evals.judges.cache import Cost, Reply
from evals.judges.endpoint import Budget, Endpoint, Pace, Refused, Unanswered
from evals.judges.templates import load_template
from trainers.common.plugins import checked

Name = Annotated[str, Field(min_length=1)]

#: After this many requests in a row without an answer, retries included, the server is taken to be down.
GIVE_UP_AFTER = 3
TOP_LOGPROBS = 20


class LLMJudge(Judge):
    """Asks a chat model for a verdict, with a prompt template from a file.

    Its identity is the model name, the template's content and the decoding settings. The address is not part of it, so
    two different models must be served under two names.

    Args:
        model: name the server knows the model by.
        base_url: address up to the version, for example http://localhost:8000/v1.
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
        model: Name,
        base_url: Name,
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
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise JudgeError(f"base_url is {base_url!r}; it must be like http://localhost:8000/v1")
        if "@" in parts.netloc or parts.query:
            raise JudgeError("base_url must hold no credentials; name an environment variable in api_key_env")
        extra = dict(extra_body or {})
        if "messages" in extra:
            raise JudgeError("extra_body must not hold 'messages': they come from the template; remove the key")
        self.template = load_template(template)
        self.compares = self.template.compares
        self._endpoint = Endpoint(base_url, api_key_env, timeout_s, retries, backoff_s)
        self._concurrency, self._per_minute = concurrency, requests_per_minute
        self._limits = (max_requests, max_tokens)
        settings: dict[str, Any] = {"model": model, "temperature": temperature, "max_tokens": self.template.max_tokens}
        if self.template.reads_logprobs:
            settings |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        self._settings = {key: value for key, value in (settings | extra).items() if value is not None}

    def identity(self) -> dict[str, Any]:
        return {"kind": "llm", "settings": self._settings, "template": dict(self.template.content)}

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        pace, budget, stop = Pace(self._per_minute), Budget(*self._limits, spent), threading.Event()
        client = self._endpoint.client()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="judge")
        running: dict[Future[Reply], int] = {}
        waiting = iter(range(len(requests)))
        failures, given_up = 0, None
        try:
            while True:
                while given_up is None and len(running) < self._concurrency:
                    index = next(waiting, None)
                    if index is None:
                        break
                    running[pool.submit(self._one, client, requests[index], pace, budget, stop)] = index
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    index, reply = running.pop(future), future.result()
                    if reply.raw is not None:  # the server spoke, if only to refuse
                        failures = 0
                    else:
                        failures += 1
                    yield index, reply
                    if failures >= GIVE_UP_AFTER:
                        given_up = reply.reason
            for index in waiting:
                yield index, Reply(None, f"not asked: {given_up}", final=False)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            client.close()

    def _one(self, client: Any, request: Request, pace: Pace, budget: Budget, stop: threading.Event) -> Reply:
        body = {**self._settings, "messages": self.template.fill(request)}
        try:
            answer, cost = self._endpoint.chat(client, body, pace, budget, stop)
        except Refused as error:
            status, said = error.args
            return Reply(None, status, said, error.cost, final=False)
        except Unanswered as error:
            return Reply(None, str(error), None, error.cost, final=False)
        choice = answer["choices"][0]
        text = self._endpoint.redact(choice["message"]["content"] or "")
        if self.template.reads_logprobs:
            try:
                alternatives = choice["logprobs"]["content"][0]["top_logprobs"]
                value, reason = self.template.parse_logprobs(alternatives)
            except (KeyError, IndexError, TypeError):
                value, reason = None, "the server returned no log-probs"
        else:
            value, reason = self.template.parse_text(text)
        if value is None and choice.get("finish_reason") == "length" and not self.template.reads_logprobs:
            reason = "cut off before a verdict (max_tokens of the template)"
        return Reply(value, reason, text, cost)
