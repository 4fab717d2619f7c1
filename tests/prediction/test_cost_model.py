"""TVM's cost model, with noise that repeats."""

import numpy as np
import pytest

from colt_pipeline.prediction.cost_model import CostModel
from colt_pipeline.runs.events import Sample
from tests.space.small import space

pytestmark = pytest.mark.tvm


def test_noise_until_warm_then_predictions_that_rank() -> None:
    here, rng = space("deepseek_r1_moe"), np.random.default_rng(0)
    programs = here.initial(24, rng)
    # A latency that the features can explain: the length of the unrolled program's text stands for nothing but itself.
    latency = {p.key: 1e-3 * (1 + len(p.text)) for p in programs}
    model = CostModel(here, warmup_samples=16)
    assert not model.warm
    noise = model.score(programs, np.random.default_rng(5))
    assert noise == model.score(programs, np.random.default_rng(5))
    assert noise != model.score(programs, np.random.default_rng(6))
    for part in (programs[:8], programs[8:]):
        model.update(part, [Sample(p.key, latency[p.key], None) for p in part])
    assert model.warm
    scores = model.score(programs, np.random.default_rng(5))
    assert scores == model.score(programs, np.random.default_rng(6))  # no noise any more
    truth = [min(latency.values()) / latency[p.key] for p in programs]
    assert np.corrcoef(scores, truth)[0, 1] > 0.9


def test_failed_samples_change_no_prediction() -> None:
    """TVM weights a sample by its label, min(cost)/cost, which is 0 for a failed one."""
    here, rng = space("deepseek_r1_moe"), np.random.default_rng(1)
    programs = here.initial(12, rng)
    good = [Sample(p.key, 1e-3 * (i + 1), None) for i, p in enumerate(programs[:8])]
    bad = [Sample(p.key, None, "timeout") for p in programs[8:]]
    with_failures, without = CostModel(here, warmup_samples=4), CostModel(here, warmup_samples=4)
    without.update(programs[:8], good)
    with_failures.update(programs, [*good, *bad])
    assert with_failures.score(programs[:8], rng) == pytest.approx(without.score(programs[:8], rng), abs=0.05)
