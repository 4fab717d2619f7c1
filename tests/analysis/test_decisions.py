"""The decisions of a trace in words, and the differences between two traces."""

from __future__ import annotations

from typing import Any

from colt_pipeline.analysis.tree.decisions import Change, changes, decisions
from colt_pipeline.serialization import canonical_json
from tests.toy_run import tiled_trace

# As TVM writes them; the second schedule has an additional partial reduction, which shifts variables and positions.
ATTENTION: list[list[Any]] = [
    ["GetSBlock", [], ["peak", "main"], ["b0"]],
    ["GetSBlock", [], ["context", "main"], ["b1"]],
    ["GetSBlock", [], ["root", "main"], ["b2"]],
    ["GetLoops", ["b1"], [], ["l3", "l4"]],
    ["SamplePerfectTile", ["l4"], [2, 64], ["v5", "v6"]],
    ["Split", ["l4", "v5", "v6"], [True, False], ["l7", "l8"]],
    ["Annotate", ["b2", 32], ["meta_schedule.parallel"], []],
    ["SampleCategorical", [], [[0, 16, 64, 512], [0.25, 0.25, 0.25, 0.25]], ["v9"]],
    ["Annotate", ["b2", "v9"], ["meta_schedule.unroll_explicit"], []],
    ["SampleComputeLocation", ["b0"], [], ["l10"]],
    ["ComputeAt", ["b0", "l10"], [1, -1], []],
]
FACTORED: list[list[Any]] = [
    ["GetSBlock", [], ["peak", "main"], ["b0"]],
    ["GetSBlock", [], ["context", "main"], ["b1"]],
    ["GetSBlock", [], ["root", "main"], ["b2"]],
    ["GetLoops", ["b0"], [], ["l3"]],
    ["SamplePerfectTile", ["l3"], [2, 64], ["v4", "v5"]],
    ["Split", ["l3", "v4", "v5"], [True, False], ["l6", "l7"]],
    ["RFactor", ["l7"], [2], ["b8"]],
    ["Annotate", ["b0", 1], ["meta_schedule.random_compute_producer"], []],
    ["GetLoops", ["b1"], [], ["l9", "l10"]],
    ["SamplePerfectTile", ["l10"], [2, 64], ["v11", "v12"]],
    ["Split", ["l10", "v11", "v12"], [True, False], ["l13", "l14"]],
    ["Annotate", ["b2", 8], ["meta_schedule.parallel"], []],
    ["SampleCategorical", [], [[0, 16, 64, 512], [0.25, 0.25, 0.25, 0.25]], ["v15"]],
    ["Annotate", ["b2", "v15"], ["meta_schedule.unroll_explicit"], []],
    ["GetProducers", ["b0"], [], ["b16"]],
    ["Unannotate", ["b0"], ["meta_schedule.random_compute_producer"], []],
    ["SampleComputeLocation", ["b0"], [], ["l17"]],
    ["ComputeAt", ["b0", "l17"], [1, -1], []],
    ["SampleComputeLocation", ["b16"], [], ["l18"]],
    ["ComputeAt", ["b16", "l18"], [1, -1], []],
]


def test_decisions_are_named_by_block_and_loop() -> None:
    trace = canonical_json([ATTENTION, [[4, [16, 4]], [7, 2], [9, -2]]])
    assert decisions(trace) == {
        "context, loop 2 of 2: tiles": "[16,4]",
        "root: parallel": "32",
        "root: unroll_explicit": "64",
        "peak: computed": "inlined",
    }


def test_equal_decisions_are_no_change_even_where_variables_are_renumbered() -> None:
    before = canonical_json([ATTENTION, [[4, [16, 4]], [7, 2], [9, -1]]])
    after = canonical_json([FACTORED, [[4, [32, 2]], [9, [16, 4]], [12, 0], [16, 0], [18, -1]]])
    assert changes(before, before) == ()
    assert changes(before, after) == (
        Change("root: parallel", "32", "8"),
        Change("root: unroll_explicit", "64", "0"),
        Change("peak: computed", "in its own loops", "in loop 1 of its consumer"),
        Change("peak, loop 1 of 1: tiles", None, "[32,2]"),
        Change("producer of peak: computed", None, "in its own loops"),
    )
    gone = changes(after, before)
    assert Change("peak, loop 1 of 1: tiles", "[32,2]", None) in gone


def test_without_a_parent_everything_is_decided() -> None:
    assert changes(None, tiled_trace((4, 2), unroll=1)) == (
        Change("matmul, loop 1 of 1: tiles", None, "[4,2]"),
        Change("matmul: unroll_explicit", None, "16"),
    )


def test_decisions_that_read_alike_are_told_apart() -> None:
    fetch = [["SampleCategorical", [], [[1, 2], [0.5, 0.5]], ["v1"]], ["Annotate", ["b1", "v1"], ["fetch"], []]]
    read = ["CacheRead", ["b0", ["b0"]], [0, "shared"], ["b1"]]
    trace = canonical_json(
        [[["GetSBlock", [], ["matmul", "main"], ["b0"]], read, *fetch, read, *fetch], [[2, 0], [5, 1]]]
    )
    assert decisions(trace) == {"read cache of matmul: fetch": "1", "read cache of matmul: fetch (2)": "2"}


def test_a_number_that_is_drawn_for_a_split_counts() -> None:
    trace = canonical_json(
        [
            [
                ["GetSBlock", [], ["matmul", "main"], ["b0"]],
                ["GetLoops", ["b0"], [], ["l1"]],
                ["SampleCategorical", [], [[32, 64], [0.5, 0.5]], ["v2"]],
                ["Split", ["l1", None, "v2"], [True, False], ["l3", "l4"]],
            ],
            [[2, 1]],
        ]
    )
    assert decisions(trace) == {"matmul, loop 1 of 1: Split": "64"}
