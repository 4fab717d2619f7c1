"""Real faults on a real GPU: each costs one sample, and the next kernel runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.backend import local
from colt_pipeline.measurement.gpu import driver_facts
from colt_pipeline.measurement.measurer import Measurer
from stages.benchmarks.gpu.faults import FAULTS, bound
from stages.benchmarks.kernels import scaled, workload

pytestmark = [pytest.mark.tvm, pytest.mark.slow]


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    try:
        driver_facts()
    except DeviceError as error:
        pytest.skip(str(error))
    config = composed(["target=gpu", "device=local", "measure.builders=2"])
    config = replace(config, measure=replace(config.measure, run_timeout_secs=5.0))
    with closing(local(config).make_measurer(workload())) as measurer:
        yield measurer


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_costs_one_sample(measurer: Measurer, what: str) -> None:
    expected, make = FAULTS[what]
    good = bound(scaled(1.0))
    before, faulty, after = measurer.measure([good, bound(make()), good], None)
    assert faulty.error == expected and faulty.latency_secs is None
    assert before.error is None and after.error is None


def test_a_batch_comes_back_in_order(measurer: Measurer) -> None:
    good, wrong = bound(scaled(1.0)), bound(scaled(1.01))
    found = [m.error for m in measurer.measure([good, wrong, good, wrong, good, good], None)]
    assert found == [None, "wrong_result", None, "wrong_result", None, None]
