"""Tasks on executors: longest processing time first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable


def makespan(tasks: Iterable[float], executors: int) -> float:
    """When the last of `tasks` ends, in their unit of time, each executor having one slot.

    The longest task that is left goes to the executor that is free first. This takes at most
    4/3 - 1/(3 executors) of the shortest time possible (R. L. Graham, Bounds on Multiprocessing
    Timing Anomalies, SIAM J. Appl. Math. 17, 1969).
    """
    free_at = [0.0] * executors
    for task in sorted(tasks, reverse=True):
        heapq.heapreplace(free_at, free_at[0] + task)
    return max(free_at)
