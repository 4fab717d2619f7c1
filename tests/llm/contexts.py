"""Prompt contexts: a small handwritten one, with and without sites, and one from a recorded search."""

import dataclasses
import json

from colt_pipeline.records import ModelView, ProgramView, PromptContext, Site
from tests.support import ROOT

CONTEXT = PromptContext(
    target="CPU through LLVM, mcpu znver4, 2 cores",
    lineage=(
        ProgramView("for i in T.parallel(4): CURRENT", ("sch.parallel(l1)",), 0.5, "qwen3-8b"),
        ProgramView("for i in range(4): PARENT", ("sch.split(l0)",), 0.25, "gpt-5.2"),
        ProgramView("UNOPTIMIZED", (), None, None),
    ),
    transformations=(("TileSize", "re-split"), ("Unroll", "unroll")),
    sites=(),
    hardware="vectors of 8 float32",
    depth=2,
    samples=10,
    budget=300,
    models=(ModelView("gpt-5.2", 300.0, 11, 0.5, 0, 1), ModelView("qwen3-8b", 8.0, 12, 0.25, 3, 0)),
    largest="gpt-5.2",
)
SITES = (
    Site("TileSize", "matmul.i", (2, 4, 1, 2), extent=16, innermost=64),
    Site("TileSize", "matmul.k", (4, 32), extent=128, innermost=64),
    Site("Unroll", "unroll", (16,), choices=(0, 16, 64, 512)),
)
WITH_SITES = dataclasses.replace(
    CONTEXT, sites=SITES, hardware="vectors of 16 float32, 32 vector registers, 512 KiB of L2 cache per core"
)


def recorded_context() -> PromptContext:
    """The context of a recorded call: a matrix product, its parent and grandparent, eight models."""
    stored = json.loads((ROOT / "tests/data/context.json").read_text())
    plain = PromptContext(**stored)
    return dataclasses.replace(
        plain,
        lineage=tuple(ProgramView(**{**p, "history": tuple(p["history"])}) for p in stored["lineage"]),
        transformations=tuple((name, words) for name, words in stored["transformations"]),
        sites=tuple(Site(**{**s, "now": tuple(s["now"]), "choices": tuple(s["choices"])}) for s in stored["sites"]),
        models=tuple(ModelView(**m) for m in stored["models"]),
    )


RECORDED = recorded_context()
