"""lm-evaluation-harness tasks on an `evals.engine.base.Engine`, tokenised as lm-eval's own `hf` model tokenises.

lm-eval's own vLLM model needs a distribution named `vllm` and starts a second engine; this one uses the running engine.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text

from evals.engine.base import Engine, Sampling
from evals.engine.chat import hashed_seed
from evals.progress import Clock, batches, kept_rows
from trainers.common import Json, scores_schema

# Results of the requests of an lm-eval task, appended to disk as they arrive, so that a killed task resumes.


FOLDER = "lm_eval"


def cache_path(out: Path, benchmark: str) -> Path:
    """Where the results of a task lie under a policy's directory."""
    return Path(out) / FOLDER / f"{benchmark}.jsonl"


class ResultCache:
    """Results by the content of the request, of one policy on one task.

    Args:
        path: the file; None keeps nothing beyond this process.
        identity: of policy and task; results of another identity are removed.
    """

    def __init__(self, path: Path | None = None, identity: str = "") -> None:
        self._path, self._identity = path, {"identity": identity}
        rows = [] if path is None else kept_rows(path, self._identity)
        self._known: Json = {row["key"]: row["result"] for row in rows}

    @staticmethod
    def key(*request: Any) -> str:
        """Of everything that determines the result."""
        return scores_schema.digest(list(request))[:32]

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Places of the keys without a result, each key once."""
        return list({key: i for i, key in reversed(list(enumerate(keys))) if key not in self._known}.values())[::-1]

    def put(self, results: Mapping[str, Any]) -> None:
        """Keep results (JSON-ready) and push them to disk."""
        self._known.update(results)
        if self._path is not None and results:
            rows = [{**self._identity, "key": key, "result": result} for key, result in results.items()]
            scores_schema.append_rows(self._path, rows)

    def get(self, key: str) -> Any:
        return self._known[key]


_DEFAULT_MAX_GEN_TOKS = 256
#: Requests handed to the engine at once; between them progress is reported.
_SCORED_TOGETHER, _DECODED_TOGETHER = 512, 256


class RequestError(ValueError):
    """A request of a task does not fit the engine."""


class EngineLM(TemplateLM):
    """`lm_eval.api.model.LM` over an engine; log-likelihoods are sums in nats.

    Inputs longer than the engine's `max_model_len` lose tokens on the left. One position is kept free when scoring,
    because vLLM generates a token with every prompt. What `cache` knows is not asked of the engine. With `backwards`, the last
    request is asked first, so that each comes in another batch.
    """

    def __init__(
        self,
        engine: Engine,
        progress: Callable[..., None] | None = None,
        cache: ResultCache | None = None,
        backwards: bool = False,
    ) -> None:
        super().__init__()
        self._engine, self._cache, self._order = engine, cache or ResultCache(), -1 if backwards else 1
        self._progress = progress or (lambda **_: None)
        self.tokenizer = engine.tokenizer
        self.max_length = engine.max_model_len - 1  # longest context and continuation together that is scored, tokens

    @property
    def eot_token_id(self) -> int:
        """End-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What an empty context stands for: BOS, or EOS for tokenizers without one."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, for lm-eval's request cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; special tokens are the tokenizer's default unless the text begins with BOS already."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode([self.prefix_token_id])):
            add_special_tokens = False
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **options))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Text of a conversation under the tokenizer's template; an assistant's last turn is left open to go on."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str] | None, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs: list[tuple[list[int], list[int]]] = []
        for text, context, continuation in requests:
            room = self.max_length - len(continuation)
            if not continuation or room < 1:
                raise RequestError(
                    f"continuation of {len(continuation)} tokens cannot be scored with max_model_len "
                    f"{self._engine.max_model_len}: {text!r:.200}; raise evaluation.engine.max_model_len"
                )
            pairs.append((context[-room:], continuation))
        keys = [ResultCache.key("loglikelihood", context, continuation) for context, continuation in pairs]
        todo = self._cache.missing(keys)[:: self._order]
        clock = Clock(self._progress, len(todo))
        for places in batches(todo, _SCORED_TOGETHER):
            part = [pairs[i] for i in places]
            scored = self._engine.loglikelihood(part)
            self._cache.put({keys[i]: list(result) for i, result in zip(places, scored, strict=True)})
            clock.tick(len(part), sum(len(context) + len(continuation) for context, continuation in part))
        return [(float(value), bool(greedy)) for value, greedy in map(self._cache.get, keys)]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-prob of each whole text, in windows that predict every token once with as much context as fits."""
        owners: list[int] = []
        windows: list[tuple[tuple[str, str] | None, list[int], list[int]]] = []
        for i, request in enumerate(requests):
            for window in utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,  # a window holds one token more: what the first one is predicted from
                context_len=1,
            ):
                context, continuation = utils.make_disjoint_window(window)
                owners.append(i)
                windows.append((None, context, continuation))
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += value
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Answers cut before the first stop string; requests with the same settings are decoded together."""
        answers = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(i)
        clock = Clock(self._progress, len(requests))
        for members in groups.values():
            settings = normalize_gen_kwargs(dict(requests[members[0]].args[1]), _DEFAULT_MAX_GEN_TOKS)
            stop = tuple(word for word in settings["until"] if word)  # vLLM refuses empty stop strings
            room = self._engine.max_model_len - settings["max_gen_toks"]
            if room < 1:
                raise RequestError(
                    f"max_gen_toks {settings['max_gen_toks']} leaves no room for the prompt in max_model_len "
                    f"{self._engine.max_model_len}; raise evaluation.engine.max_model_len"
                )
            contexts = [requests[i].args[0] for i in members]
            prompts = [(self.tok_encode(context) or [self.prefix_token_id])[-room:] for context in contexts]
            sampling = self._sampling(settings, stop, contexts)
            drawn = sampling.seeds or (None,) * len(members)
            fixed = sampling.max_tokens, sampling.temperature, sampling.top_p, stop
            keys = [ResultCache.key("generate", ids, fixed, seed) for ids, seed in zip(prompts, drawn, strict=True)]
            todo = self._cache.missing(keys)[:: self._order]
            clock.skip(len(members) - len(todo))
            for part in batches(todo, _DECODED_TOGETHER):
                seeds = tuple(sampling.seeds[k] for k in part) if sampling.seeds else None
                decoded = self._engine.generate([prompts[k] for k in part], replace(sampling, seeds=seeds))
                self._cache.put({keys[k]: answer.text for k, answer in zip(part, decoded, strict=True)})
                clock.tick(len(decoded), sum(len(answer.token_ids) for answer in decoded))
            for i, key in zip(members, keys, strict=True):
                answers[i] = postprocess_generated_text(self._cache.get(key), list(stop), None)
        return answers

    @staticmethod
    def _sampling(settings: Json, stop: tuple[str, ...], contexts: list[str]) -> Sampling:
        temperature = float(settings["temperature"]) if settings["do_sample"] else 0.0
        if temperature == 0.0:
            return Sampling(settings["max_gen_toks"], stop=stop)
        seen: Counter[str] = Counter()
        seeds = []
        for context in contexts:
            seeds.append(hashed_seed(f"{seen[context]}:{context}"))
            seen[context] += 1
        return Sampling(settings["max_gen_toks"], temperature, float(settings.get("top_p", 1.0)), stop, tuple(seeds))
