"""Programs as JSON that depends on the program alone."""

from __future__ import annotations

import json
from typing import Any

import tvm


def without_spans(program: Any) -> str:
    """A PrimFunc or IRModule like ``tvm.ir.save_json``, but without the paths and lines of the source it was read from.

    They would show where a user's files are, and make another program of each copy.
    """
    graph = json.loads(tvm.ir.save_json(program))
    graph["nodes"].append({"type": "None"})
    for node in graph["nodes"]:
        if isinstance(node.get("data"), dict) and "span" in node["data"]:
            node["data"]["span"] = len(graph["nodes"]) - 1
    return str(tvm.ir.save_json(tvm.ir.load_json(json.dumps(graph))))  # without the nodes that are now unused
