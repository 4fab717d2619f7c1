"""The whole model: its architecture compared with NumPy, and the tasks that TVM extracts from it."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import tvm
from tvm import relax

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.extracted import ExtractedModel
from colt_pipeline.workloads.llama import Array, Llama, model_of
from tests.workloads.reference import relative_error

pytestmark = pytest.mark.tvm

TINY = Llama(2, 64, 4, 2, 16, 96, 160, 6, 500000)
SIZES = {name: value for name, value in asdict(TINY).items() if name != "epsilon"}
LLAMA3_8B = Llama(32, 4096, 32, 8, 128, 14336, 128256, 16, 500000)


def logits(module: tvm.IRModule, given: dict[str, Array]) -> Array:
    machine = relax.VirtualMachine(tvm.compile(module, target=tvm.target.Target({"kind": "llvm"})), tvm.cpu())
    return np.asarray(machine["main"](*(tvm.runtime.tensor(x, tvm.cpu()) for x in given.values())).numpy())


def test_the_module_computes_what_numpy_does() -> None:
    given = TINY.parameters()
    expected = TINY.reference({name: x.astype(np.float64) for name, x in given.items()})
    found = logits(ExtractedModel(TINY.model).ready({}).module, given)
    assert found.shape == (6, 160)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_reference_is_causal_and_knows_positions() -> None:
    given = TINY.parameters()
    before = TINY.reference(given)
    changed = given["hidden"].copy()
    changed[-1] += 1
    after = TINY.reference({**given, "hidden": changed})
    np.testing.assert_array_equal(before[:-1], after[:-1])
    assert np.abs(before[-1] - after[-1]).max() > 0.1
    turned = TINY.reference({**given, "cos": np.ones_like(given["cos"]), "sin": np.zeros_like(given["sin"])})
    assert np.abs(before[1:] - turned[1:]).max() > 1e-3


def test_rotation_is_that_of_theta_and_keeps_distances() -> None:
    """The product of two rotated vectors depends only on the distance of their positions (RoFormer, section 3.4)."""
    given = replace(TINY, tokens=5).parameters()
    q, k = np.random.default_rng(0).standard_normal((2, 16))

    def rotated(x: Array, position: int) -> Array:
        low, high = np.split(x, 2)
        return np.asarray(x * given["cos"][position] + np.concatenate([-high, low]) * given["sin"][position])

    assert rotated(q, 4) @ rotated(k, 2) == pytest.approx(rotated(q, 2) @ rotated(k, 0), abs=1e-5)
    assert given["cos"][3, 1] == pytest.approx(np.cos(3 * 500000 ** (-2 / 16)))


def test_grouped_heads_share_keys_and_values() -> None:
    """Four heads over two key/value heads equal four over four with repeated keys and values."""
    given = TINY.parameters()
    wide = {
        name: np.repeat(given[name].reshape(64, 2, 16), 2, axis=1).reshape(64, 64) if name in "kv" else given[name]
        for name in given
    }
    np.testing.assert_allclose(TINY.reference(given), replace(TINY, kv_heads=4).reference(wide), atol=1e-5)


def test_tasks_are_weighted_by_their_calls() -> None:
    weights = {task.shape: task.weight for task in ExtractedModel(LLAMA3_8B.model).tasks}
    assert weights["16x4096, 4096x4096 -> 16x4096"] == 32  # q
    assert weights["16x4096, 4096x1024 -> 16x1024"] == 64  # k, v
    assert weights["16x4096, 4096x4096, 16x4096 -> 16x4096"] == 32  # o and the residual
    assert weights["16x4096, 4096x14336 -> 16x14336"] == 32  # gate and SiLU
    assert weights["16x4096, 4096x14336, 16x14336 -> 16x14336"] == 32  # up and the product
    assert weights["16x14336, 14336x4096, 16x4096 -> 16x4096"] == 32  # down and the residual
    assert weights["16x4096, 4096x128256 -> 16x128256"] == 1  # lm_head
    assert weights["16x4096, 4096 -> 16x4096"] == 65  # norms
    matrices = 2 * 16 * (32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 4096 * 128256)
    flop = sum(task.weight * task.flop for task in ExtractedModel(LLAMA3_8B.model).tasks)
    assert matrices < flop < 1.01 * matrices


def test_a_task_is_a_workload_with_a_reference() -> None:
    for task in ExtractedModel(TINY.model).tasks:
        workload = build(f"llama3_8b.{task.name}", SIZES)
        assert relative_error(workload) <= workload.rtol


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama3_8b.nothing", {}, "the model has no task nothing; choose one of"),
        ("gpt2.matmul", {}, "gpt2 is not a model that can be tuned as a whole; choose one of llama3_8b"),
        ("llama3_8b.matmul", {"kv_heads": 3}, "heads=4 must be a multiple of kv_heads=3"),
        ("llama3_8b.matmul", {"tokens": 0}, "at least 1"),
    ],
)
def test_bad_models_are_named(name: str, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, {**SIZES, **changes})


def test_a_model_needs_all_its_sizes() -> None:
    with pytest.raises(ConfigError, match="needs the sizes layers, hidden"):
        model_of("llama3_8b", {"layers": 2})
