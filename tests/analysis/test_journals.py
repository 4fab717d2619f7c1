"""What journals add to runs: who decides, what regressed after what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from colt_pipeline.analysis.journals import JOURNAL_FIELDS, journal_fields
from colt_pipeline.errors import RunDirError
from colt_pipeline.runs.events import Child, Event, Measured, Planted, Sample, Stepped
from tests.support import ROOT
from tests.toy import settings
from tests.toy_run import STARTED, call, child, events_by_hand, write_run


def _stepped(step: int, parent: int, made: Child, by: str, pruned: Child | None = None) -> Stepped:
    """`made` by a model; a pruned program was made by the small one."""
    asked = [call("small")] if pruned else []
    return Stepped(step, parent, (*asked, call(by)), made, by, pruned, None)


def _fell(program: str, model: str = "small") -> Child:
    return child(program, model, (4, 4), score=0.2, parent=0.5)


def _rose(program: str, model: str = "small") -> Child:
    return child(program, model, (4, 4), score=0.7, parent=0.5)


def test_programs_are_counted_by_the_nearest_one_of_a_small_model_above(tmp_path: Path) -> None:
    """Nodes 0 -> 1 -> 2 (fell) -> 3 (large, fell) -> 4 (rose) -> 5 (fell); 2 -> a pruned one (fell), 6 (large)."""
    events: list[Event] = [
        STARTED,
        Planted((child("a", "small", (4, 4), 0.5, 0.5),)),
        _stepped(0, 1, _fell("b"), "small"),  # nothing by a small model above: not counted
        _stepped(1, 2, _fell("c"), "large"),  # not by a small model
        _stepped(2, 3, _rose("d"), "small"),  # the large model's regression is skipped, b's counts
        _stepped(3, 4, _fell("e"), "small"),
        _stepped(4, 2, _rose("f", "large"), "large", pruned=_fell("g")),
    ]
    fields = journal_fields(write_run(tmp_path / "run", events, search=vars(settings(warmup_samples=0))))
    assert (fields["after_regression"], fields["after_regression_regressed"]) == (2, 1)
    assert (fields["after_rise"], fields["after_rise_regressed"]) == (1, 1)
    assert (fields["predicted"], fields["predicted_regressed"]) == (4, 3)


def test_programs_from_before_the_cost_model_predicts_do_not_count(tmp_path: Path) -> None:
    events: list[Event] = [
        STARTED,
        Planted((child("a", "small", (4, 4), 0.5, 0.5),)),
        _stepped(0, 1, _fell("b"), "small"),  # noise
        Measured((Sample("a", 1.0, None),)),
        _stepped(1, 2, _rose("c"), "small"),  # the first whose score means something
        _stepped(2, 3, _fell("d"), "small"),
    ]
    fields = journal_fields(write_run(tmp_path / "run", events, search=vars(settings(warmup_samples=1))))
    assert (fields["after_regression"], fields["after_rise"], fields["after_rise_regressed"]) == (0, 1, 1)
    assert (fields["predicted"], fields["predicted_regressed"]) == (2, 1)


def test_settings_that_results_depend_on_are_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", events_by_hand())
    assert {name: journal_fields(run)[name] for name in ("course_rule", "decisions", "random_samples")} == {
        "course_rule": "path",
        "decisions": "tvm",
        "random_samples": 0,
    }
    own = vars(settings(decisions=True, course_alteration="streak"))
    asked = journal_fields(write_run(tmp_path / "own", events_by_hand(), search=own))
    assert (asked["course_rule"], asked["decisions"]) == ("streak", "models")
    older = vars(settings(legacy=True))
    assert journal_fields(write_run(tmp_path / "older", events_by_hand(), search=older))["course_rule"] == "path_birth"


def test_a_search_without_calls_has_no_rule_and_nobody_decides(tmp_path: Path) -> None:
    fields = journal_fields(write_run(tmp_path / "run", [STARTED]))
    assert (fields["course_rule"], fields["decisions"], fields["after_rise"]) == ("", "", 0)


@pytest.mark.parametrize(("cost_model", "drawn"), [("xgb", 64), ("pretrained", 0)])
def test_tvms_search_draws_at_random_until_its_first_batch_is_measured(
    cost_model: str, drawn: int, tmp_path: Path
) -> None:
    defaults = yaml.safe_load((ROOT / "conf" / "search" / "evolutionary.yaml").read_text())["evolution"]
    search = vars(settings(strategy="evolutionary", cost_model=cost_model)) | {"evolution": defaults}
    assert journal_fields(write_run(tmp_path / "run", [STARTED], search=search))["random_samples"] == drawn


def test_without_a_journal_nothing_is_known(tmp_path: Path) -> None:
    assert journal_fields(tmp_path) == dict.fromkeys(JOURNAL_FIELDS)


def test_a_journal_without_a_configuration_is_an_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", events_by_hand())
    (run / "config.yaml").unlink()
    with pytest.raises(RunDirError, match="config.yaml: No such file or directory; restore it"):
        journal_fields(run)


@pytest.mark.parametrize(("field", "value"), [("samples", 3), ("steps", 8)])
def test_a_journal_that_lost_lines_is_an_error(tmp_path: Path, field: str, value: int) -> None:
    run = write_run(tmp_path / "run", events_by_hand())
    (run / "summary.json").write_text(json.dumps({field: value}))
    with pytest.raises(RunDirError, match=f"events.jsonl gives {field}=.*, but summary.json has {value}; the same"):
        journal_fields(run)


def test_an_evolutionary_search_without_its_settings_is_an_error(tmp_path: Path) -> None:
    search = vars(settings(strategy="evolutionary", cost_model="xgb")) | {"evolution": None}
    with pytest.raises(RunDirError, match=r"lacks search\.evolution, which an evolutionary search needs; restore it"):
        journal_fields(write_run(tmp_path / "run", [STARTED], search=search))
