"""Record and replay of answers."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from colt_pipeline.errors import JournalError, LLMError, RecordingError, ReplayMissError
from colt_pipeline.llm.audit import read_intact, write
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Client, Question
from colt_pipeline.records import Message, ModelSpec, Reply
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.stopwatch import Stopwatch
from tests.toy import LARGE, SMALL, ToyClient

SAMPLING = {"temperature": 1.0}


def question(*lines: str) -> list[Message]:
    return [{"role": "system", "content": "fixed"}, {"role": "user", "content": "\n".join(lines)}]


def never(provider: str) -> Client:
    raise AssertionError("a replay must not build a client")


def ask(cassette: Cassette, messages: list[Message], occurrence: int = 0, model: ModelSpec = SMALL) -> str:
    return cassette.answer(Question(model, messages, SAMPLING), occurrence).text


def test_recorded_answers_are_replayed_without_a_client(tmp_path: Path) -> None:
    client = ToyClient()
    live = Cassette(tmp_path / "llm.jsonl", lambda provider: client, Stopwatch())
    first = [ask(live, question("a")), ask(live, question("a"), 1), ask(live, question("a"), model=LARGE)]
    live.close()
    replay = Cassette(tmp_path / "llm.jsonl", None, Stopwatch())
    again = [ask(replay, question("a")), ask(replay, question("a"), 1), ask(replay, question("a"), model=LARGE)]
    assert first == again == ["answer 1", "answer 2", "answer 3"]
    assert [question.sampling for question in client.questions] == [SAMPLING] * 3
    resumed = Cassette(tmp_path / "llm.jsonl", never, Stopwatch())
    assert ask(resumed, question("a"), 1) == "answer 2"
    assert resumed.asked == 0
    resumed.close()


def test_an_answer_is_on_disk_before_it_is_used_and_a_failed_call_leaves_nothing(tmp_path: Path) -> None:
    client = ToyClient(fails_at=1)
    live = Cassette(tmp_path / "llm.jsonl", lambda provider: client, Stopwatch())
    ask(live, question("a"))
    with pytest.raises(LLMError):
        ask(live, question("b"))
    assert (tmp_path / "llm.jsonl").read_text().count("\n") == 1
    live.close()


def test_a_miss_names_the_nearest_entry_and_the_first_differing_line(tmp_path: Path) -> None:
    live = Cassette(tmp_path / "llm.jsonl", lambda provider: ToyClient(), Stopwatch())
    ask(live, question("x", "y"))
    ask(live, question("one", "two", "three"))
    live.close()
    replay = Cassette(tmp_path / "llm.jsonl", None, Stopwatch())
    # Lines: [system], fixed, [user], one, two, three
    with pytest.raises(ReplayMissError, match=r"nearest is entry 2, for small; they differ from line 5 .* now 'TWO'"):
        ask(replay, question("one", "TWO", "three"))
    with pytest.raises(ReplayMissError, match=r"occurrence 1 \(recorded: 1\)"):
        ask(replay, question("x", "y"), 1)
    with pytest.raises(ReplayMissError, match="entry 1, for small, with the same messages"):
        ask(replay, question("x", "y"), model=LARGE)
    with pytest.raises(ReplayMissError, match="the recording is empty"):
        ask(Cassette(tmp_path / "none.jsonl", None, Stopwatch()), question("x"))


def test_answers_of_another_backend_are_not_passed_off_as_the_models(tmp_path: Path) -> None:
    live = Cassette(tmp_path / "llm.jsonl", lambda provider: ToyClient(), Stopwatch())
    ask(live, question("a"))
    live.close()
    real = dataclasses.replace(SMALL, provider="openai")
    with pytest.raises(RecordingError, match="from embedded, but the configuration says provider=openai"):
        ask(Cassette(tmp_path / "llm.jsonl", None, Stopwatch()), question("a"), model=real)


def test_the_key_changes_with_all_that_changes_the_answer() -> None:
    base = Question(SMALL, question("a"), {"temperature": 1.0}).key
    assert base == Question(SMALL, question("a"), {"temperature": 1.0}).key
    assert base != Question(LARGE, question("a"), {"temperature": 1.0}).key
    assert base != Question(SMALL, question("b"), {"temperature": 1.0}).key
    assert base != Question(SMALL, question("a"), {"temperature": 0.0}).key


def test_a_broken_recording_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    path.write_text('{"key": "k"\n{"key": "l"}\n')
    for make_client in (None, never):
        with pytest.raises(JournalError, match="line 1"):
            Cassette(path, make_client, Stopwatch())
    path.write_text('{"key": "%s"}\n' % ("0" * 20))
    for make_client in (None, never):
        with pytest.raises(RecordingError, match="line 1: object missing required field `model`"):
            Cassette(path, make_client, Stopwatch())
    assert path.read_text() == '{"key": "%s"}\n' % ("0" * 20)


def record(path: Path) -> list[str]:
    """Three answers, two of them to the same question."""
    live = Cassette(path, lambda provider: ToyClient(), Stopwatch())
    texts = [ask(live, question("a")), ask(live, question("a"), 1), ask(live, question("a"), model=LARGE)]
    live.close()
    return texts


def replayed(path: Path) -> list[str]:
    replay = Cassette(path, None, Stopwatch())
    return [ask(replay, question("a")), ask(replay, question("a"), 1), ask(replay, question("a"), model=LARGE)]


OPEN = """
import sys
from pathlib import Path
from colt_pipeline.errors import JournalError
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.runs.stopwatch import Stopwatch
path = Path(sys.argv[1])
print(len(Cassette(path, None, Stopwatch())._recorded.entries))
try:
    Cassette(path, lambda provider: None, Stopwatch())
except JournalError as error:
    sys.exit(str(error))
"""


def test_two_processes_cannot_record_into_one_cassette_but_one_may_replay_it(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    command = [sys.executable, "-c", OPEN, str(path)]
    live = Cassette(path, lambda provider: ToyClient(), Stopwatch())
    ask(live, question("a"))
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and refused.stdout == "1\n"
    assert refused.stderr.startswith(f"{path} is in use by another process")
    ask(live, question("b"))
    live.close()
    taken = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (taken.returncode, taken.stdout) == (0, "2\n")


def test_a_packed_recording_replays_the_same_and_takes_no_answers(tmp_path: Path) -> None:
    path, packed = tmp_path / "llm.jsonl", tmp_path / "llm.jsonl.gz"
    texts = record(path)
    write(packed, (entry.fields for entry in read_intact(path).entries))
    assert replayed(path) == texts
    path.unlink()
    assert replayed(path) == texts
    with pytest.raises(ReplayMissError, match=r"llm\.jsonl\.gz: no answer .* they differ from line 4 on"):
        ask(Cassette(path, None, Stopwatch()), question("b"))
    with pytest.raises(RecordingError, match=r"llm\.jsonl\.gz is compressed.*`gunzip` it first"):
        Cassette(path, never, Stopwatch())
    assert not path.exists()
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(JournalError, match="not a valid gzip file"):
        Cassette(path, None, Stopwatch())


def test_what_is_unpacked_is_read_first(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    texts = record(path)
    (tmp_path / "llm.jsonl.gz").write_bytes(b"older")
    assert replayed(path) == texts
    Cassette(path, never, Stopwatch()).close()


def test_without_its_questions_a_recording_replays_the_same_and_a_miss_says_why_it_knows_no_more(
    tmp_path: Path,
) -> None:
    path = tmp_path / "llm.jsonl"
    texts = record(path)
    entries = [entry.fields for entry in read_intact(path).entries]
    write(path, (fields | {"lines": ""} for fields in entries))
    assert replayed(path) == texts
    replay = Cassette(path, None, Stopwatch())
    with pytest.raises(ReplayMissError, match="The questions were pruned, so the differing line is unknown"):
        ask(replay, question("b"))
    with pytest.raises(ReplayMissError, match=r"occurrence 2 \(recorded: 2\)"):
        ask(replay, question("a"), 2)
    write(path, [*(fields | {"lines": ""} for fields in entries[:2]), entries[2]])
    with pytest.raises(ReplayMissError, match="nearest is entry 3, for large; they differ from line 4 on"):
        ask(Cassette(path, None, Stopwatch()), question("b"))


def test_answers_that_a_run_did_not_use_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    record(path)
    replay = Cassette(path, None, Stopwatch())
    small, large = (Question(model, question("a"), SAMPLING).key for model in (SMALL, LARGE))
    assert replay.unused({}) == 3
    assert replay.unused({small: 1}) == 2
    assert replay.unused({small: 2, large: 1, "other": 5}) == 0


def test_a_recording_without_usual_fields_answers_as_before(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    full = {"key": "a" * 20, "occurrence": 0, "model": "m", "lines": "", "text": "{}", "finish_reason": "stop"}
    full |= {"prompt_tokens": 3, "latency_secs": 0.0}
    stand_in = full | {"backend": "embedded", "provider_model": "stand-in for m", "completion_tokens": 0}
    live = full | {"occurrence": 1, "backend": "served", "provider_model": "m-2026", "latency_secs": 1.5}
    live |= {"completion_tokens": 7}
    write(path, [stand_in, live])
    short = [json.loads(line) for line in path.read_text().splitlines()]
    assert set(short[0]) == {"key", "model", "text", "prompt_tokens"}
    assert set(short[1]) == set(live) - {"lines", "finish_reason"}
    assert [entry.fields for entry in read_intact(path).entries] == [stand_in, live]
    cassette = Cassette(path, None, Stopwatch())
    assert (found := cassette.reply("a" * 20, 1)) and found.latency_secs == 1.5 and cassette.unused({"a" * 20: 1}) == 1


def test_a_recording_with_the_longer_keys_of_before_answers(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    live = Cassette(path, lambda provider: ToyClient(), Stopwatch())
    first = ask(live, question("a"))
    live.close()
    (entry,) = read_lines(path)
    path.write_text(json.dumps(entry | {"key": entry["key"] + "0" * 44}) + "\n")
    assert ask(Cassette(path, None, Stopwatch()), question("a")) == first
    assert read_intact(path).entries[0].fields["key"] == entry["key"]


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("completion_tokens", -1, "completion_tokens: expected `int` >= 0"),
        ("prompt_tokens", "7", "prompt_tokens: expected `int`, got `str`"),
        ("text", None, "text: expected `str`, got `null`"),
        ("key", ["a"], "key: expected `str`, got `array`"),
        ("latency_secs", 1e400, "latency_secs: expected `float` <= "),
        ("occurrence", True, "occurrence: expected `int`, got `bool`"),
        ("cached_tokens", 10**6, "cached_tokens: 1000000, more than the 100 of the prompt"),
    ],
)
def test_replays_and_checks_refuse_the_same_fields(tmp_path: Path, field: str, value: object, what: str) -> None:
    path = tmp_path / "llm.jsonl"
    record(path)
    first, *others = read_lines(path)
    text = "".join(json.dumps(line) + "\n" for line in (first | {field: value}, *others))
    path.write_text(text.replace("Infinity", "1e400"))
    readers = (replayed, read_intact, lambda path: Cassette(path, never, Stopwatch()))
    for reader in readers:
        with pytest.raises(RecordingError, match=f"line 1: {what}.*; restore the file"):
            reader(path)


def test_an_answer_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    record(path)
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, *others, first.replace("[", "{")]))
    with pytest.raises(RecordingError, match="line 4: its key .* is already in line 1"):
        replayed(path)


def test_cached_tokens_are_recorded_only_where_there_are_some(tmp_path: Path) -> None:
    class Caching(ToyClient):
        def complete(self, question: Question, occurrence: int) -> Reply:
            return dataclasses.replace(super().complete(question, occurrence), cached_tokens=7 * occurrence)

    path = tmp_path / "llm.jsonl"
    live = Cassette(path, lambda provider: Caching(), Stopwatch())
    ask(live, question("a"))
    ask(live, question("a"), 1)
    live.close()
    without, having = read_lines(path)
    assert "cached_tokens" not in without and having["cached_tokens"] == 7
    write(tmp_path / "again.jsonl", (entry.fields for entry in read_intact(path).entries))
    again = Cassette(tmp_path / "again.jsonl", None, Stopwatch())
    replies = [again.reply(having["key"], occurrence) for occurrence in (0, 1)]
    assert [reply and reply.cached_tokens for reply in replies] == [0, 7]
