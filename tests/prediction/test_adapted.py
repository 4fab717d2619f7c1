"""The cost model that corrects what other workloads teach by what this one's programs show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from colt_pipeline.prediction import pretrained
from colt_pipeline.prediction.adapted import AdaptedModel
from colt_pipeline.prediction.pretrained import Experience
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.space.program import Point

pytestmark = pytest.mark.tvm

WIDTH = 329
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Fake:
    """A program that was made, with its place and features; a sketch has only the former."""

    key: str
    point: Point
    row: Any

    @property
    def structure(self) -> str:
        return self.key


def fakes(count: int, seed: int, design: str = "a") -> list[Fake]:
    """Programs with four decisions; feature 7 is the first, so trees may learn from it."""
    drawn = np.random.default_rng(seed).uniform(0, 6, size=(count, 4))
    rows = np.zeros((count, WIDTH), np.float32)
    rows[:, 7] = drawn[:, 0]
    return [Fake(f"{design}-{seed}-{n}", Point(design, drawn[n]), rows[n]) for n in range(count)]


def latency(program: Fake) -> float:
    """Slower with the first decision, as elsewhere, and much slower with the second, as nowhere else."""
    first, second = program.point.coordinates[:2]
    return float(1e-3 * np.exp(0.3 * first + 0.8 * second))


def elsewhere(count: int = 200) -> Experience:
    """Another workload, where only the first decision matters."""
    found = fakes(count, 99)
    return Experience([p.row for p in found], [float(np.exp(0.3 * p.point.coordinates[0])) for p in found])


@pytest.fixture(autouse=True)
def synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features are the fake program's row."""
    monkeypatch.setattr(pretrained, "features", lambda space, extractor, programs: [p.row for p in programs])


def model(*others: Experience) -> AdaptedModel:
    return AdaptedModel(None, 4, others, Stopwatch())  # type: ignore[arg-type]


def learn(of: AdaptedModel, programs: list[Fake], failing: tuple[int, ...] = ()) -> None:
    samples = [
        Sample(p.key, None, "timeout") if n in failing else Sample(p.key, latency(p), None)
        for n, p in enumerate(programs)
    ]
    of.update(programs, samples)  # type: ignore[arg-type]


def right_pairs(scores: list[float], programs: list[Fake]) -> float:
    """Fraction of pairs in the right order; one half by chance."""
    pairs = [(i, j) for i in range(len(programs)) for j in range(i)]
    truth = [-latency(p) for p in programs]
    return float(np.mean([(scores[i] > scores[j]) == (truth[i] > truth[j]) for i, j in pairs]))


def scores(of: AdaptedModel, programs: list[Fake]) -> list[float]:
    return of.score(programs, RNG)  # type: ignore[arg-type]


def test_a_few_samples_correct_what_other_workloads_teach() -> None:
    tested, adapted = fakes(60, 1), model(elsewhere())
    before = right_pairs(scores(adapted, tested), tested)
    learn(adapted, fakes(24, 2))
    assert 0.5 < before < 0.75
    assert right_pairs(scores(adapted, tested), tested) > before + 0.15


def test_without_other_workloads_it_warms_up_and_learns() -> None:
    tested, adapted = fakes(60, 1), model()
    learn(adapted, fakes(3, 2))
    assert not adapted.warm
    learn(adapted, fakes(21, 3))
    assert adapted.warm and right_pairs(scores(adapted, tested), tested) > 0.8


def test_the_fastest_has_the_highest_score_and_scores_are_rounded() -> None:
    adapted, known = model(elsewhere()), fakes(32, 2)
    learn(adapted, known)
    found = scores(adapted, known)
    best = min(range(len(known)), key=lambda n: latency(known[n]))
    assert found[best] > np.quantile(found, 0.9)
    assert all(np.log(score) == pytest.approx(round(float(np.log(score)), 4), abs=1e-9) for score in found)


def test_failures_count_as_slow_and_failures_alone_teach_nothing() -> None:
    adapted, tested = model(elsewhere()), fakes(20, 1)
    untaught = scores(adapted, tested)
    learn(adapted, fakes(6, 2), failing=tuple(range(6)))
    assert scores(adapted, tested) == untaught
    learn(adapted, fakes(30, 3), failing=(0, 1))
    assert np.isfinite(scores(adapted, tested)).all()


def test_sketches_are_screened_by_their_decisions_alone() -> None:
    adapted, tested = model(elsewhere()), fakes(60, 1)
    learn(adapted, fakes(24, 2))
    sketches = [Fake(p.key, p.point, None) for p in tested]
    known: Any = fakes(40, 4)
    found = adapted.screen(sketches, known)
    assert right_pairs(found, tested) > 0.75
    scores(adapted, fakes(40, 5))
    assert adapted.screen(sketches, known) == found, "what was asked before has no part in it, as after a kill"


def test_what_will_be_measured_makes_its_neighbours_less_uncertain() -> None:
    adapted = model(elsewhere())
    learn(adapted, fakes(16, 2))
    waiting = fakes(2, 5)
    twin = Fake("twin", Point("a", waiting[0].point.coordinates + 0.01), waiting[0].row)
    prospects = adapted.prospects([*waiting, twin], optimism=2.0)  # type: ignore[list-item]
    before, after = prospects([]), prospects([0])
    assert after[2] < before[2]
    assert before[1] - after[1] < before[2] - after[2]
    cautious = adapted.prospects([*waiting, twin], optimism=0.0)  # type: ignore[list-item]
    assert cautious([]) == cautious([0]) < before


def test_designs_with_other_decisions_share_what_holds_for_all() -> None:
    adapted = model(elsewhere())
    learn(adapted, fakes(16, 2))
    other = [Fake(p.key, Point("b", p.point.coordinates[:3]), p.row) for p in fakes(10, 6)]
    assert np.isfinite(scores(adapted, other)).all()
    assert len(set(scores(adapted, other))) > 5, "the trees still tell them apart"
