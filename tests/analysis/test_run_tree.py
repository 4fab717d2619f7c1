"""A run's tree from its directory: nodes, best path, contributions of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.analysis.tree.decisions import Change
from colt_pipeline.analysis.tree.page import tree_html
from colt_pipeline.analysis.tree.run import best_path, improvements, model_rows, read_run, tree_nodes
from colt_pipeline.analysis.tree.words import run_facts
from colt_pipeline.errors import JournalError, RunDirError
from colt_pipeline.runs.events import Bred, Candidate, Measured, Planted, Sample, Stepped
from colt_pipeline.runs.journal import Journal
from tests.toy import settings
from tests.toy_run import STARTED, child, events_by_hand, events_of_search, tiled_trace, write_run


def test_nodes_say_what_led_to_them(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", events_by_hand("TileSize(matmul.j=[8,2])", "Unroll")))
    nodes = {node.id: node for node in tree_nodes(run)}
    assert list(nodes) == [0, 1, 2, 3, -1, 4]
    assert [nodes[id].depth for id in nodes] == [0, 1, 1, 2, 3, 3]
    assert [nodes[id].made_by for id in nodes] == [None, None, None, "small", "small", "large"]
    assert [nodes[id].latency_secs for id in nodes] == [1.0, 0.5, None, 0.8, None, 0.25]
    assert nodes[2].error == "timeout"
    assert nodes[3].changes == (Change("matmul, loop 1 of 1: tiles", "[4,4]", "[8,2]"),)
    assert nodes[4].changes == (Change("matmul: unroll_explicit", "0", "64"),)
    assert nodes[4].transformations == ("TileSize(matmul.j=[8,2])", "Unroll")
    assert (nodes[4].replaces, nodes[4].course_alteration, nodes[4].pruned) == (-1, True, False)
    assert (nodes[-1].parent, nodes[-1].visits, nodes[-1].pruned) == (3, 0, True)
    assert (nodes[4].score, nodes[4].parent_score) == (0.75, 0.25)
    assert nodes[1].parent_score is None
    assert nodes[4].model == "large"  # its first expander failed
    assert [nodes[id].untrained for id in (1, 3)] == [True, False]  # the warm-up takes two samples


def test_the_best_path_leads_from_the_root_to_the_fastest_program(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", events_by_hand()))
    assert best_path(run) == [0, 1, 3, 4]
    assert best_path(read_run(write_run(tmp_path / "begun", [STARTED]))) == []


def test_each_new_best_counts_for_the_model_that_made_it(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", events_by_hand()))
    assert improvements(run) == {None: [2.0], "large": [2.0], "small": []}
    rows = {row["model"]: row for row in model_rows(run)}
    assert (rows["large"]["regular_calls"], rows["large"]["course_alterations"]) == (0, 1)
    assert (rows["large"]["new_bests"], rows["large"]["best_gain"]) == (1, 2.0)
    assert (rows["small"]["regular_calls"], rows["small"]["not_json"], rows["small"]["prompt_tokens"]) == (3, 1, 300)
    assert (rows["small"]["new_bests"], rows["small"]["best_gain"]) == (0, None)


def test_a_search_comes_out_whole(tmp_path: Path) -> None:
    events = events_of_search(60, tmp_path / "toy.jsonl")
    run = read_run(write_run(tmp_path / "run", events))
    nodes = tree_nodes(run)
    altered = [e for e in events if isinstance(e, Stepped) and e.pruned is not None]
    assert altered
    assert sum(node.pruned for node in nodes) == len(altered)
    assert [n.id for n in nodes if not n.pruned] == list(range(61))
    births = {node.id: number for number, node in enumerate(nodes)}
    assert all(births[n.parent] < births[n.id] for n in nodes if n.parent is not None)
    assert {n.program for n in nodes if n.latency_secs and n.parent is not None} == {
        s.program for s in run.state.samples
    }
    gains = [gain for of_model in improvements(run).values() for gain in of_model]
    product = 1.0
    for gain in gains:
        product *= gain
    assert product == pytest.approx(run.state.speedup)


def test_a_running_search_can_be_looked_at(tmp_path: Path) -> None:
    events = events_by_hand()
    directory = write_run(tmp_path / "run", events[:4])
    writer = Journal(directory / "events.jsonl")  # holds the lock
    with (directory / "events.jsonl").open("a") as file:
        file.write('{"kind":"stepp')  # half a line is being written
    run = read_run(directory)
    writer.close()
    assert (run.state.finished, run.gflops) == (None, None)
    assert [node.id for node in tree_nodes(run)] == [0, 1, 2, 3]
    assert best_path(run) == [0, 1]
    assert tree_nodes(run)[-1].latency_secs is None and tree_nodes(run)[-1].error is None
    assert (directory / "events.jsonl").read_text().endswith('{"kind":"stepp')


def test_a_search_without_models_and_tree_has_no_path(tmp_path: Path) -> None:
    bred = Bred(tuple(Candidate(program, tiled_trace((4, 4))) for program in ("aa", "bb")))
    events = [STARTED, bred, Measured((Sample("aa", 0.5, None), Sample("bb", 0.7, None)))]
    run = read_run(write_run(tmp_path / "run", events, model_sets={"mine": []}))
    assert (best_path(run), improvements(run), model_rows(run)) == ([], {None: [2.0]}, [])
    assert ("model set", "mine (models: 0; largest: no model)") in run_facts(run)
    assert ("best", "500.000 ms (sample 1)") in run_facts(run)
    assert "no LLM, measured latency" in tree_html(run)


def test_a_first_child_that_was_drawn_has_no_call(tmp_path: Path) -> None:
    planted, drawn = child("aa", "small", (4, 4), 0.5, 0.5), child("bb", "large", (2, 8), 0.4, 0.5)
    events = [STARTED, Planted((planted,)), Stepped(0, 1, (), drawn, None, None, None)]
    run = read_run(write_run(tmp_path / "run", events))
    assert [node.call for node in tree_nodes(run)] == [None, None, None] and "bb" in tree_html(run)


def test_a_model_of_another_run_is_named_with_its_line(tmp_path: Path) -> None:
    events = [STARTED, Planted((child("aa", "nobody", (4, 4), 0.5, 0.5),))]
    with pytest.raises(JournalError, match=r"events\.jsonl, line 2: the run's model set has no 'nobody'"):
        read_run(write_run(tmp_path / "run", events))


def test_a_run_without_a_valid_sample_is_shown(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [STARTED])
    (directory / "summary.json").write_text(json.dumps({"best_secs": None, "baseline_secs": 1.0}))
    assert read_run(directory).state.best is None


def test_throughput_comes_from_the_summary(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", events_by_hand())
    (directory / "summary.json").write_text(json.dumps({"gflops": 42.5}))
    assert read_run(directory).gflops == 42.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {**vars(settings()), "warmup_samples": "many"}}, "warmup_samples: expected `int`"),
        ({"target": "cpu"}, "target: expected `object`"),
        ({"samples": "1e9"}, "samples: expected `int`"),
    ],
)
def test_a_configuration_with_other_types_is_one_message(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunDirError, match=rf"config\.yaml is not the configuration of a run \({message}.*restore it"):
        read_run(write_run(tmp_path / "run", events_by_hand(), **changes))


def test_a_summary_that_the_journal_contradicts_is_one_message(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", events_by_hand())
    (directory / "summary.json").write_text('{"best_secs": 0.001}')
    with pytest.raises(RunDirError, match=r"events\.jsonl gives best_secs=0\.25, but summary\.json has 0\.001"):
        read_run(directory)


def test_what_is_no_run_is_one_message_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="no events.jsonl. Name one such as results/runs/"):
        read_run(tmp_path / "nowhere")
    directory = write_run(tmp_path / "runs" / "a" / "b", events_by_hand())
    with pytest.raises(RunDirError, match=r"the one below it: .*a/b\."):
        read_run(tmp_path / "runs")
    with pytest.raises(RunDirError, match="nothing has happened yet"):
        read_run(write_run(tmp_path / "empty", []))
    with pytest.raises(RunDirError, match="not the configuration of a run"):
        read_run(write_run(tmp_path / "other", events_by_hand(), models={}))
    (directory / "config.yaml").write_text("[1, 2")
    with pytest.raises(RunDirError, match=r"config\.yaml is broken"):
        read_run(directory)
    (directory / "config.yaml").unlink()
    with pytest.raises(RunDirError, match="cannot read .*restore it"):
        read_run(directory)


def test_a_broken_journal_is_an_error(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [STARTED, Measured(())])
    text = (directory / "events.jsonl").read_text()
    (directory / "events.jsonl").write_text("nonsense\n" + text)
    with pytest.raises(JournalError, match="line 1"):
        read_run(directory)
