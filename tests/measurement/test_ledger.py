"""The ledger: once per key, one device per file, replay without a device."""

import json
from pathlib import Path

import pytest

from colt_pipeline.errors import DeviceMismatchError, JournalError, RecordingError
from colt_pipeline.measurement.ledger import Ledger, read_header
from colt_pipeline.records import Measurement
from colt_pipeline.runs.recorded import Access
from tests.support import HEADER

ACCESSES: tuple[Access, ...] = ("replay", "append")
GOOD = Measurement((0.2, 0.1, 0.4), max_relative_error=1e-7)
BAD = Measurement(error="timeout", detail="longer than 30 s")


def test_measurements_come_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    ledger = Ledger(path, HEADER, "append")
    ledger.put("a", GOOD)
    ledger.put("b", BAD)
    ledger.close()
    for access in ACCESSES:
        again = Ledger(path, HEADER, access)
        assert again.get("a") == GOOD and again.get("b") == BAD and again.get("c") is None
        again.close()
    assert read_header(path) == {**HEADER, "measurement": "measured"}  # older files lack the field


def test_the_median_counts_and_errors_have_no_latency() -> None:
    assert GOOD.latency_secs == 0.2
    assert BAD.latency_secs is None
    assert Measurement((0.1,), "wrong_result").latency_secs is None


def test_another_device_replays_but_does_not_continue(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    Ledger(path, HEADER, "append").close()
    elsewhere = {**HEADER, "device": {"cpu": "B", "mcpu": "a", "cores": 1}}
    with pytest.raises(DeviceMismatchError, match=r"device.cpu: A there, B now.*record=replay.*run=NAME"):
        Ledger(path, elsewhere, "append")
    assert Ledger(path, elsewhere, "replay").get("a") is None
    Ledger(path, HEADER, "append").close()  # the refusal left no lock behind


def test_a_file_without_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    path.write_text('{"program":"a","run_secs":[1]}\n')
    with pytest.raises(RecordingError, match="not a header"):
        read_header(path)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    Ledger(path, HEADER, "append").close()
    with path.open("a") as file:
        file.write('{"program":"a","run_secs":[1]\n')
    with pytest.raises(JournalError, match="line 2"):
        Ledger(path, HEADER, "replay")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"run_secs":[1]}', "object missing required field `program`"),
        ('{"program":"a","run_secs":null}', "run_secs: expected `array`, got `null`"),
        ('{"program":"a","run_secs":[1],"colour":"red"}', "colour: not a field of a measurement"),
        ('{"program":"a","run_secs":["1"]}', r"run_secs\[0\]: expected `float`, got `str`"),
        ('{"program":"a","run_secs":[0]}', r"run_secs\[0\]: expected `float` > 0.0"),
        ('{"program":"a","run_secs":[-1]}', r"run_secs\[0\]: expected `float` > 0.0"),
        ('{"program":"a","run_secs":[1e400]}', r"run_secs\[0\]: expected `float` <= "),
        ('{"program":"a","run_secs":[]}', "run_secs: empty without an error"),
        ('{"program":"a","run_secs":[],"error":3}', "error: expected `str | null`, got `int`"),
        ('{"program":"a","run_secs":[],"error":"tired"}', "error: invalid enum value 'tired'"),
        ('{"program":["a"],"run_secs":[1]}', "program: expected `str`, got `array`"),
        ('{"program":"a","round":-1,"run_secs":[1]}', "round: expected `int` >= 0"),
        ('{"program":"a","round":1,"run_secs":[1]}', "its program lacks round 0"),
        (json.dumps(HEADER), r"its key \('header', 0\) is already in line 1"),
        (json.dumps({**HEADER, "device": "mine"}), "device: expected `object`, got `str`"),
    ],
)
def test_a_line_that_is_not_a_measurement_is_named(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "measurements.jsonl"
    Ledger(path, HEADER, "append").close()
    with path.open("a") as file:
        file.write(line + "\n")
    for access in ACCESSES:
        with pytest.raises(RecordingError, match=f"line 2: {what}.*; restore the file"):
            Ledger(path, HEADER, access)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"device": None}, "device: expected `object`, got `null`"),
        ({"measurement": "guessed"}, "measurement: invalid enum value 'guessed'"),
        ({"schema": 2}, "schema: invalid enum value 2"),
        ({"workload_hash": 7}, "workload_hash: expected `str`, got `int`"),
    ],
)
def test_a_header_is_read_with_its_types(tmp_path: Path, change: dict[str, object], what: str) -> None:
    path = tmp_path / "measurements.jsonl"
    path.write_text(json.dumps({**HEADER, **change}) + "\n")
    with pytest.raises(RecordingError, match=f"line 1: not a header of schema 1 .{what}"):
        read_header(path)


def test_a_target_with_options_of_the_compiler_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    path.write_text(json.dumps({**HEADER, "target": {"kind": "llvm", "cl-opt": ["-info-output-file=x"]}}) + "\n")
    with pytest.raises(RecordingError, match="line 1: the target sets cl-opt, which no run does"):
        read_header(path)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_named(tmp_path: Path, constant: str) -> None:
    path = tmp_path / "measurements.jsonl"
    path.write_text(json.dumps(HEADER) + f'\n{{"program":"a","run_secs":[{constant}]}}\n')
    with pytest.raises(JournalError, match=f"line 2: not valid JSON .{constant} is not a JSON number"):
        Ledger(path, HEADER, "replay")


def test_a_program_that_is_measured_again_gets_another_round_and_the_search_keeps_the_first(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    ledger = Ledger(path, HEADER, "append")
    for secs in (0.2, 0.1, 0.3):
        ledger.put("a", Measurement((secs,)))
    ledger.close()
    for access in ACCESSES:
        again = Ledger(path, HEADER, access)
        first, last = again.get("a"), again.latest("a")
        assert first is not None and last is not None and (first.latency_secs, last.latency_secs) == (0.2, 0.3)
        assert again.best_secs == 0.2 and again.timed_secs(but="") == 0.2
        assert again.latest("b") is None
        again.close()
    twice = path.read_text() + '{"program":"a","run_secs":[1e-12]}\n'
    path.write_text(twice)
    with pytest.raises(RecordingError, match=r"line 5: its key \('a', 0\) is already in line 2"):
        Ledger(path, HEADER, "append")
    assert path.read_text() == twice


def test_the_best_of_a_ledger_is_its_fastest_valid_program(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "measurements.jsonl", HEADER, "append")
    assert ledger.best_secs is None
    ledger.put("a", GOOD)
    ledger.put("b", Measurement((0.05,), "wrong_result"))
    assert ledger.best_secs == 0.2
    ledger.close()


def test_the_time_of_runs_is_that_of_all_programs_but_one(tmp_path: Path) -> None:
    path, baseline = tmp_path / "measurements.jsonl", "b" * 64
    ledger = Ledger(path, HEADER, "append")
    assert ledger.timed_secs(but=baseline) is None, "nothing is recorded"
    ledger.put(baseline, Measurement((9.0,)))
    assert ledger.timed_secs(but=baseline) == 0.0
    ledger.put("a" * 64, GOOD)
    ledger.put("c" * 64, BAD)
    ledger.close()
    assert Ledger(path, HEADER, "replay").timed_secs(but=baseline) == pytest.approx(0.7)
