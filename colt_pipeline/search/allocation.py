"""Which kernel of a model gets the next batch of samples.

In the spirit of the gradient-based task scheduler of Ansor (Zheng et al., OSDI 2020, section 6) and TVM: the kernel
whose next batch is expected to save the model the most time. The expected saving is a fraction of the kernel's latency:
a blend of the fraction that its last batch saved and the optimistic guess 1 / batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from colt_pipeline.search.state import State

_PAST = 0.2
"""Weight of the last batch's saving against the optimistic guess; TVM's alpha."""


@dataclass(frozen=True)
class Share:
    """One kernel of a model."""

    weight: int
    """How often the model calls it."""
    state: State


def next_task(shares: Sequence[Share], batch_size: int) -> int | None:
    """Index of the kernel to search next; None if all searches have finished.

    Each kernel first gets one batch, in order. The choice depends only on what was measured, which does not change
    within a batch, so a resumed run continues where it stopped.
    """
    open_ = [i for i, share in enumerate(shares) if share.state.finished is None]
    if not open_:
        return None
    promises = [promise(shares[i], batch_size) for i in open_]
    return open_[promises.index(max(promises))]


def promise(share: Share, batch_size: int) -> float:
    """Seconds that the next batch may save in one run of the whole model; infinite before the first batch."""
    state = share.state
    if not state.samples or state.started is None:
        return math.inf
    batches = math.ceil(len(state.samples) / batch_size)
    before = _best(state, (batches - 1) * batch_size)
    now = _best(state, len(state.samples))
    return share.weight * now * (_PAST * (before - now) / before + (1 - _PAST) / batches)


def _best(state: State, samples: int) -> float:
    """Lowest latency after this many samples, including the unoptimized program's."""
    assert state.started is not None
    return min([state.started.baseline_secs, *(s.latency_secs for s in state.samples[:samples] if s.latency_secs)])
