"""The stand-ins' rules for register tiles: valid decisions at every site, and what their docstrings say."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import yaml

from colt_pipeline.llm import blocking
from colt_pipeline.llm.blocking import RULES, Kernel, Rule, plan, read, rules_of
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.embedded import EmbeddedClient, skill
from colt_pipeline.llm.knowledge import Plan
from colt_pipeline.llm.parse import parse
from colt_pipeline.llm.prompt import render
from colt_pipeline.records import ModelSpec, PromptContext, Proposal, Site
from colt_pipeline.space.generate import generate
from colt_pipeline.space.sites import find_sites
from colt_pipeline.workloads.catalogue import WORKLOADS, build
from tests.llm.contexts import CONTEXT, RECORDED
from tests.support import ROOT

HARDWARE = "vectors of 16 float32, 32 vector registers, 512 KiB of L2 cache per core"
NARROW = "vectors of 8 float32, 16 vector registers, 256 KiB of L2 cache per core"
EXTENDED = ("vector_math", "row_fusion", "register_tiles", "packing", "padding", "sound")
NAMES = ("TileSize", "Unroll", "Parallel")
ROWS, VECTORS = "counts groups of 4, unrolled; last factor unrolled", "counts vectors of 16; last factor unrolled"
UNROLL = Site("Unroll", "unroll", (64,), choices=(0, 16, 64))
PARALLEL = Site("Parallel", "parallel", (1,), choices=(1, 2, 4, 8, 16, 32, 64))
PROJECTION = (
    Site("TileSize", "matmul.i_0", (1, 4), 4, 4, note=ROWS),
    Site("TileSize", "matmul.j_0_1", (128, 1), 128, 4, note=VECTORS),
    Site("TileSize", "matmul.k_0", (16, 64), 1024, 64, note="counts groups of 4, unrolled"),
    PARALLEL,
    UNROLL,
)
CHAIN = (
    Site("TileSize", "context.i_0", (8, 4), 32, 4, note="counts groups of 16"),
    Site("TileSize", "context.e_0", (2, 4), 8, 4, note=VECTORS),
    Site("TileSize", "scores.ax2_0", (32, 4), 128, 4, note=ROWS),
)
CONVOLUTION = (
    Site("TileSize", "conv.f_0", (1, 32, 1), 32, 4, note=ROWS),
    Site("TileSize", "conv.i_1", (1, 32), 32, 64, note="counts single iterations"),
    Site("TileSize", "conv.j_0", (4, 1), 4, 4, note=VECTORS),
    Site("TileSize", "conv.c_0", (128, 1), 128, 64, note="counts groups of 1, unrolled"),
)
SEEDS = range(20)


def context(sites: tuple[Site, ...], hardware: str = HARDWARE, depth: int = 1) -> PromptContext:
    transformations = tuple((name, "changes it") for name in NAMES)
    return dataclasses.replace(CONTEXT, transformations=transformations, sites=sites, hardware=hardware, depth=depth)


def kernel(sites: tuple[Site, ...], hardware: str = HARDWARE, code: str = "full") -> Kernel:
    found = read("\n".join(m["content"] for m in render(context(sites, hardware), code)))
    assert found is not None
    return found


def plans(sites: tuple[Site, ...], *rules: Rule) -> list[Plan]:
    """The decisions under each seed, including unchanged ones."""
    present = {s.label: list(s.now) for s in sites}
    return [{**present, **plan(kernel(sites), rules, np.random.default_rng(seed))} for seed in SEEDS]


def designs(name: str) -> Iterator[tuple[Site, ...]]:
    """The sites of each extended design of a workload."""
    described = yaml.safe_load((ROOT / f"conf/workload/{name}.yaml").read_text())
    module = build(described["name"], described["shape"]).module
    target = {"kind": "llvm", "num-cores": 2, "mcpu": "sapphirerapids"}
    for trace in generate(module, target, EXTENDED).traces:
        yield tuple(site for _, site in find_sites(module, trace).values())


@pytest.mark.tvm
@pytest.mark.parametrize("name", WORKLOADS)
def test_rules_give_valid_decisions_at_every_site_of_the_extended_designs(name: str) -> None:
    client, valid = EmbeddedClient(), 0
    for sites in designs(name):
        tiles = {site.label: site for site in sites if site.extent}
        assert {axis.label for axis in kernel(sites).axes} == set(tiles)
        for hardware in (HARDWARE, NARROW):
            shown = context(sites, hardware)
            for size in (8.0, 300.0):
                question = Question(ModelSpec("m", "embedded", "m", size, False), render(shown), {})
                for occurrence in range(5):
                    verdict = parse(client.complete(question, occurrence), NAMES, ["gpt-5.2", "qwen3-8b"], sites)
                    assert isinstance(verdict, Proposal) or verdict.kind != "bad_decision", verdict
                    valid += isinstance(verdict, Proposal) and any(edit.site for edit in verdict.transformations)
    assert valid > 10


@pytest.mark.parametrize("sites", [PROJECTION, CHAIN, CONVOLUTION])
@pytest.mark.parametrize("hardware", [HARDWARE, NARROW])
@pytest.mark.parametrize("code", ["full", "compact"])
def test_any_rules_in_any_order_stay_within_bounds(sites: tuple[Site, ...], hardware: str, code: str) -> None:
    known = {site.label: site for site in sites}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        rules = [RULES[i] for i in rng.permutation(len(RULES))]
        for label, decision in plan(kernel(sites, hardware, code), rules, rng).items():
            assert known[label].violation(tuple(decision)) is None, (label, decision)
            assert tuple(decision) != known[label].now


def test_a_register_tile_fits_into_the_registers_and_hides_the_latency() -> None:
    found = plans(PROJECTION, blocking.register_tile)
    for decided in found:
        rows, vectors = 4 * decided["matmul.i_0"][-1], decided["matmul.j_0_1"][-1]
        assert 8 <= rows * vectors < rows * vectors + vectors < 32
    assert len({str(decided) for decided in found}) > 1  # several choices remain


def test_a_chain_has_the_fused_rows_as_its_vectors() -> None:
    for decided in plans(CHAIN, blocking.register_tile):
        assert 8 <= 4 * decided["scores.ax2_0"][-1] * decided["context.i_0"][-1] < 32
        assert decided["context.e_0"][-1] == 2  # 8 rows of its own


def test_rows_are_fused_as_far_as_their_results_fit_into_half_of_the_cache() -> None:
    small = kernel(CHAIN, HARDWARE.replace("512", "256"))
    decided = plan(small, [blocking.output_block], np.random.default_rng(0))
    assert decided["context.i_0"] == [16, 2]  # 2 results * 32 rows * 512 columns * 4 bytes = 128 KiB
    assert "context.i_0" not in plan(kernel(CHAIN), [blocking.output_block], np.random.default_rng(0))


def test_the_sums_in_use_fit_into_half_of_the_cache() -> None:
    for decided in plans(CONVOLUTION, blocking.register_tile, blocking.output_block):
        _, middle, last = decided["conv.f_0"]
        assert 4 * 4 * middle * last * decided["conv.i_1"][-1] * 64 <= 256 << 10


def test_a_block_of_the_reduction_fits_into_cache_and_pages() -> None:
    found = plans(PROJECTION, blocking.reduction_block)
    depths = {4 * decided["matmul.k_0"][-1] for decided in found}
    assert max(depths) * (128 * 16 + 16) * 4 <= 256 << 10
    assert max(depths) <= 32  # rows that lie pages apart
    assert len(depths) > 1


def test_every_core_gets_work_and_little_more_is_unrolled() -> None:
    for decided in plans(PROJECTION, blocking.parallel_grain, blocking.unrolling):
        assert decided["parallel"][0] in (2, 4, 8, 16, 32)
        assert decided["unroll"][0] in (0, 16)
    settled = (dataclasses.replace(PARALLEL, now=(32,)), dataclasses.replace(UNROLL, now=(0,)))
    assert not plan(kernel((*PROJECTION[:3], *settled)), RULES[-2:], np.random.default_rng(0))


def test_larger_models_know_more_rules_and_all_know_one() -> None:
    counts = [len(rules_of(skill(size))) for size in (1.0, 8.0, 32.0, 300.0)]
    assert counts == sorted(set(counts))
    assert counts[0] == 1
    assert counts[-1] == len(RULES)


def test_nothing_is_read_where_no_site_counts_anything_or_the_target_is_no_cpu() -> None:
    assert read("\n".join(m["content"] for m in render(RECORDED))) is None
    assert read("\n".join(m["content"] for m in render(context(PROJECTION, hardware="")))) is None


def test_later_answers_change_less_and_leave_some_decisions_open() -> None:
    model, client = ModelSpec("m", "embedded", "m", 300.0, False), EmbeddedClient()
    first, later = (
        [client.complete(Question(model, render(context(PROJECTION, depth=d)), {}), n).text for n in range(40)]
        for d in (1, 3)
    )
    assert np.mean([t.count('"site"') for t in first]) > np.mean([t.count('"site"') for t in later]) + 1
    assert not any('"TileSize"]' in text for text in first)
    assert 5 < sum('"TileSize"]' in text for text in later) < 35


def test_only_transformations_on_offer_are_named() -> None:
    shown = dataclasses.replace(context(PROJECTION), transformations=(("Unroll", "unroll"), ("Parallel", "grain")))
    model, client = ModelSpec("m", "embedded", "m", 300.0, False), EmbeddedClient()
    texts = [client.complete(Question(model, render(shown), {}), n).text for n in range(20)]
    assert not any("TileSize" in text for text in texts)
    assert any('"site": "unroll"' in text for text in texts)


def test_answers_about_designs_of_tvm_are_the_recorded_ones() -> None:
    client, messages = EmbeddedClient(), render(RECORDED)
    texts = [
        client.complete(Question(ModelSpec("m", "embedded", "m", size, False), messages, {}), n).text
        for size in (7.0, 32.0, 300.0)
        for n in range(10)
    ]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:20] == "c8ed9d89361b66de6d06"
