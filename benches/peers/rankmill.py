"""rankmill's side: the whole command is timed, and the published rankings are read back."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import answers
import lakes
import processes
from processes import Finished
from workloads import Question, Workload

# As rankmill's skew report has them.
Stage = dict[str, Any]

_SPECS = Path(__file__).parent / "specs"
_USAGE = 2
# Of shorter tasks nobody waits for the longest.
_SHORT_US = 100_000


@dataclass(frozen=True)
class Budget:
    """What one run of one engine may take."""

    threads: int
    timeout_seconds: float
    # Above this a run is ended, whatever it was told: the machine has to live.
    machine_bytes: int
    # What the engine is told to keep to.
    memory_bytes: int | None


def run(
    binary: Path, workload: Workload, lake: Path, budget: Budget, environment: dict[str, str]
) -> tuple[Finished, list[str], str, list[Stage]]:
    """What became of it, the published rows, a note on how it was run, and its stages."""
    days = workload.days(lakes.days(lake))
    specs = [_spec(workload, question) for question in workload.questions]

    def finish(specs: Sequence[str]) -> Finished:
        return _finish([binary, "run", *specs, *_flags(lake, days, budget)], budget, environment)

    finished, note = finish(specs), ""
    if finished.exit_code == _USAGE and len(specs) > 1:
        # A version that takes one job at a time.
        finished = _added_up([finish([spec]) for spec in specs])
        note = f"{len(specs)} commands, added up"
    if finished.exit_code:
        return finished, [], note, []
    stages = _stages(finished.stdout)
    note = ", ".join(filter(None, [note, _longest(stages)]))
    return finished, _published(workload, lake, days), note, stages


def run_one(
    binary: Path,
    workload: Workload,
    lake: Path,
    budget: Budget,
    environment: dict[str, str],
    where: Sequence[str],
) -> tuple[Finished, list[str]]:
    """The one job of a workload, computed where the options `where` say, and the published rows."""
    days = workload.days(lakes.days(lake))
    spec = _spec(workload, workload.questions[0])
    command: list[str | Path] = [binary, "run", spec, *_flags(lake, days, budget), *where]
    finished = _finish(command, budget, environment)
    return finished, [] if finished.exit_code else _published(workload, lake, days)


def _finish(command: Sequence[str | Path], budget: Budget, environment: dict[str, str]) -> Finished:
    return processes.run(command, budget.timeout_seconds, budget.machine_bytes, environment)


def _stages(stdout: str) -> list[Stage]:
    """The stages of the skew reports of all jobs: each a name, and what its tasks did."""
    reports, decoder = [], json.JSONDecoder()
    while text := stdout.strip():
        # Several jobs are several documents.
        report, end = decoder.raw_decode(text)
        reports.append(report)
        stdout = text[end:]
    return [stage for report in reports for stage in report["skew"]["stages"]]


def _longest(stages: Sequence[Stage]) -> str:
    """The worst ratio of a stage's longest task to its median one, of stages that take their time.

    >>> _longest([{"tasks": [{"us": 300000}, {"us": 200000}]}])
    'longest task 1.50 x the median'
    """
    times = [[task["us"] for task in stage["tasks"]] for stage in stages if len(stage["tasks"]) > 1]
    # Of two tasks the shorter one, as in rankmill's own report: the mean of both would hide the other.
    medians = [(max(us), statistics.median_low(us)) for us in times if max(us) > _SHORT_US]
    # A median of nothing: most tasks had no work, such as those of few dates on many threads.
    ratios = [longest / max(median, 1) for longest, median in medians]
    return f"longest task {max(ratios):.2f} x the median" if ratios else ""


def _spec(workload: Workload, question: Question) -> str:
    return question.spec if workload.shipped else str(_SPECS / f"{question.spec}.yaml")


def _flags(lake: Path, days: Sequence[date], budget: Budget) -> list[str]:
    flags = [f"--lake={lake}", f"--from={days[0]}", f"--to={days[-1]}", "--force", "--show=0"]
    if budget.memory_bytes:
        flags.append(f"--memory={budget.memory_bytes}")
    return [*flags, "--quiet", "--format=json", f"--threads={budget.threads}"]


def _added_up(runs: Sequence[Finished]) -> Finished:
    failed = next((each for each in runs if each.exit_code), runs[-1])
    return Finished(
        exit_code=failed.exit_code,
        seconds=sum(each.seconds for each in runs),
        cpu_seconds=sum(each.cpu_seconds for each in runs),
        peak_memory_bytes=max(each.peak_memory_bytes for each in runs),
        stdout="",
        stderr=failed.stderr,
        ended=failed.ended,
    )


def _published(workload: Workload, lake: Path, days: Sequence[date]) -> list[str]:
    rows: list[answers.Row] = []
    for question in workload.questions:
        output = lake / "rankings" / (question.spec if workload.shipped else f"peers-{question.spec}")
        for day in days:
            for row in _ranking(output / f"date={day}"):
                # A ranking in SQL has no date in its rows: the folder has it.
                row.setdefault("date", str(day))
                rows.append([question.spec, *(_value(row, name) for name in question.columns)])
    return answers.canonical(rows)


def _value(row: dict[str, object], column: str) -> object:
    # JSON has one kind of number: a share of exactly 0 or 1 may come without a point.
    return float(str(row[column])) if column.endswith("_share") else row[column]


def _ranking(folder: Path) -> list[dict[str, object]]:
    """The rows that readers get: those that the commit point names."""
    current = json.loads((folder / "current.json").read_text())
    path = next(file["path"] for file in current["files"] if file["path"].endswith(".json"))
    return json.loads((folder / path).read_text())["rows"]
