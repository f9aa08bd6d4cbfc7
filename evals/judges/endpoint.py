"""An OpenAI-compatible chat endpoint: retries with back-off, a rate limit, and a budget."""

from __future__ import annotations

import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evals.judges.base import JudgeError
from evals.judges.cache import Cost

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: Longest pause before a retry, seconds, whatever the server asks for.
LONGEST_PAUSE = 120.0


class Unanswered(Exception):
    """No usable answer for now: retries used up, the budget spent, or the run is stopping. `cost` is what was tried."""

    cost = Cost()


class Refused(Unanswered):
    """The server is well and does not take this request, say because it is too long; args are the status and its words."""


class Budget:
    """Requests and tokens that may be spent; safe for several threads.

    The check comes before a request, so the tokens of requests in flight can go beyond the limit.
    """

    def __init__(self, max_requests: int | None, max_tokens: int | None, spent: Cost) -> None:
        self._max_requests, self._max_tokens = max_requests, max_tokens
        self._requests, self._tokens = spent.requests, spent.tokens
        self._lock = threading.Lock()

    def take(self) -> None:
        """Reserve one request; Unanswered where none is left."""
        with self._lock:
            if self._max_requests is not None and self._requests >= self._max_requests:
                raise Unanswered("request budget spent")
            if self._max_tokens is not None and self._tokens >= self._max_tokens:
                raise Unanswered("token budget spent")
            self._requests += 1

    def charge(self, usage: Mapping[str, Any]) -> Cost:
        """Count the tokens of one answer. JudgeError if a token limit is set and the server does not count tokens."""
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if self._max_tokens is not None and not (isinstance(prompt, int) and isinstance(completion, int)):
            raise JudgeError("max_tokens is set, but the server reports no token usage; use max_requests instead")
        cost = Cost(0, int(prompt or 0), int(completion or 0))
        with self._lock:
            self._tokens += cost.tokens
        return cost


class Pace:
    """At most so many requests a minute, evenly spaced; safe for several threads."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Sleep until the next request is due."""
        with self._lock:
            now = time.monotonic()
            due = max(self._next, now)
            self._next = due + self._gap
        if due > now:
            stop.wait(due - now)


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. `api_key_env` names the environment variable with the key, which is kept nowhere else."""

    base_url: str
    api_key_env: str | None
    timeout_s: float
    retries: int
    backoff_s: float

    def key(self) -> str | None:
        """The API key, read now. JudgeError if the named variable is empty."""
        if self.api_key_env is None:
            return None
        value = os.environ.get(self.api_key_env)
        if not value:
            raise JudgeError(
                f"the environment variable {self.api_key_env} (api_key_env) is not set; export the key in it"
            )
        return value

    def client(self) -> Any:
        """An httpx client with the key in its headers."""
        try:
            import httpx
        except ImportError as error:
            raise JudgeError("the llm judge needs the package httpx; run: pip install httpx") from error
        key = self.key()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return httpx.Client(headers=headers, timeout=self.timeout_s)

    def chat(
        self, client: Any, body: Mapping[str, Any], pace: Pace, budget: Budget, stop: threading.Event
    ) -> tuple[dict[str, Any], Cost]:
        """One chat completion: its JSON and what it cost.

        Raises:
            Unanswered: retries used up, budget spent, or `stop` was set.
            Refused: the server does not take this request.
            JudgeError: the server takes no request at all (a wrong key, address or model).
        """
        url = self.base_url.rstrip("/") + "/chat/completions"
        content = json.dumps(body, allow_nan=False).encode()
        attempts, problem, pause = 0, "", 0.0
        try:
            while attempts <= self.retries:
                if attempts:
                    stop.wait(pause)
                pace.wait(stop)
                if stop.is_set():
                    raise Unanswered("the run is stopping")
                budget.take()
                attempts += 1
                answer, problem, asked_pause = self._once(client, url, content)
                if answer is not None:
                    return answer, Cost(attempts) + budget.charge(answer.get("usage") or {})
                # Half of the pause is random, so that requests refused together do not come back together.
                pause = self.backoff_s * 2 ** (attempts - 1) * random.uniform(0.5, 1.0)
                pause = min(max(pause, asked_pause), LONGEST_PAUSE)
            raise Unanswered(problem)
        except Unanswered as error:
            error.cost = Cost(attempts)
            raise

    def _once(self, client: Any, url: str, content: bytes) -> tuple[dict[str, Any] | None, str, float]:
        """(answer, problem, seconds the server asks to wait)."""
        import httpx

        try:
            response = client.post(url, content=content)
        except httpx.TimeoutException:
            return None, "timeout", 0.0
        except httpx.RequestError as error:
            return None, f"connection failed ({type(error).__name__})", 0.0
        except httpx.InvalidURL as error:
            raise JudgeError(f"base_url {self.base_url!r}: {error}; give http://host:port/v1") from error
        if response.status_code in RETRIED:
            return None, f"HTTP {response.status_code}", _retry_after(response.headers.get("retry-after"))
        said = self.redact(" ".join(response.text.split()))[:300]  # cut last: half a key would not be known
        if 300 <= response.status_code < 400 or response.status_code in (401, 402, 403, 404):
            fixes = {401: "check api_key_env", 402: "the account has no credit", 403: "check api_key_env"}
            fix = fixes.get(response.status_code, "check base_url and model")
            raise JudgeError(f"{url} refused the request with HTTP {response.status_code} ({said}); {fix}")
        if response.status_code >= 400:
            raise Refused(f"HTTP {response.status_code}", said)
        try:
            answer = response.json()
            answer["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            return None, "answer is not a chat completion", 0.0
        return answer, "", 0.0

    def redact(self, text: str) -> str:
        """`text` without the API key, should a server repeat it."""
        key = os.environ.get(self.api_key_env) if self.api_key_env else None
        return text.replace(key, "[key]") if key else text


def _retry_after(value: str | None) -> float:
    if value is None:
        return 0.0
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
