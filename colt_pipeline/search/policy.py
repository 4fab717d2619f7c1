"""The model-aware tree policy (paper section 3.2).

MA-UCT(p_i, m_i) = (1 - lambda) W(p_i, m_i) / N(p_i, m_i) + lambda phi_small(m_i)
                   + c sqrt(ln N(p_{i-1}, m_{i-1}) / N(p_i, m_i))

phi_small(m) = (log n(m_max) - log n(m)) / (log n(m_max) - log n(m_min) + eps),  n = parameter count
"""

from __future__ import annotations

import math
from collections.abc import Mapping

_EPS = 1e-9


def phi_small(parameters: float, smallest: float, largest: float) -> float:
    """Preference for small models in [0, 1]: 1 for the smallest, 0 for the largest (parameter counts in any unit)."""
    return (math.log(largest) - math.log(parameters)) / (math.log(largest) - math.log(smallest) + _EPS)


def preferences(parameters: Mapping[str, float]) -> dict[str, float]:
    """phi_small of every candidate model."""
    smallest, largest = min(parameters.values()), max(parameters.values())
    return {model: phi_small(n, smallest, largest) for model, n in parameters.items()}


def ma_uct(value: float, visits: int, parent_visits: int, phi: float, lambda_: float, c: float) -> float:
    """The MA-UCT score of a visited node; `value` is its cumulative reward W."""
    exploitation = (1 - lambda_) * value / visits + lambda_ * phi
    return exploitation + c * math.sqrt(math.log(parent_visits) / visits)
