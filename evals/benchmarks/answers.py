"""Benchmarks that score answers one at a time."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from statistics import variance
from typing import Any, ClassVar

from evals.benchmarks.base import Benchmark, Row, Visit
from evals.benchmarks.generate import generate_missing, read_generations, turn_id
from evals.benchmarks.logprobs import Request, are_complete, complete, perplexities, prompt_requests
from evals.estimates import mean
from trainers.common import message_ids, scores_schema

PERPLEXITY = "log_prompt_perplexity"
#: In a score file: the policy under which PERPLEXITY of its items was measured; null where the rows carried the values.
PERPLEXITY_UNDER = "prompt_perplexity_under"
#: Key that `ReferenceScored` adds to answers: log-probs of their tokens, nats; empty where they are not scored.
REFERENCE_LOGPROBS = "reference_logprobs"


class AnswerBenchmark(Benchmark):
    """A benchmark that scores answers one at a time: a subclass reads the rows and gives each answer its values.

    Class attributes:
        spare: tokens that the longest prompt with its answers leaves free of the engine's max_model_len.
    """

    spare: ClassVar[int] = 0

    @abstractmethod
    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        """Value of every metric for one answer (a row of generations: text, token_ids, finish_reason, ...)."""

    def message(self, row: Row) -> str:
        """What the policy is asked."""
        return str(row["prompt"])

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        """Further keys of a row's item, from its first answer."""
        return {}

    def answers_of(self, visit: Visit, rows: list[Row]) -> dict[str, list[Row]]:
        """The policy's answers to `rows` by prompt id, in order of their sample."""
        return read_generations(visit)

    def collect(self, visit: Visit, rows: list[Row]) -> None:
        """Generate the answers; of the reference, also score the prompts."""
        generate_missing(visit, [{"id": row["id"], "turns": self.asked(row)} for row in rows], self.spare)
        if visit.policy.is_reference and visit.reference is not None:
            complete(visit.of_reference(), self._prompts(visit, rows))

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Whether the prompts are not yet scored under the reference."""
        return visit.reference is not None and not are_complete(visit.of_reference(), self._prompts(visit, rows))

    def score(self, visit: Visit, rows: list[Row], fingerprint: str) -> Row:
        """The score file; samples of a prompt are averaged, and later turns are items of their own in the group of the first.

        Prompt perplexity (nats per token after the first, under the reference) is that of the first turn; without a reference it
        is what the rows carry.
        """
        answers, perplexity = self.answers_of(visit, rows), [row.get(PERPLEXITY) for row in rows]
        if visit.reference is not None:
            perplexity = perplexities(visit.of_reference(), self._prompts(visit, rows))
        items = []
        for row, log_ppl in zip(rows, perplexity, strict=True):
            turns = self.asked(row)
            for turn, text in enumerate(turns):
                found = answers[turn_id(row["id"], turn)]
                each = [self.values(row, answer) for answer in found]
                items.append(
                    {
                        "id": turn_id(row["id"], turn),
                        "values": {name: mean([values.get(name) for values in each]) for name in self.metrics},
                        "group": row["id"] if len(turns) > 1 else row.get("group"),
                        "prompt": text,
                        "response": found[0]["text"],
                        PERPLEXITY: None if turn else log_ppl,
                        **_sampled(each),
                        **self.details(row, found[0]),
                    }
                )
        under = None if visit.reference is None else scores_schema.REFERENCE
        said = {PERPLEXITY_UNDER: under, "by_rule": self.by_rule, "descriptions": dict(self.descriptions)}
        return self.result(visit, fingerprint, items) | said

    def asked(self, row: Row) -> list[str]:
        """What the policy is asked, turn after turn."""
        return self.turns_of(row)

    def turns_of(self, row: Row) -> list[str]:
        return list(row.get("turns") or [self.message(row)])

    def _prompts(self, visit: Visit, rows: list[Row]) -> list[Request | None]:
        return prompt_requests(visit, [self.asked(row)[0] for row in rows])


def _sampled(each: Sequence[Mapping[str, float | None]]) -> Row:
    """`sample_variance` of every metric over the samples of a prompt; nothing where there is one sample."""
    if len(each) < 2:
        return {}
    known = {name: [v for values in each if (v := values.get(name)) is not None] for name in each[0]}
    return {"sample_variance": {name: variance(values) for name, values in known.items() if len(values) == len(each)}}


class ReferenceScored(AnswerBenchmark):
    """A benchmark whose answers are also scored under the reference, once all policies were visited."""

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Where prompts or answers are not scored under the reference yet."""
        return super().needs_reference(visit, rows) or not are_complete(visit, list(self.requests(visit).values()))

    def answers_of(self, visit: Visit, rows: list[Row]) -> dict[str, list[Row]]:
        """With the log-probs (nats) of each answer's tokens under the reference, whose weights are served for what is missing."""
        answers, requests = super().answers_of(visit, rows), self.requests(visit)
        scored = complete(visit, list(requests.values()))
        for answer in (one for found in answers.values() for one in found):
            request = requests.get((answer["prompt_id"], int(answer["sample"])))
            answer[REFERENCE_LOGPROBS] = () if request is None else scored[request.id]
        return answers

    def requests(self, visit: Visit) -> dict[tuple[str, int], Request]:
        """Every answer after what led to it; none where there is no reference."""
        if visit.reference is None:
            return {}
        tokenizer, room, found = visit.engine.tokenizer, visit.engine.max_model_len - 1, {}
        for answer in (one for rows in read_generations(visit).values() for one in rows):
            question = {"role": "user", "content": answer["prompt"]}
            context = message_ids(tokenizer, [*answer.get("messages", []), question])
            # of an answer that fills max_model_len all but the last token: vLLM generates one with every text it scores
            tokens = answer["token_ids"][: room - len(context)]
            if tokens:
                name = f"{answer['prompt_id']}/{answer['sample']}"
                found[answer["prompt_id"], int(answer["sample"])] = Request(name, context, tokens)
        return found
