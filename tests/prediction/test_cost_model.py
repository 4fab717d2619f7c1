"""TVM's cost model, with repeatable noise."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from tvm.s_tir.meta_schedule.cost_model.xgb_model import XGBConfig, XGBModel

from colt_pipeline.prediction.cost_model import CostModel, measure_candidates, runner_results
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from tests.space.small import space

pytestmark = pytest.mark.tvm


def test_noise_until_warm_then_predictions_that_rank() -> None:
    here, rng = space("deepseek_r1_moe"), np.random.default_rng(0)
    programs = here.initial(24, rng)
    # A latency that the features can explain; the length of the unrolled program's text has no other meaning.
    latency = {p.key: 1e-3 * (1 + len(p.text)) for p in programs}
    model = CostModel(here, 16, Stopwatch())
    assert not model.warm
    noise = model.score(programs, np.random.default_rng(5))
    assert noise == model.score(programs, np.random.default_rng(5))
    assert noise != model.score(programs, np.random.default_rng(6))
    for part in (programs[:8], programs[8:]):
        model.update(part, [Sample(p.key, latency[p.key], None) for p in part])
    assert model.warm
    scores = model.score(programs, np.random.default_rng(5))
    assert scores == model.score(programs, np.random.default_rng(6))  # no longer noise
    truth = [min(latency.values()) / latency[p.key] for p in programs]
    assert np.corrcoef(scores, truth)[0, 1] > 0.9


def test_failed_samples_change_no_prediction() -> None:
    """TVM weights a sample by its label, min(cost)/cost, which is 0 for a failure."""
    here, rng = space("deepseek_r1_moe"), np.random.default_rng(1)
    programs = here.initial(12, rng)
    good = [Sample(p.key, 1e-3 * (i + 1), None) for i, p in enumerate(programs[:8])]
    bad = [Sample(p.key, None, "timeout") for p in programs[8:]]
    with_failures, without = (CostModel(here, 4, Stopwatch()) for _ in range(2))
    without.update(programs[:8], good)
    with_failures.update(programs, [*good, *bad])
    assert with_failures.score(programs[:8], rng) == pytest.approx(without.score(programs[:8], rng), abs=0.05)


@pytest.mark.parametrize("batches", [[8], [8, 8, 4, 4], [16, 2, 2], [16, 2, 2, 2]])
def test_training_late_gives_the_model_that_training_at_once_gives(batches: list[int]) -> None:
    """TVM trains after a batch only if a fifth of the data is new, so the model may be older than the last batch."""
    here, rng = space("deepseek_r1_moe"), np.random.default_rng(2)
    programs = here.initial(sum(batches), rng)
    samples = [Sample(p.key, 1e-3 * (1 + i % 7), None) for i, p in enumerate(programs)]
    stopwatch = Stopwatch()
    late, at_once = CostModel(here, 1, stopwatch), XGBModel(config=XGBConfig(nthread=1), num_warmup_samples=1)
    for begin, end in pairwise(accumulate(batches, initial=0)):
        late.update(programs[begin:end], samples[begin:end])
        at_once.update(here.context, measure_candidates(programs[begin:end]), runner_results(samples[begin:end]))
    assert "train" not in stopwatch.seconds
    assert late.score(programs, rng) == list(at_once.predict(here.context, measure_candidates(programs)))
    booked = stopwatch.seconds["train"]
    late.score(programs, rng)
    assert stopwatch.seconds["train"] == booked > 0
