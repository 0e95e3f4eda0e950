"""Runs the cases: each engine in turn, round after round, so that a slow minute hits all."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import answers
import peers
import rankmill
from rankmill import Budget
from workloads import Workload

OURS = "rankmill"


@dataclass(frozen=True)
class Case:
    """A workload over a lake. `variant` says what is unusual about the data."""

    workload: Workload
    lake: Path
    variant: str = ""

    @property
    def title(self) -> str:
        return f"{self.workload.name} {self.variant}".strip()


@dataclass
class Record:
    """All runs of one engine in one case."""

    engine: str
    version: str = ""
    seconds: list[float] = field(default_factory=list)
    peak_memory_bytes: list[int] = field(default_factory=list)
    # "done", or how the first run that did not end well ended.
    outcome: str = "done"
    message: str = ""
    note: str = ""
    # Of rankmill's last run: the work of each stage's tasks.
    stages: list[rankmill.Stage] = field(default_factory=list, repr=False)
    digest: str = ""
    rows: int = 0
    lines: list[str] = field(default_factory=list, repr=False)

    @property
    def median_seconds(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def peak(self) -> int | None:
        return max(self.peak_memory_bytes, default=None)


@dataclass
class Result:
    """A case's records, and whether all who answered gave the same answer."""

    case: Case
    records: list[Record]
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    rankmill: Path
    python: Path
    engines: Sequence[str]
    rounds: int
    budget: Budget

    def measure(self, case: Case) -> Result:
        only = case.workload.only
        engines = [engine for engine in self.engines if not only or engine in only]
        records = [Record(engine) for engine in engines]
        result = Result(case, records)
        # The first round is for the answers alone: what is wrong needn't be fast.
        for timed in [False] + [True] * self.rounds:
            for record in records:
                # Who failed once would fail again, and may take its time about it.
                if record.outcome == "done":
                    self._run(case, record, timed)
            result.differences = _differences(records)
            if result.differences:
                break
        return result

    def _run(self, case: Case, record: Record, timed: bool) -> None:
        environment = peers.environment(self.budget.threads)
        where = case.workload, case.lake, self.budget, environment
        if record.engine == OURS:
            finished, lines, record.note, record.stages = rankmill.run(self.rankmill, *where)
            failed = finished.exit_code != 0
            seconds, peak = finished.seconds, finished.peak_memory_bytes
        else:
            finished, answer = peers.run(self.python, record.engine, *where)
            failed = answer is None
            lines = answer.lines if answer else []
            record.version = answer.version if answer else record.version
            seconds = answer.seconds if answer else 0.0
            peak = max(answer.peak_memory_bytes if answer else 0, finished.peak_memory_bytes)
        record.peak_memory_bytes.append(peak)
        if failed:
            record.outcome = finished.ended or "failed"
            record.message = _message(finished.stderr)
        else:
            if timed:
                record.seconds.append(seconds)
            self._compare_with_before(record, lines)
        said = f"{seconds:.2f} s" if not failed else f"{record.outcome} {record.message}"
        said = said if timed or failed else f"answers ({said})"
        print(f"{case.title:24} {record.engine:10} {said}, {peak >> 20} MiB", file=sys.stderr)

    def _compare_with_before(self, record: Record, lines: list[str]) -> None:
        digest = answers.digest(lines)
        if record.digest and digest != record.digest:
            record.note = "its rounds differ"
            record.outcome = "unstable"
        record.digest, record.lines, record.rows = digest, lines, len(lines)


def _differences(records: list[Record]) -> list[str]:
    answered = [record for record in records if record.digest]
    if not answered:
        return []
    # What most say: with rankmill wrong, each peer would differ from it.
    digests = [record.digest for record in answered]
    usual = next(record for record in answered if record.digest == statistics.mode(digests))
    return [
        f"{each.engine} differs from {usual.engine}: {answers.first_difference(each.lines, usual.lines)}"
        for each in answered
        if each.digest != usual.digest
    ] + [f"{each.engine}: {each.note}" for each in answered if each.outcome == "unstable"]


def _message(stderr: str) -> str:
    """The line that says most: the last that names an error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or "xception" in line or "NoJava" in line]
    return (telling or lines or [""])[-1][:300]
