"""What a run of rankmill says of its tasks and of its hot keys."""

from __future__ import annotations

import json
import re
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_AGGREGATES = re.compile(r"aggregate: (partial|single)\b")
# What is brought together in the memory of one process.
_GATHERED = "aggregate: gathered"
# Any limit will do: without one, a process plans no exchange as a cluster has it.
_MEMORY = "1024G"


class BadReport(ValueError):
    """What was recorded can't be scheduled."""


@dataclass(frozen=True)
class Stage:
    """A part of a run with one task for each partition, and nothing exchanged within."""

    name: str
    # Tasks that it had, those without rows too.
    count: int
    # Seconds that each task with rows worked.
    seconds: list[float]
    reads_files: bool

    @property
    def work_seconds(self) -> float:
        return sum(self.seconds)

    @property
    def one_task(self) -> bool:
        return self.count == 1

    @property
    def aggregates_the_log(self) -> bool:
        """The step that takes in the rows of the log; `count` and `final` take in states."""
        return bool(_AGGREGATES.match(self.name))


@dataclass(frozen=True)
class Column:
    """The most frequent keys of a column: estimated rows of each."""

    name: str
    # "group_key" or "join_key".
    role: str
    rows: int
    nulls: int
    keys: dict[str, int]

    @property
    def hottest(self) -> int:
        """Rows of the most frequent key. Rows without a group key are not ranked."""
        return max([*self.keys.values(), self.nulls if self.role == "join_key" else 0])

    @property
    def is_date(self) -> bool:
        return bool(self.keys) and all(re.fullmatch(r"\d{4}-\d\d-\d\d", key) for key in self.keys)


@dataclass(frozen=True)
class Run:
    job: str
    # From the files on.
    stages: list[Stage]
    columns: list[Column]
    # By what the times of stages with several tasks were multiplied; see `_correction`.
    correction: float
    # As the binary printed it; with `cpu_seconds` if it was run here.
    raw: dict[str, Any]

    @property
    def work_seconds(self) -> float:
        return sum(stage.work_seconds for stage in self.stages)

    @property
    def aggregation(self) -> Stage:
        """The stage that takes in the log's rows to aggregate them; the longest, if several do."""
        return max((s for s in self.stages if s.aggregates_the_log), key=lambda s: s.work_seconds)

    @property
    def reading(self) -> Stage:
        """The stage that reads the files; the longest, if several do."""
        reading = [stage for stage in self.stages if stage.reads_files]
        return max(reading or self.stages[:1], key=lambda stage: stage.work_seconds)


def load(path: Path) -> list[Run]:
    """The run that the binary printed, or all those of a `results.json` of this bench."""
    document = json.loads(path.read_text())
    runs = document["runs"] if isinstance(document, dict) and "runs" in document else [document]
    return [from_json(run) for run in runs]


def record(binary: Path, lake: str, spec: str, days: tuple[str, str], threads: int, rounds: int) -> Run:
    """Runs the job so many times; counted is the run whose tasks took the least time in all.

    It is planned with exchanges, as on a cluster, and publishes its ranking in the lake.
    """
    command = [str(binary), "run", spec, f"--lake={lake}", f"--from={days[0]}", f"--to={days[1]}"]
    command += [f"--threads={threads}", f"--memory={_MEMORY}"]
    command += ["--force", "--show=0", "--format=json", "--quiet"]
    runs = [_run(command) for _ in range(rounds)]
    return from_json(min(runs, key=_task_seconds))


def from_json(raw: dict[str, Any]) -> Run:
    """Checks and takes over what the binary printed: times in microseconds."""
    try:
        correction = _correction(raw)
        stages = [_stage(stage, correction) for stage in raw["skew"]["stages"]]
        columns = [_column(column) for column in raw["skew"]["columns"]]
    except (KeyError, TypeError) as error:
        said = f"no skew report of a run ({error!r}); rankmill run … --format json prints one"
        raise BadReport(said) from None
    if any(stage.name.startswith(_GATHERED) for stage in stages):
        raise BadReport(
            f"{raw.get('job')}: {_GATHERED}: in memory of one process, which no cluster does;"
            f" record it with rankmill --memory {_MEMORY} or on a cluster"
        )
    run = Run(raw.get("job", "?"), [s for s in stages if s.work_seconds], columns, correction, raw)
    if not any(stage.aggregates_the_log for stage in run.stages):
        names = ", ".join(stage.name for stage in stages) or "none"
        raise BadReport(f"{run.job}: no stage aggregates the log (stages: {names})")
    return run


def _run(command: Sequence[str]) -> dict[str, Any]:
    before = _children_seconds()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) | {"cpu_seconds": round(_children_seconds() - before, 3)}


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _task_seconds(raw: dict[str, Any]) -> float:
    return sum(task["us"] for stage in raw["skew"]["stages"] for task in stage["tasks"]) / 1e6


def _correction(raw: dict[str, Any]) -> float:
    """By what to multiply the times of stages with several tasks.

    A task's time is taken by the clock. With more threads than cores, tasks also wait for a core
    in the midst of their work, so that together they take longer than the process used
    processors. They are cut to that. The only task of a stage has nothing to wait for.
    """
    if "cpu_seconds" not in raw:
        return 1.0
    stages = raw["skew"]["stages"]
    alone = sum(sum(_expanded(stage)) for stage in stages if stage["count"] == 1) / 1e6
    together = sum(sum(_expanded(stage)) for stage in stages if stage["count"] != 1) / 1e6
    left = raw["cpu_seconds"] - alone
    if not together:
        return 1.0
    # Should even the lone tasks have waited, for other processes: all alike.
    share = left / together if left > 0 else raw["cpu_seconds"] / (alone + together)
    return min(1.0, share)


def _stage(raw: dict[str, Any], correction: float) -> Stage:
    factor = 1.0 if raw["count"] == 1 else correction
    seconds = [us * factor / 1e6 for us in _expanded(raw)]
    return Stage(raw["name"], raw["count"], seconds, any(task["bytes"] for task in raw["tasks"]))


def _expanded(stage: dict[str, Any]) -> list[int]:
    """Microseconds of all tasks with rows: of very many tasks the report keeps an even choice."""
    kept = sorted(stage["tasks"], key=lambda task: -task["us"])
    count = max(stage["count"], len(kept))
    tasks = [kept[at * len(kept) // count] for at in range(count)] if kept else []
    return [task["us"] for task in tasks if task["rows"] or task["bytes"]]


def _column(raw: dict[str, Any]) -> Column:
    keys = {key["key"]: key["rows"] for key in raw["keys"]}
    return Column(raw["column"], raw["role"], raw["rows"], raw["nulls"], keys)
