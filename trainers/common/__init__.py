"""Ground floor: small modules that every package may use, and that import nothing above them."""

from trainers.common.chat import cut_pair, message_ids, message_text, pair_ids
from trainers.common.errors import UnreadableError, UserError, first_fault, refuse
from trainers.common.events import Events, EventTail, last_error, tail
from trainers.common.files import (
    Json,
    cache_dir,
    file_hash,
    fingerprint,
    now,
    parameter_count,
    push,
    read_json,
    stable,
    write_bytes,
    write_json,
)
from trainers.common.jsonl import dump, read_jsonl, write_jsonl, write_text
from trainers.common.plugins import Registry, checked, entry_points, problem_of
from trainers.common.processes import end_with, stop
from trainers.common.rows import Row, not_an_object, printed_messages, read_rows
from trainers.common.turns import (
    DataError,
    NoPreferenceError,
    Turns,
    after_history,
    as_turns,
    identical,
    messages,
    optional,
    plain,
    required,
    text_of,
)
from trainers.common.words import nearest

__all__ = [
    "DataError",
    "EventTail",
    "Events",
    "Json",
    "NoPreferenceError",
    "Registry",
    "Row",
    "Turns",
    "UnreadableError",
    "UserError",
    "after_history",
    "as_turns",
    "cache_dir",
    "checked",
    "cut_pair",
    "dump",
    "end_with",
    "entry_points",
    "file_hash",
    "fingerprint",
    "first_fault",
    "identical",
    "last_error",
    "message_ids",
    "message_text",
    "messages",
    "nearest",
    "not_an_object",
    "now",
    "optional",
    "pair_ids",
    "parameter_count",
    "plain",
    "printed_messages",
    "problem_of",
    "push",
    "read_json",
    "read_jsonl",
    "read_rows",
    "refuse",
    "required",
    "stable",
    "stop",
    "tail",
    "text_of",
    "write_bytes",
    "write_json",
    "write_jsonl",
    "write_text",
]
