"""Predicted times with and without skew handling; `scale_on_paper` says by which model."""

from __future__ import annotations

import heapq
import math
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from recorded import Column, Run, Stage
from schedule import makespan

# Stands for the key of rows that have none.
NO_KEY = "(none)"
# Combinations of keys that are followed; the rows of all others are spread evenly.
_FOLLOWED = 1_000
# Tasks that read, for each executor, where nobody asks for another scale.
_TASKS_PER_EXECUTOR = 4


@dataclass(frozen=True)
class Assumptions:
    """What the recorded run does not say."""

    # The log is so many times as large as the recorded one.
    scale: int
    # Partitions of a shuffle for each executor.
    partitions_per_executor: int
    # Part of its work that a stage spends on reading, where it reads and aggregates.
    scan_share: float
    # "hottest": rows are sent by the group column with the hottest key; "whole": by all of them.
    group_key: str
    # Whether the only task of a stage takes longer with a larger log.
    one_task_grows: bool


@dataclass(frozen=True)
class Keys:
    """By what rows are sent, and the share of all rows that each hot key has."""

    name: str
    shares: dict[str, float]
    # Whether `Prediction.off_seconds` takes it into account.
    counts: bool = True

    @property
    def hottest(self) -> tuple[str, float]:
        return max(self.shares.items(), key=lambda item: item[1], default=("", 0.0))


@dataclass(frozen=True)
class Prediction:
    """Seconds and shares of one that so many executors reach."""

    executors: int
    on_seconds: float
    off_seconds: float
    on_efficiency: float
    off_efficiency: float
    # The longest task of the aggregation by the one in the middle.
    on_straggling: float
    off_straggling: float
    # Without skew handling, by what rows are sent: seconds.
    off_by_keys: dict[str, float]


def default_scale(run: Run, executors: Sequence[int]) -> int:
    """The least that gives each of the most executors four tasks that read."""
    return max(1, math.ceil(_TASKS_PER_EXECUTOR * max(executors) / len(run.reading.seconds)))


def predict(run: Run, executors: int, assumed: Assumptions) -> Prediction:
    """Both ways on so many executors of one slot each."""
    work = work_seconds(run, assumed)
    on = sum(makespan(tasks(stage, assumed), executors) for stage in run.stages)
    parts = {keys.name: _off(run, keys, executors, assumed) for keys in candidates(run, assumed)}
    counting = [keys.name for keys in candidates(run, assumed) if keys.counts]
    off, off_straggling = max(parts[name] for name in counting)
    return Prediction(
        executors,
        on_seconds=on,
        off_seconds=off,
        on_efficiency=work / (executors * on),
        off_efficiency=work / (executors * off),
        on_straggling=_straggling(run.aggregation.seconds),
        off_straggling=off_straggling,
        off_by_keys={name: seconds for name, (seconds, _) in parts.items()},
    )


def work_seconds(run: Run, assumed: Assumptions) -> float:
    """The work of all tasks over the larger log."""
    return sum(sum(tasks(stage, assumed)) for stage in run.stages)


def tasks(stage: Stage, assumed: Assumptions) -> list[float]:
    """Seconds of each task that the stage has over the larger log."""
    if not stage.one_task:
        return stage.seconds * assumed.scale
    return [second * (assumed.scale if assumed.one_task_grows else 1) for second in stage.seconds]


def candidates(run: Run, assumed: Assumptions) -> list[Keys]:
    """By what an engine without skew handling would send the rows."""
    groups = [column for column in run.columns if column.role == "group_key"]
    joins = [column for column in run.columns if column.role == "join_key"]
    found: list[Keys] = []
    if groups:
        chosen = [column for column in groups if not column.is_date] or groups
        hottest = max(chosen, key=lambda column: column.hottest / max(column.rows, 1))
        whole = assumed.group_key == "whole" and len(groups) > 1
        found.append(Keys(hottest.name, _shares(hottest), counts=not whole))
        if len(groups) > 1:
            found.append(Keys(" + ".join(c.name for c in groups), _combined(groups), counts=whole))
    found += [Keys(f"{column.name} (lookup)", _shares(column)) for column in joins]
    return found or [Keys("a key of which nothing is known", {})]


def partitions(shares: dict[str, float], count: int) -> list[float]:
    """The share of all rows in each partition: a hot key's go to one, all others evenly to all."""
    rest = max(0.0, 1.0 - sum(shares.values()))
    loads = [rest / count] * count
    for key, share in shares.items():
        loads[zlib.crc32(key.encode()) % count] += share
    return loads


def _off(run: Run, keys: Keys, executors: int, assumed: Assumptions) -> tuple[float, float]:
    """Seconds, and the longest partition by the one in the middle."""
    count = executors * assumed.partitions_per_executor
    loads = partitions(keys.shares, count)
    whole = sum(loads)
    seconds = 0.0
    for stage in run.stages:
        work = sum(tasks(stage, assumed))
        if not stage.aggregates_the_log:
            seconds += makespan(tasks(stage, assumed), executors)
            continue
        scan = work * assumed.scan_share if stage.reads_files else 0.0
        # As many equal tasks for each executor.
        seconds += scan / executors
        seconds += makespan([(work - scan) * load / whole for load in loads], executors)
    return seconds, _straggling(loads)


def _straggling(loads: Sequence[float]) -> float:
    median = statistics.median(loads)
    return max(loads) / median if median else math.inf


def _shares(column: Column) -> dict[str, float]:
    rows = max(column.rows, 1)
    shares = {key: count / rows for key, count in column.keys.items()}
    if column.role == "join_key" and column.nulls:
        shares[NO_KEY] = column.nulls / rows
    return shares


def _combined(columns: Sequence[Column]) -> dict[str, float]:
    """Shares of combinations of keys, as if the columns were independent."""
    combined = {"": 1.0}
    for column in columns:
        shares = _shares(column).items()
        products = (
            (f"{before}, {key}" if before else key, share * own)
            for before, share in combined.items()
            for key, own in shares
        )
        combined = dict(heapq.nlargest(_FOLLOWED, products, key=lambda item: item[1]))
    return combined
