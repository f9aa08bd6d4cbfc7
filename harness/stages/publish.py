"""Uploads of finished policies to the hub: only on `run-matrix --push`, only where the matrix names a place."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from harness.config import MatrixConfig, Source, refuse
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.state import RunRecord, RunStore, read_run
from harness.state.policies import published_dir
from trainers.common import Json, UserError, scores_schema, write_bytes
from trainers.common.plugins import is_file_target
from trainers.common.training_schema import ADAPTER_DIR, BETA_HEAD, MODEL_CARD, TRAIN_RESULT
from trainers.rules import catalogue

_LONGEST = 96  # of a repository's name, says the hub


def check_push(config: MatrixConfig, source: Source, run_ids: Sequence[str]) -> None:
    """Refuse an upload that could not work, before anything is trained.

    Raises:
        UserError: no place is named, a name is too long, the hub is switched off, or there is no token.
    """
    from huggingface_hub import constants, get_token

    place = config.push_to_hub
    if place is None:
        raise UserError(f"--push: {source.path} names no place; add push_to_hub: {{prefix: owner/name}}")
    where = source.where(("push_to_hub",))
    longest = max(run_ids, key=len)
    refuse(
        (
            len(f"{place.prefix}-{longest}".partition("/")[2]) > _LONGEST,
            f"{where}: push_to_hub.prefix is {place.prefix!r}; with run {longest!r} the name is longer than {_LONGEST} "
            "letters; shorten it",
        ),
        (
            config.save == "adapter" and config.model.adapter is not None,
            f"{source.where(('save',))}: save is 'adapter', and model.adapter is merged into the starting weights; nobody could "
            "load the new adapter without these: set save to merged or both, or leave --push out",
        ),
        (
            constants.HF_HUB_OFFLINE,
            f"{where}: --push needs the hub, and HF_HUB_OFFLINE is set; unset it, or leave --push out",
        ),
        (get_token() is None, f"{where}: --push needs a token of the hub; set HF_TOKEN, or run hf auth login"),
    )


@contextmanager
def upload_folder(plan: Plan, spec: RunSpec) -> Iterator[Path]:
    """The folder to upload. An adapter's configuration names the starting model as the matrix does, not where it lies here."""
    folder = published_dir(plan.run_dir(spec))
    assert folder is not None  # a run that is done has one
    with tempfile.TemporaryDirectory() as scratch:
        if folder.name == ADAPTER_DIR:
            folder = Path(shutil.copytree(folder, Path(scratch) / folder.name))
            file, model = folder / "adapter_config.json", plan.config.model
            config = json.loads(file.read_text(encoding="utf-8"))
            config |= {"base_model_name_or_path": _public(model.name_or_path), "revision": model.revision}
            file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
        yield folder


def push_policies(plan: Plan, specs: Sequence[RunSpec], log: Callable[[str], None]) -> None:
    """Upload the policy (with its card) of every run of `specs` that is done.

    The hub keeps what it has already, so a second call sends only what changed.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    place = plan.config.push_to_hub
    assert place is not None  # check_push came first
    api = HfApi()
    for spec in specs:
        if RunStore(plan.run_dir(spec)).status().state != "done":
            log(f"not uploaded (not finished): {spec.label}")
            continue
        name = f"{place.prefix}-{spec.run_id}"
        try:
            api.create_repo(name, private=place.private, exist_ok=True)
            with upload_folder(plan, spec) as folder:
                api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"{plan.config.name}: {spec.label}")
            for file, text in eval_results(plan.run_dir(spec)).items():
                api.upload_file(path_or_fileobj=text.encode(), path_in_repo=f".eval_results/{file}", repo_id=name)
        except (HfHubHTTPError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"--push: {name} could not be uploaded ({reason}); nothing local is lost: retry") from None
        log(f"uploaded {spec.label} to {name}")


# README.md of a trained policy: where it comes from, with what, and how it did. Made from the run's files alone.
#
# No part of any fingerprint or checksum: it is rewritten when scores are added.


def write_card(run_dir: Path, matrix: str) -> Path | None:
    """Write the card of a finished run into its policy (its adapter where it kept no merged weights), by one rename; None where
    there is no policy or nothing changed."""
    policy, record = published_dir(run_dir), read_run(run_dir)
    if policy is None or record is None:
        return None
    path, text = policy / MODEL_CARD, card(run_dir, record, matrix).encode()
    if path.is_file() and path.read_bytes() == text:
        return None
    write_bytes(path, text)
    return path


def card(run_dir: Path, record: RunRecord, matrix: str) -> str:
    """The card's text: front matter the hub reads, then provenance, metrics and how to load it."""
    base = record.model.name if record.model is not None else ""
    alone = published_dir(run_dir) == run_dir / ADAPTER_DIR
    scores = [scores_schema.read_json(path) for path in sorted((run_dir / scores_schema.SCORES).glob("*.json"))]
    head: Json = {
        "library_name": "peft" if alone else "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base} if base.count("/") == 1 and not _is_path(base) else {}),
        "tags": ["trl", record.objective or "dpo", "preference-optimization", f"beta-{_rule(record)}"],
        **_model_index(scores, record.run_id),
    }
    merged = f"The LoRA adapter is merged into these weights; the run keeps it apart in `{ADAPTER_DIR}/` too."
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {record.run_id}",
        f"One run of the matrix `{_plain(matrix)}`: method `{record.method}`, seed {record.seed}. A single seed says "
        "little about a method; the report of the whole matrix compares methods over all seeds, with intervals.",
        _provenance(record, run_dir),
        _metrics(scores),
        _USE,
        "This is a LoRA adapter: with `peft` installed, the starting model named above is loaded with it." * alone,
        merged * (not alone and (run_dir / ADAPTER_DIR).is_dir()),
        f"The run holds the learned beta head as `{BETA_HEAD}`; generation does not need it."
        * (run_dir / BETA_HEAD).is_file(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _public(name: str) -> str:
    """A folder by its name alone, since a card may be made public; anything else as it is."""
    return Path(name).name if _is_path(name) else name


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~"))


def _rule(record: RunRecord) -> str:
    rule = str(record.rule)
    return rule.rpartition(":")[2] if is_file_target(rule) else rule


_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "\n": " "})


def _plain(value: Any) -> str:
    return str(value).translate(_MARKUP)


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _settings(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in (values or {}).items()) or "none"


def _provenance(record: RunRecord, run_dir: Path) -> str:
    data, model = record.data, record.model
    assert data is not None and model is not None  # a finished run has both
    rule, result = _rule(record), scores_schema.read_json(run_dir / TRAIN_RESULT)
    known = catalogue.BUILTIN.get(rule)
    sources = [data.train] if isinstance(data.train, str) else [str(one["source"]) for one in data.train]
    rows: list[tuple[Any, Any]] = [
        ("starting model", _public(model.name)),
        ("its weights (SHA-256)", model.weights_hash),
        ("objective", record.objective or "dpo"),
        ("rule for beta", f"{rule}: {known.summary}" if known else rule),
        ("parameters", _settings(record.params)),
        ("control of", record.parent or None),
        ("training pairs", f"{data.n_pairs} from {', '.join(map(_public, sources))}"),
        ("their content (SHA-256)", data.content_hash),
        ("training settings", _settings(record.training)),
        ("LoRA", _settings(record.lora) if record.lora is not None else "none: all weights"),
        ("seed", record.seed),
        ("fingerprint", record.fingerprint),
        ("steps, pairs", f"{result['steps']}, {result['examples']}" if result else None),
        ("precision", result.get("precision")),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]
    return "## Provenance\n\n" + _table(("what", "value"), [row for row in rows if row[1] is not None])


def _primary(scores: Json) -> Json:
    return dict(scores.get("metrics", {}).get(scores.get("primary_metric"), {}))


def _model_index(every: Sequence[Json], name: str) -> Json:
    """`model-index` of the front matter: the primary metric of every benchmark, as the hub shows them on a model's page."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=(scores.get("dataset") or {}).get("id") or scores["benchmark"],
            dataset_name=scores["benchmark"],
            metric_type=scores["primary_metric"],
            metric_value=_primary(scores)["value"],
        )
        for scores in every
        if _primary(scores).get("value") is not None
    ]
    return {"model-index": eval_results_to_model_index(name, results)} if results else {}


def eval_results(run_dir: Path) -> dict[str, str]:
    """Files of `.eval_results/`, by name: scores on tasks whose data set the hub has, with what differs from the plain task.

    https://huggingface.co/docs/hub/eval-results
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    files = {}
    for scores in map(scores_schema.read_json, sorted((run_dir / scores_schema.SCORES).glob("*.json"))):
        dataset, metric = scores.get("dataset") or {}, _primary(scores)
        if dataset.get("id") is not None and metric.get("value") is not None:
            shots, version = f"{scores['num_fewshot']}-shot", f"lm-eval {scores['versions']['lm_eval']}"
            entry = EvalResultEntry(
                dataset_id=dataset["id"],
                task_id=scores["task"],
                value=metric["value"],
                notes=", ".join([scores["primary_metric"], shots, f"{metric['n']} documents", version]),
            )
            files[f"{scores['benchmark']}.yaml"] = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    return files


def _metrics(every: Sequence[Json]) -> str:
    def shown(value: float | None, form: str, missing: str) -> str:
        return missing if value is None else format(value, form)

    rows: list[tuple[Any, ...]] = [
        (
            scores["benchmark"],
            name,
            shown(one.get("value"), ".4g", "undefined"),
            shown(one.get("stderr"), ".2g", ""),
            one.get("n", ""),
        )
        for scores in every
        for name, one in scores.get("metrics", {}).items()
    ]
    return "## Measured\n\n" + _table(("benchmark", "metric", "value", "standard error", "n"), rows) if rows else ""


_USE = """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH_OR_ID")
tokenizer = AutoTokenizer.from_pretrained("PATH_OR_ID")
```"""
