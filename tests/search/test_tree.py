"""The shared tree: counts add up, exhausted subtrees are never revisited."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.runs.events import Child
from colt_pipeline.search.tree import ROOT, Node, Tree


def child(number: int, reward: float = 0.5) -> Child:
    return Child(f"program{number}", "[]", "m", 0.5, 0.5, reward)


def oldest(node: Node, parent: Node) -> float:
    return -node.id


def test_backup_reaches_the_root_and_only_the_path() -> None:
    tree = Tree(branching=2, max_failures=3)
    a = tree.grow(ROOT, child(1, 0.2), None)
    b = tree.grow(ROOT, child(2, 0.4), None)
    c = tree.grow(a.id, child(3, 0.8), "m")
    assert [n.visits for n in tree.nodes] == [3, 2, 1, 1]
    assert tree.nodes[ROOT].value == 0.2 + 0.4 + 0.8
    assert a.value == 0.2 + 0.8 and b.value == 0.4 and c.value == 0.8


def test_select_descends_only_through_full_nodes() -> None:
    tree = Tree(branching=2, max_failures=3)
    a = tree.grow(ROOT, child(1), None)
    assert tree.select(oldest) is a
    first = tree.grow(a.id, child(2), "m")
    assert tree.select(oldest) is a  # one child of two
    tree.grow(a.id, child(3), "m")
    assert tree.select(oldest) is first


def test_a_node_that_keeps_failing_is_closed_and_its_dead_subtree_is_left() -> None:
    tree = Tree(branching=2, max_failures=2)
    a, b = tree.grow(ROOT, child(1), None), tree.grow(ROOT, child(2), None)
    tree.fail(a.id, "other")
    assert tree.select(oldest) is a and a.model == "other"
    tree.fail(a.id, "other")
    assert tree.select(oldest) is b
    tree.fail(b.id, None)
    tree.fail(b.id, None)
    assert tree.select(oldest) is None


def test_a_closed_node_still_leads_to_its_open_child() -> None:
    tree = Tree(branching=2, max_failures=1)
    a = tree.grow(ROOT, child(1), None)
    below = tree.grow(a.id, child(2), "m")
    tree.fail(a.id, None)
    assert tree.select(oldest) is below


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**6), st.floats(0, 1)), max_size=60))
def test_visits_rewards_and_open_nodes_add_up(choices: list[tuple[bool, int, float]]) -> None:
    tree = Tree(branching=2, max_failures=2)
    tree.grow(ROOT, child(0), None)
    for number, (grows, pick, reward) in enumerate(choices, start=1):
        node = tree.select(lambda n, parent: (n.id * 7919 + pick) % 101)  # noqa: B023
        if node is None:
            break
        if grows:
            tree.grow(node.id, child(number, reward), "m")
        else:
            tree.fail(node.id, None)
    for node in tree.nodes:
        below = [tree.nodes[c] for c in node.children]
        own, reward = (0, 0.0) if node.record is None else (1, node.record.reward)
        assert node.visits == own + sum(c.visits for c in below)
        assert node.value == pytest.approx(reward + sum(c.value for c in below))
        assert node.open_below == tree.expandable(node) + sum(c.open_below for c in below)
        assert node.id == ROOT or len(node.children) <= 2
