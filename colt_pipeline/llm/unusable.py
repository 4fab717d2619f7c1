"""Models that gave no usable answer in a whole run, and what the user can change."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from colt_pipeline.records import Reply
from colt_pipeline.runs.events import Call, Event, with_calls

_USABLE = ("accepted", "inapplicable", "duplicate")
"""Outcomes of answers that follow the format; whether they help is the search's concern."""
_FEWEST = 2
"""Answers from which on "all" means something."""
_LONGER = "raise llm.max_tokens or, if the model has its own, max_tokens in its sampling"
_REASONS = {
    "empty": "were empty; see the answers in the recording",
    "truncated": f"were cut off; {_LONGER}",
    "not_json": "hold no JSON object with transformations; set json_schema: true if its server supports that",
    "refusal": "were refused or withheld by the provider",
    "unknown_transformation": "name transformations that were not on offer",
    "bad_decision": "hold decisions that were not on offer",
    "transport": "never arrived",
}
_THOUGHTS = "<think>"
_TOOL_CALLS = ("tool_calls", "function_call")


def note_unusable_models(run: str, events: Iterable[Event], reply: Callable[[str, int], Reply | None]) -> None:
    """Print the lines of `unusable_models` for the user."""
    for line in unusable_models(events, reply):
        print(f"note: {run}: {line}", file=sys.stderr, flush=True)


def unusable_models(events: Iterable[Event], reply: Callable[[str, int], Reply | None]) -> list[str]:
    """One line for each model none of whose answers was usable, with the most frequent reason.

    Args:
        events: a run's journal.
        reply: key and occurrence of a question -> its recorded answer, if there is one.
    """
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    for _, applied in with_calls(events):
        for call in applied:
            calls[call.model].append(call)
    return [
        f"all {len(own)} answers of {model} were unusable: {_reason(own, reply)}"
        for model, own in calls.items()
        if len(own) >= _FEWEST and not any(call.outcome in _USABLE for call in own)
    ]


def _reason(calls: list[Call], reply: Callable[[str, int], Reply | None]) -> str:
    [(kind, count)] = Counter(call.outcome for call in calls).most_common(1)
    last = [call for call in calls if call.outcome == kind][-1]
    reason = _REASONS[kind]
    if kind == "transport":
        reason += f", the last one because of: {' '.join(last.detail.split())}"
    elif kind in ("empty", "truncated") and (found := reply(last.key, last.occurrence)) is not None:
        reason = _elsewhere(found) or reason
    return f"{count} {reason}"


def _elsewhere(reply: Reply) -> str | None:
    """Where the answer is, if not in the text that an answer belongs in."""
    if reply.finish_reason in _TOOL_CALLS:
        return "are tool calls instead of text; turn off the server's tool-call parser"
    if not reply.text.lstrip().startswith(_THOUGHTS):
        return None
    if reply.finish_reason == "length":
        return f"were cut off within the reasoning; {_LONGER}, or lower its reasoning effort"
    return "are nothing but reasoning (as in reasoning_content); turn off reasoning, or the server's parser for it"
