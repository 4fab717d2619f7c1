"""The shared tree: every node is a pair of a program and the model that will expand it (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from colt_pipeline.runs.events import Child

ROOT = 0
"""The unoptimized program. It has no trace to edit; its children are the initial programs."""


@dataclass
class Node:
    """One joint state with its statistics."""

    id: int
    parent: int | None
    depth: int
    record: Child | None
    """The program, its trace and its scores when it was created; None for the root."""
    model: str | None
    """The model that expands this node next."""
    made_by: str | None
    """The model whose proposal led here; None for the root, initial programs, drafts and random draws."""
    children: list[int] = field(default_factory=list)
    drafts: int = 0
    """Children that no call made and that leave their places to those of calls."""
    visits: int = 0
    value: float = 0.0
    """Cumulative reward without the part in `rate`."""
    rate: float = 0.0
    """Cumulative 1 / latency (1/s) of the programs whose reward is measured, relative to the best latency."""
    failures: int = 0
    """Expansions of this node that yielded no child."""
    awaited: int = 0
    """Expansions of this node whose answers are awaited."""
    awaited_below: int = 0
    """The same for the whole subtree; each counts as a visit without a reward (virtual loss)."""
    open_below: int = 0
    """Expandable nodes in this subtree, including this one; 0 means it is exhausted."""

    def total(self, best_secs: float) -> float:
        """W, the cumulative reward, given the best latency so far (0 if there is none)."""
        return self.value + best_secs * self.rate

    @property
    def regressed(self) -> bool:
        """Whether the predicted score was below the parent's when the node was made."""
        return self.record is not None and self.record.score < self.record.parent_score


class Tree:
    """The nodes, whose ids follow the order of creation."""

    def __init__(self, branching: int, max_failures: int) -> None:
        """Create the root.

        Args:
            branching: children per node (paper: B = 2).
            max_failures: failed expansions before a node is closed.
        """
        self._branching = branching
        self._max_failures = max_failures
        self.nodes = [Node(ROOT, None, 0, None, None, None)]

    @property
    def root(self) -> Node:
        return self.nodes[ROOT]

    def expandable(self, node: Node) -> bool:
        """Whether a model may be asked at this node, whatever comes of the answers that are awaited here."""
        children, failures = len(node.children) - node.drafts + node.awaited, node.failures + node.awaited
        return node.id != ROOT and children < self._branching and failures < self._max_failures

    def grow(self, parent: int, child: Child, made_by: str | None, drafted: bool = False) -> Node:
        """Add `child` below `parent` and back up its reward; a drafted one takes none of the parent's places."""
        above = self.nodes[parent]
        node = Node(len(self.nodes), parent, above.depth + 1, child, child.model, made_by)
        self.nodes.append(node)
        was_open = self.expandable(above)
        above.children.append(node.id)
        above.drafts += drafted
        self._count_open(node, +1)
        if was_open and not self.expandable(above):
            self._count_open(above, -1)
        for ancestor in self.path(node.id):
            ancestor.visits += 1
            ancestor.value += child.reward
        return node

    def measured(self, id: int, latency_secs: float | None) -> None:
        """Make the reward of this node best latency / latency, or 0 after an error (None)."""
        record = self.nodes[id].record
        assert record is not None
        for ancestor in self.path(id):
            ancestor.value -= record.reward
            ancestor.rate += 1 / latency_secs if latency_secs else 0.0

    def fail(self, id: int, retry_model: str | None) -> None:
        """Count a failed expansion of a node, which `retry_model` will expand next."""
        node = self.nodes[id]
        was_open = self.expandable(node)
        node.failures += 1
        node.model = retry_model or node.model
        if was_open and not self.expandable(node):
            self._count_open(node, -1)

    def await_answer(self, id: int) -> None:
        """Count an expansion of this node whose answer is awaited."""
        self._count_awaited(id, +1)

    def end_wait(self, id: int) -> None:
        """The answer has come; `grow` or `fail` says what came of it."""
        self._count_awaited(id, -1)

    def path(self, id: int) -> Iterator[Node]:
        """The node and its ancestors, up to the root."""
        current: int | None = id
        while current is not None:
            yield self.nodes[current]
            current = self.nodes[current].parent

    def select(self, policy: Callable[[Node, Node], float]) -> Node | None:
        """Descend from the root along the largest `policy(child, parent)` to an expandable node; None if there is none.

        Ties go to the older child.
        """
        node = self.root
        if node.open_below == 0:
            return None
        while not self.expandable(node):
            parent = node
            alive = (self.nodes[c] for c in parent.children if self.nodes[c].open_below > 0)
            node = max(alive, key=lambda child: policy(child, parent))
        return node

    def _count_awaited(self, id: int, change: int) -> None:
        node = self.nodes[id]
        was_open = self.expandable(node)
        node.awaited += change
        for ancestor in self.path(id):
            ancestor.awaited_below += change
        self._count_open(node, self.expandable(node) - was_open)

    def _count_open(self, node: Node, change: int) -> None:
        for ancestor in self.path(node.id) if change else ():
            ancestor.open_below += change
