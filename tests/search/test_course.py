"""Course alteration on paths written down by hand (paper section 3.4)."""

import pytest

from colt_pipeline.events import Child
from colt_pipeline.search.course import regresses_persistently
from colt_pipeline.search.tree import Node


def path(*edges: str) -> list[Node]:
    """Nodes from below; an edge is the maker (s, l or - for none) and + or - for the score's change."""
    nodes = []
    for number, edge in enumerate(edges):
        score = 0.4 if edge[1] == "-" else 0.6
        maker = {"s": "small", "l": "large", "-": None}[edge[0]]
        nodes.append(Node(number, None, 0, Child("p", "[]", "m", score, 0.5, 0.5), "m", maker))
    return nodes


@pytest.mark.parametrize(
    ("regressed", "ancestors", "acting", "expected"),
    [
        (True, path("s-", "-+"), "small", True),  # two in a row, adjacent
        (True, path("s+", "s-"), "small", False),  # a rise between them
        (True, path("l+", "s-"), "small", True),  # the largest model's edge is skipped
        (True, path("l-", "l-"), "small", False),  # the largest model's regressions do not count
        (True, path("l-", "s-"), "small", True),
        (False, path("s-", "s-"), "small", False),  # the new child must regress
        (True, path("s-", "s-"), "large", False),  # the largest model is never overruled
        (True, path("--"), "small", False),  # initial programs were made by none
        (True, [], "small", False),
    ],
)
def test_rule(regressed: bool, ancestors: list[Node], acting: str, expected: bool) -> None:
    assert regresses_persistently(regressed, ancestors, acting, "large") is expected
