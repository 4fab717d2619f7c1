"""Each workload computes the same as its reference and has a stable identity."""

import numpy as np
import pytest

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.catalogue import WORKLOADS, build
from tests.support import SMALL
from tests.workloads.reference import relative_error

pytestmark = pytest.mark.tvm


def test_every_workload_has_a_small_shape_here() -> None:
    assert SMALL.keys() == WORKLOADS.keys()


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_unoptimized_program_equals_the_reference(name: str) -> None:
    workload = build(name, SMALL[name])
    assert relative_error(workload) <= workload.rtol
    assert np.abs(workload.expected(workload.inputs())[0]).max() > 0.01


def test_causal_attention_ignores_the_future() -> None:
    workload = build("llama3_8b_attention_core", SMALL["llama3_8b_attention_core"])
    inputs = [x.astype(np.float64) for x in workload.inputs()]
    (before,) = workload.reference(*inputs)
    inputs[2][:, -1, :] += 100  # the last key is visible to the last query alone
    (after,) = workload.reference(*inputs)
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])
    assert np.abs(before[:, -1] - after[:, -1]).max() > 1


@pytest.mark.parametrize(
    ("name", "shape", "flop"),
    [
        ("llama3_8b_attention", {"batch": 1, "tokens": 16, "inner": 4096, "outer": 4096}, 2 * 16 * 4096 * 4096),
        ("flux_conv", {"batch": 1, "channels": 2, "filters": 3, "height": 4, "width": 5}, 2 * 3 * 4 * 5 * 2 * 9),
        ("batched_matmul_nt", {"batch": 12, "tokens": 128, "inner": 64, "outer": 96}, 2 * 12 * 128 * 64 * 96),
        ("depthwise_conv", {"batch": 2, "channels": 3, "height": 4, "width": 5}, 2 * 2 * 3 * 4 * 5 * 9),
    ],
)
def test_flop_counts(name: str, shape: dict[str, int], flop: int) -> None:
    assert build(name, shape).flop == flop


def test_compulsory_bytes_count_inputs_and_output_once() -> None:
    image, kernels = 2 * 3 * 5 * 4, 3 * 9
    assert build("depthwise_conv", SMALL["depthwise_conv"]).compulsory_bytes == 4 * (image + kernels + image)


def test_identity_depends_on_the_shape_alone() -> None:
    shape = SMALL["flux_conv"]
    assert build("flux_conv", shape).hash == build("flux_conv", dict(reversed(shape.items()))).hash
    assert build("flux_conv", shape).hash != build("flux_conv", {**shape, "width": 8}).hash


def test_inputs_are_seeded_and_not_zeros() -> None:
    workload = build("flux_conv", SMALL["flux_conv"])
    for a, b in zip(workload.inputs(), workload.inputs(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.std() > 0.5


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet", {}, "workload.name=resnet is unknown"),
        ("flux_conv", {"batch": 1}, "needs the sizes batch, channels, filters, height, width"),
        ("flux_conv", {**SMALL["flux_conv"], "width": 0}, "at least 1"),
        ("flux_attention", {**SMALL["flux_attention"], "kv_heads": 2}, "heads=3 must be a multiple of kv_heads=2"),
        ("llama3_8b_attention_core", {**SMALL["llama3_8b_attention_core"], "context": 2}, "at least tokens=3"),
    ],
)
def test_bad_workloads_are_named(name: str, shape: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, shape)
