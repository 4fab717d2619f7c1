"""Measured rewards: W of a node is the total reward of its subtree, measured if available."""

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from colt_pipeline.runs.events import Measured, Planted, Sample, Stepped
from colt_pipeline.search.loop import tree_policy
from colt_pipeline.search.state import State
from tests.toy import LARGE, SMALL, ToyProgram, child, play, settings, world

KEYS = {name: ToyProgram(steps).key for name, steps in {"a": (1,), "b": (2,), "c": (1, 3)}.items()}


def three_programs(rewards: str) -> State:
    """Roots a and b with predicted rewards .25 and .75, and c with .5 below a."""
    state = State((LARGE, SMALL), settings(rewards=rewards))
    state.apply(Planted((child(1, reward=0.25), child(2, model="large", reward=0.75))))
    state.apply(Stepped(0, 1, (), child(1, 3, reward=0.5), "small", None, None))
    return state


def totals(state: State) -> list[float]:
    return [node.value + state.best_secs * node.rate for node in state.tree.nodes]


def test_a_measurement_takes_the_place_of_its_prediction() -> None:
    state = three_programs("measured")
    assert totals(state) == [1.5, 0.75, 0.75, 0.5]
    state.apply(Measured((Sample(KEYS["a"], 2.0, None), Sample(KEYS["c"], 4.0, None))))
    assert totals(state) == [1.0 + 0.75 + 0.5, 1.0 + 0.5, 0.75, 0.5]
    state.apply(Measured((Sample(KEYS["b"], 1.0, None),)))  # a new best halves all measured rewards
    assert totals(state) == [0.5 + 1.0 + 0.25, 0.5 + 0.25, 1.0, 0.25]
    assert [node.visits for node in state.tree.nodes] == [3, 2, 1, 1]


def test_a_failed_program_earns_nothing() -> None:
    state = three_programs("measured")
    state.apply(Measured((Sample(KEYS["c"], None, "timeout"),)))
    assert totals(state) == [1.0, 0.25, 0.75, 0.0]


def test_predicted_rewards_stay_as_they_were_backed_up() -> None:
    state = three_programs("predicted")
    state.apply(Measured((Sample(KEYS["a"], 2.0, None), Sample(KEYS["c"], None, "crash"))))
    assert totals(state) == [1.5, 0.75, 0.75, 0.5]


def test_selection_by_hand() -> None:
    state = three_programs("predicted")
    toy = world()
    policy = tree_policy(toy, state)
    root, a, b, _ = state.tree.nodes
    # a: .5 * .75/2 + .5 * 1 + sqrt(2) sqrt(ln 3 / 2); b: .5 * .75 + .5 * 0 + sqrt(2) sqrt(ln 3)
    assert policy(a, root) == pytest.approx(0.1875 + 0.5 + 1.0481470739, abs=1e-9)
    assert policy(b, root) == pytest.approx(0.3750 + 0.0 + 1.4823038073, abs=1e-9)
    assert state.tree.select(policy) is b


def test_selection_by_hand_with_measured_rewards() -> None:
    state = three_programs("measured")
    state.apply(Measured((Sample(KEYS["a"], 1.0, None), Sample(KEYS["b"], 10.0, None))))
    root, a, b, _ = state.tree.nodes
    policy = tree_policy(world(rewards="measured", c=0.2, lambda_=0.2), state)
    assert policy(a, root) == pytest.approx(0.8 * (1.0 + 0.5) / 2 + 0.2 + 0.2 * 0.7411519036, abs=1e-9)
    assert policy(b, root) == pytest.approx(0.8 * 0.1 + 0.2 * 1.0481470739, abs=1e-9)
    assert state.tree.select(policy) is a


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    samples=st.integers(1, 40),
    branching=st.integers(1, 4),
    candidates=st.integers(0, 12),
    one_fails_in=st.sampled_from([0, 1, 2, 5]),
    rewards=st.sampled_from(["measured", "predicted"]),
)
def test_w_is_the_sum_over_the_subtree(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    samples: int,
    branching: int,
    candidates: int,
    one_fails_in: int,
    rewards: str,
) -> None:
    toy = world(
        samples,
        seed,
        branching=branching,
        candidates=candidates,
        one_fails_in=one_fails_in,
        rewards=rewards,
        course_alteration="streak",
    )
    state = play(toy, tmp_path_factory.mktemp("run") / "events.jsonl")
    latencies = {s.program: s.latency_secs for s in state.samples} if rewards == "measured" else {}
    best = min((t for t in latencies.values() if t), default=0.0)
    earned: defaultdict[int, float] = defaultdict(float)
    for node in state.tree.nodes[1:]:
        assert node.record is not None
        own = node.record.reward
        if node.record.program in latencies:
            latency = latencies[node.record.program]
            own = best / latency if latency else 0.0
        for ancestor in state.tree.path(node.id):
            earned[ancestor.id] += own
    assert totals(state) == pytest.approx([earned[node.id] for node in state.tree.nodes], abs=1e-9)


def test_a_measured_search_leaves_slow_subtrees(tmp_path: Path) -> None:
    """Half of the first level is a hundred times slower, which measured rewards reveal but noisy predictions do not."""

    def share_of_slow(rewards: str) -> float:
        toy = world(60, rewards=rewards, initial_programs=2, branching=4, c=0.2, lambda_=0.0, rollout_length=0)
        toy.evaluator.measure = lambda programs: [  # type: ignore[method-assign]
            Sample(p.key, 1.0 if p.steps[0] else 100.0, None) for p in programs
        ]
        state = play(toy, tmp_path / f"{rewards}.jsonl")
        return state.tree.nodes[1].visits / state.tree.root.visits

    assert share_of_slow("measured") < 0.3 < share_of_slow("predicted")
