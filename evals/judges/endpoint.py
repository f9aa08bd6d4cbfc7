"""An OpenAI-compatible chat endpoint: retries with back-off, a rate limit, and a budget."""

import contextlib
import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.judges.base import JudgeError
from evals.judges.cache import Cost
from trainers.common import Json, refuse

if TYPE_CHECKING:
    import httpx

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_FIXES = {401: "check api_key_env", 402: "the account has no credit", 403: "check api_key_env"}
#: Longest pause before a retry, seconds, whatever the server asks for.
LONGEST_PAUSE = 120.0


class Unanswered(Exception):
    """No usable answer: the server failed or refuses, the budget is spent, or the run is stopping.

    Attributes:
        said: the words of a server that is well and refuses, say because the request is too long; else None.
        wait: seconds to wait before another try, at least; None where another try is of no use.
        cost: of what was tried.
    """

    def __init__(self, problem: str, said: str | None = None, wait: float | None = None) -> None:
        super().__init__(problem)
        self.said, self.wait, self.cost = said, wait, Cost()


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
            refuse(
                Unanswered,
                (self._max_requests is not None and self._requests >= self._max_requests, "request budget spent"),
                (self._max_tokens is not None and self._tokens >= self._max_tokens, "token budget spent"),
            )
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

    def client(self) -> "httpx.Client":
        """A client with the key in its headers."""
        import httpx

        key = self.key()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return httpx.Client(headers=headers, timeout=self.timeout_s)

    def chat(
        self, client: "httpx.Client", body: Mapping[str, Any], pace: Pace, budget: Budget, stop: threading.Event
    ) -> tuple[Json, Cost]:
        """One chat completion: its JSON and what it cost.

        Raises:
            Unanswered: retries used up, budget spent, `stop` was set, or the server does not take this request.
            JudgeError: the server takes no request at all (a wrong key, address or model).
        """
        content = json.dumps(body, allow_nan=False).encode()
        attempts, pause = 0, 0.0
        while True:
            try:
                stop.wait(pause)
                pace.wait(stop)
                if stop.is_set():
                    raise Unanswered("the run is stopping")
                budget.take()
                attempts += 1
                answer = self._once(client, content)
                return answer, Cost(attempts) + budget.charge(answer.get("usage") or {})
            except Unanswered as problem:
                problem.cost = Cost(attempts)
                if problem.wait is None or attempts > self.retries:
                    raise
                # Half of the pause is random, so that requests refused together do not come back together.
                pause = self.backoff_s * 2 ** (attempts - 1) * random.uniform(0.5, 1.0)
                pause = min(max(pause, problem.wait), LONGEST_PAUSE)

    def _once(self, client: "httpx.Client", content: bytes) -> Json:
        import httpx

        url = self.base_url.rstrip("/") + "/chat/completions"
        try:
            response = client.post(url, content=content)
        except httpx.TimeoutException:
            raise Unanswered("timeout", wait=0.0) from None
        except httpx.RequestError as error:
            raise Unanswered(f"connection failed ({type(error).__name__})", wait=0.0) from None
        except httpx.InvalidURL as error:
            raise JudgeError(f"base_url {self.base_url!r}: {error}; give http://host:port/v1") from error
        status = response.status_code
        if status in RETRIED:
            raise Unanswered(f"HTTP {status}", wait=_retry_after(response.headers.get("retry-after")))
        said = self.redact(" ".join(response.text.split()))[:300]  # cut last: half a key would not be known
        if 300 <= status < 400 or status in (401, 402, 403, 404):
            fix = _FIXES.get(status, "check base_url and model")
            raise JudgeError(f"{url} refused the request with HTTP {status} ({said}); {fix}")
        if status >= 400:
            raise Unanswered(f"HTTP {status}", said)
        try:
            answer: Json = response.json()
            answer["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise Unanswered("answer is not a chat completion", wait=0.0) from None
        return answer

    def redact(self, text: str) -> str:
        """`text` without the API key, should a server repeat it."""
        key = os.environ.get(self.api_key_env) if self.api_key_env else None
        return text.replace(key, "[key]") if key else text


def _retry_after(value: str | None) -> float:
    """Seconds the server asks to wait, from a Retry-After header: a number or a date; 0 without one."""
    for read in (float, lambda date: email.utils.parsedate_to_datetime(date).timestamp() - time.time()):
        with contextlib.suppress(TypeError, ValueError):
            return max(read(value or ""), 0.0)
    return 0.0
