"""The table of additions to TVM's design space, each a switch of ``conf/space``.

A rule looks for its pattern in a program and writes design spaces for it, as TVM's own rules do: schedules whose traces
hold sampling instructions for all that a search decides. Programs without the pattern get none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule

Rule = Callable[[Schedule, Collection[str]], list[Schedule]]
"""(an unscheduled program, the switches that are on) -> its design spaces, each a schedule; none without the
pattern."""


@dataclass(frozen=True)
class Addition:
    """A kind of design space that TVM's rules do not make."""

    switch: str
    """Key of ``conf/space`` that turns it on."""
    kind: str
    """TVM's target kind that it is for."""
    rule: Rule


ADDITIONS: tuple[Addition, ...] = ()


def rules(kind: str, switches: Collection[str]) -> Iterator[Rule]:
    """The rules for a target kind that are on, in the order of the table."""
    return (a.rule for a in ADDITIONS if a.kind == kind and a.switch in switches)
