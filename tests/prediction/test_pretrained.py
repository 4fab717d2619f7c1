"""The cost model pretrained on other workloads' recordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from colt_pipeline.prediction import pretrained
from colt_pipeline.prediction.pretrained import Experience, PretrainedModel
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from tests.space.small import space
from tests.support import printed_elsewhere

pytestmark = pytest.mark.tvm

WIDTH = 329


@dataclass(frozen=True)
class Fake:
    """A program represented by its features."""

    key: str
    row: Any

    @property
    def structure(self) -> str:
        return self.key


def rows(count: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(0, 10, size=(count, WIDTH)).astype(np.float32)


def latency(row: Any) -> float:
    """Latencies that increase with feature 7, over two orders of magnitude."""
    return float(1e-3 * np.exp(row[7] / 2))


def experience(count: int, seed: int, factor: float = 1.0) -> Experience:
    """A workload in which everything takes `factor` times as long."""
    drawn = rows(count, seed)
    return Experience(list(drawn), [factor * latency(row) for row in drawn])


def fakes(count: int, seed: int) -> list[Fake]:
    return [Fake(f"{seed}-{n}", row) for n, row in enumerate(rows(count, seed))]


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features are the fake program's row."""
    monkeypatch.setattr(pretrained, "features", lambda space, extractor, programs: [p.row for p in programs])


def model(warmup_samples: int = 4, others: tuple[Experience, ...] = ()) -> PretrainedModel:
    return PretrainedModel(None, warmup_samples, others, Stopwatch())  # type: ignore[arg-type]


def scores(of: PretrainedModel, programs: list[Fake], seed: int = 0) -> list[float]:
    return of.score(programs, np.random.default_rng(seed))  # type: ignore[arg-type]


def learn(of: PretrainedModel, programs: list[Fake], failing: tuple[int, ...] = ()) -> None:
    samples = [
        Sample(p.key, None, "timeout") if n in failing else Sample(p.key, latency(p.row), None)
        for n, p in enumerate(programs)
    ]
    of.update(programs, samples)  # type: ignore[arg-type]


def right_pairs(predicted: list[float], programs: list[Fake]) -> float:
    """Fraction of pairs in the right order; one half by chance."""
    truth = [-latency(p.row) for p in programs]
    pairs = [(i, j) for i in range(len(truth)) for j in range(i)]
    return float(np.mean([(predicted[i] > predicted[j]) == (truth[i] > truth[j]) for i, j in pairs]))


def test_labels_are_relative_to_the_workloads_best_and_bounded() -> None:
    found = Experience([], [2.0, 1.0, np.inf, np.e, 1e9]).labels()
    assert found == pytest.approx([-np.log(2), 0.0, -6.0, -1.0, -6.0])
    slower = Experience([], [20.0, 10.0, np.inf, 10 * np.e, 1e9]).labels()
    assert slower == pytest.approx(found)  # the scale of a workload's latencies does not matter


def test_experience_ranks_programs_of_a_new_workload_before_its_first_sample(synthetic: None) -> None:
    others = (experience(60, 1), experience(60, 2, factor=100.0))
    new = fakes(40, 3)
    predicted = scores(model(others=others), new)
    assert right_pairs(predicted, new) > 0.85
    assert predicted == scores(model(others=others), new, seed=9)  # no noise
    assert 0.2 < max(predicted) < 2.0 and min(predicted) > 0


def test_the_runs_own_samples_teach_what_others_did_not(synthetic: None) -> None:
    """The other workload depends on feature 8, this one on feature 7."""
    drawn = rows(60, 1)
    taught = model(others=(Experience(list(drawn), [float(1e-3 * np.exp(row[8] / 2)) for row in drawn]),))
    new = fakes(40, 3)
    before = right_pairs(scores(taught, new), new)
    learn(taught, fakes(40, 4))
    assert before < 0.55 < 0.7 < right_pairs(scores(taught, new), new)


def test_without_experience_scores_are_noise_until_warm(synthetic: None) -> None:
    fresh, programs = model(warmup_samples=8), fakes(20, 1)
    learn(fresh, programs[:7])
    noise = scores(fresh, programs, seed=5)
    assert noise == scores(fresh, programs, seed=5) != scores(fresh, programs, seed=6)
    assert noise == [float(x) for x in np.random.default_rng(5).uniform(size=20)]
    assert fresh.rate(None, programs) == [0.0] * 20, "TVM's search predicts before it has measured"
    learn(fresh, programs[7:8])
    assert scores(fresh, programs, seed=5) == scores(fresh, programs, seed=6) != noise


def test_the_model_is_trained_by_the_prediction_that_needs_it(synthetic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, train = [], pretrained._train

    def counting(known: list[Experience]) -> Any:
        trained.append([len(experience.latencies) for experience in known])
        return train(known)

    monkeypatch.setattr(pretrained, "_train", counting)
    others, programs = (experience(20, 1),), fakes(8, 3)
    first, second = model(others=others), model(others=others)
    assert scores(first, programs) == scores(second, programs)  # two runs in one process
    for begin in (0, 4):
        learn(second, programs[begin : begin + 4])
    assert scores(second, programs) == scores(second, programs) != scores(first, programs)
    assert trained == [[20], [20, 8]]


@pytest.mark.parametrize("others", [(), (experience(20, 1),)])
def test_failed_samples_break_no_training_and_are_predicted_slow(
    synthetic: None, others: tuple[Experience, ...]
) -> None:
    taught, programs = model(others=others), fakes(20, 1)
    learn(taught, programs[:8], failing=tuple(range(8)))  # only failures, from which nothing is learned
    assert np.isfinite(scores(taught, programs)).all()
    learn(taught, programs[8:], failing=(0, 1, 2))
    predicted = scores(taught, programs)
    assert np.isfinite(predicted).all()
    assert max(predicted[n] for n in (8, 9, 10)) < max(predicted[11:])


def test_a_workload_of_failures_alone_teaches_no_nan(synthetic: None) -> None:
    failures = Experience(list(rows(5, 7)), [np.inf] * 5)
    assert np.isfinite(scores(model(others=(experience(20, 1), failures)), fakes(5, 2))).all()


def predictions() -> list[str]:
    """Scores of real programs under a model with both experience and its own samples."""
    here = space("deepseek_r1_moe")
    programs = here.initial(6, np.random.default_rng(0))
    taught = PretrainedModel(here, 4, [experience(30, 1)], Stopwatch())
    taught.update(programs[:4], [Sample(p.key, 1e-3 * (n + 1), None) for n, p in enumerate(programs[:4])])
    return [x.hex() for x in taught.score(programs, np.random.default_rng(0))]


def test_another_process_predicts_the_same() -> None:
    code = "from tests.prediction.test_pretrained import predictions; print(*predictions())"
    assert printed_elsewhere(code, hash_seed=7).split() == predictions()
