"""Which kernel of a model gets the next batch of samples.

In the spirit of the gradient-based task scheduler of Ansor (Zheng et al., OSDI 2020, section 6) and TVM: the kernel
whose next batch promises to save the model most time. What a kernel's batch promises is a share of its latency: a blend
of the share that its last batch saved and the share 1 / batches, by which one may hope that it falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from colt_pipeline.search.state import State

_PAST = 0.2
"""Weight of the last batch against hope; TVM's alpha."""


@dataclass(frozen=True)
class Share:
    """One kernel of a model."""

    weight: int
    """How often the model calls it."""
    state: State


def next_task(shares: Sequence[Share], batch_size: int) -> int | None:
    """Index of the kernel that is searched next; None when all searches are at their end.

    Each gets one batch first, in order. A function of what was measured alone: in the middle of a batch nothing of it
    changes, so a resumed run goes on where it stopped.
    """
    open_ = [i for i, share in enumerate(shares) if share.state.finished is None]
    if not open_:
        return None
    promises = [promise(shares[i], batch_size) for i in open_]
    return open_[promises.index(max(promises))]


def promise(share: Share, batch_size: int) -> float:
    """Seconds of the whole model that the next batch may save; infinite before the first."""
    state = share.state
    if not state.samples or state.started is None:
        return math.inf
    batches = math.ceil(len(state.samples) / batch_size)
    before = _best(state, (batches - 1) * batch_size)
    now = _best(state, len(state.samples))
    return share.weight * now * (_PAST * (before - now) / before + (1 - _PAST) / batches)


def _best(state: State, samples: int) -> float:
    """Least latency after so many samples, the unoptimized program's included."""
    assert state.started is not None
    return min([state.started.baseline_secs, *(s.latency_secs for s in state.samples[:samples] if s.latency_secs)])
