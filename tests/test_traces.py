"""Which traces may be applied: those of the recordings, and only what rules make."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.traces import check_trace, check_trace_json
from tests.support import ROOT

Trace = list[list[Any]]


def small() -> Trace:
    """A loop, split in two parts, one of which is unrolled."""
    instructions: list[Any] = [
        ["GetSBlock", [], ["matmul", "main"], ["b0"]],
        ["GetLoops", ["b0"], [], ["l1", "l2"]],
        ["SamplePerfectTile", ["l1"], [2, 64], ["v3", "v4"]],
        ["Split", ["l1", "v3", "v4"], [True, False], ["l5", "l6"]],
        ["SampleCategorical", [], [[0, 16], [0.5, 0.5]], ["v7"]],
        ["Annotate", ["b0", "v7"], ["meta_schedule.unroll_explicit"], []],
    ]
    return [instructions, [[2, [4, 8]], [4, 1]]]


def test_recorded_traces_may_be_applied() -> None:
    count = 0
    for path in (ROOT / "results" / "recordings").rglob("candidates.jsonl"):
        for line in read_lines(path):
            for used, decisions in line["traces"]:
                check_trace([[line["instructions"][index] for index in used], decisions])
                count += 1
    assert count > 2000
    check_trace(small())


def index_map(*nodes: Any, root: Any = None) -> str:
    """TVM's JSON of an index map of these nodes."""
    return json.dumps({"root_index": len(nodes) - 1 if root is None else root, "nodes": nodes, "metadata": {}})


NOTHING = {"type": "None"}
INTEGER = {"type": "ir.PrimType", "data": {"span": 0, "dtype": "int32"}}
NAME = {"type": "ffi.String", "data": "i"}
VARIABLE = {"type": "ir.Var", "data": {"span": 0, "ty": 1, "name": 2}}
DIMENSIONS = {"type": "ffi.Array", "data": [3]}
MAP = {"type": "tirx.IndexMap", "data": {"initial_indices": 4, "final_indices": 4, "inverse_index_map": 0}}
SAME = (NOTHING, INTEGER, NAME, VARIABLE, DIMENSIONS, MAP)


def laid_out(text: Any) -> list[Any]:
    """An instruction that changes the layout of a buffer by this index map."""
    return ["TransformLayout", ["b0", text], [0, 1, None, False], []]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_layout_may_be_changed_by_an_index_map(dtype: str) -> None:
    trace = small()
    integer = {"type": "ir.PrimType", "data": {"span": 0, "dtype": dtype}}
    trace[0].append(laid_out(index_map(NOTHING, integer, *SAME[2:])))
    check_trace(trace)


Change = Callable[[Trace], object]

REFUSED: dict[str, tuple[Change, str]] = {
    "LLVM IR": (
        lambda t: t[0].append(["Annotate", ["l5", '"define void @f()\\n"'], ["pragma_import_llvm"], []]),
        "instruction 6 .*key 'pragma_import_llvm'",
    ),
    "C": (lambda t: t[0].append(["Annotate", ["l5", '"int x;"'], ["pragma_import_c"], []]), "'pragma_import_c'"),
    "key on the terminal": (lambda t: t[0].append(["Annotate", ["b0", 1], ["\x1b[2J"], []]), r"'\\x1b\[2J'"),
    "long key": (lambda t: t[0].append(["Annotate", ["b0", 1], ["k" * 10**6], []]), r"'k+\.\.\.k+', which"),
    "key is no text": (lambda t: t[0].append(["Annotate", ["b0", 1], [[]], []]), "the key"),
    "text for a number": (
        lambda t: t[0].append(["Annotate", ["b0", '"x"'], ["meta_schedule.parallel"], []]),
        "wrong value",
    ),
    "removed key": (lambda t: t[0].append(["Unannotate", ["b0"], ["pragma_unroll"], []]), "'pragma_unroll'"),
    "type": (lambda t: t[0].append(["UnsafeSetDType", ["b0"], [0, "int8"], []]), "6 .*'UnsafeSetDType'"),
    "intrinsic": (lambda t: t[0].append(["Tensorize", ["b0"], ["mma", True], []]), "'Tensorize'"),
    "postprocessing": (lambda t: t[0].append(["EnterPostproc", [], [], []]), "'EnterPostproc'"),
    "kind is no text": (lambda t: t[0].append([["Annotate"], [], [], []]), r"\['Annotate'\]"),
    "scope": (lambda t: t[0].append(["CacheWrite", ["b0", []], [0, "global.texture"], ["b9"]]), "wrong attributes"),
    "thread": (lambda t: t[0].append(["Bind", ["l5"], ["cluster"], []]), "wrong attributes"),
    "too few parts": (lambda t: t[0].append(["Bind", ["l5"], ["vthread.x"]]), "no instruction at 6"),
    "parts are no lists": (lambda t: t[0].append(["Reorder", "l5l6", [], []]), "no instruction at 6"),
    "loop for a block": (lambda t: t[0].append(["ComputeInline", ["l5"], [], []]), "wrong inputs"),
    "block for a loop": (lambda t: t[0].append(["GetLoops", ["b0"], [], ["b9"]]), "wrong outputs"),
    "unknown variable": (lambda t: t[0].append(["Reorder", ["l5", "l9"], [], []]), "uses l9"),
    "unknown consumer": (lambda t: t[0].append(["CacheRead", ["b0", ["b9"]], [0, "shared"], ["b10"]]), "uses b9"),
    "defined twice": (lambda t: t[0].append(["GetLoops", ["b0"], [], ["l5"]]), "defines l5 again"),
    "huge number": (lambda t: t[0].append(["Annotate", ["b0", 2**31], ["meta_schedule.vectorize"], []]), "wrong value"),
    "huge factor": (lambda t: t[1].__setitem__(0, [2, [4, 2**40]]), "wrong decision"),
    "factor of 0": (lambda t: t[1].__setitem__(0, [2, [4, 0]]), "wrong decision"),
    "factor too many": (lambda t: t[1].__setitem__(0, [2, [4, 2, 4]]), "wrong decision"),
    "no such candidate": (lambda t: t[1].__setitem__(1, [4, 2]), "wrong decision"),
    "candidate from behind": (lambda t: t[1].__setitem__(1, [4, -1]), "wrong decision"),
    "no decision": (lambda t: t[1].pop(), r"4 of its trace \(SampleCategorical\) has no decision"),
    "two decisions": (lambda t: t[1].append([4, 0]), "decision for no instruction"),
    "decision elsewhere": (lambda t: t[1].append([0, 0]), "decision for no instruction"),
    "tiles": (lambda t: t[0][2][2].__setitem__(0, 3), "2 outputs and not 3"),
    "probabilities": (lambda t: t[0][4][2][1].pop(), "2 candidates with 1 probabilities"),
    "not a number": (lambda t: t[0][4][2].__setitem__(1, [0.5, float("nan")]), "wrong attributes"),
    "true for a number": (lambda t: t[0][2][2].__setitem__(1, True), "wrong attributes"),
    "map that is no text": (lambda t: t[0].append(laid_out(["b0"])), "wrong index map"),
    "map that is no JSON": (lambda t: t[0].append(laid_out("{")), "wrong index map"),
    "map that is no graph": (lambda t: t[0].append(laid_out("[1]")), "wrong index map"),
    "map without its root": (lambda t: t[0].append(laid_out(index_map(*SAME, root=0))), "wrong index map"),
    "map that refers to itself": (
        lambda t: t[0].append(laid_out(index_map(*SAME[:4], {"type": "ffi.Array", "data": [4]}, MAP))),
        "wrong index map",
    ),
    "map that refers ahead": (
        lambda t: t[0].append(laid_out(index_map({"type": "ffi.Array", "data": [1]}, *SAME))),
        "wrong index map",
    ),
    "map with a call": (
        lambda t: t[0].append(laid_out(index_map({"type": "ir.Call", "data": {"op": 0}}, *SAME))),
        "wrong index map",
    ),
    "map with a kind that is no text": (
        lambda t: t[0].append(laid_out(index_map({"type": ["None"]}, *SAME))),
        "wrong index map",
    ),
    "map of numbers": (
        lambda t: t[0].append(
            laid_out(index_map(NOTHING, {"type": "ir.PrimType", "data": {"dtype": "float32"}}, *SAME[2:]))
        ),
        "wrong index map",
    ),
    "map of text": (
        lambda t: t[0].append(laid_out(index_map({"type": "ir.Var", "data": {"name": "i"}}))),
        "wrong index map",
    ),
    "endless map": (lambda t: t[0].append(laid_out(index_map(*SAME * 2000))), "wrong index map"),
    "huge padding": (
        lambda t: t[0].append(["TransformLayout", ["b0", index_map(*SAME)], [0, 1, 2, False], []]),
        "wrong attributes",
    ),
    "too many": (lambda t: t[0].extend([["GetProducers", ["b0"], [], []]] * 1000), "more than 1000"),
    "too deep": (
        lambda t: t[0].extend(["Split", ["l5", 2, 2], [True, False], [f"l{n}", f"l{n + 1}"]] for n in range(9, 999, 2)),
        "splits loops into more than",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_rule_makes_is_refused_by_name(what: str) -> None:
    change, message = REFUSED[what]
    trace = small()
    change(trace)
    with pytest.raises(ValueError, match=message) as refused:
        check_trace(trace)
    assert len(str(refused.value)) < 300 and str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 900 + "]" * 900, "[[], []", "NaN", "1" * 5000, "[[],[]]]", ""])
def test_text_that_holds_no_trace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="its trace is"):
        check_trace_json(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["b0", "l5", "v7"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


@given(st.data())
def test_a_changed_trace_is_accepted_or_refused_and_nothing_else(data: st.DataObject) -> None:
    trace: Any = small()
    holder = trace
    while True:
        index = data.draw(st.integers(0, len(holder) - 1))
        if not (isinstance(holder[index], list) and holder[index] and data.draw(st.booleans())):
            break
        holder = holder[index]
    holder[index] = data.draw(values)
    try:
        check_trace(trace)
    except ValueError as error:
        assert str(error).isprintable()
    else:
        check_trace_json(json.dumps(trace))
