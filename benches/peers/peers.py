"""A peer's side: `runner.py` in a fresh process of the peers' virtual environment."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from processes import Finished
from rankmill import Budget
from workloads import Workload

_RUNNER = Path(__file__).parent / "runner.py"


@dataclass(frozen=True)
class Answer:
    """What `runner.py` prints, and the rows that it compared."""

    version: str
    seconds: float
    peak_memory_bytes: int
    lines: list[str]


def run(
    python: Path, engine: str, workload: Workload, lake: Path, budget: Budget, environment: dict[str, str]
) -> tuple[Finished, Answer | None]:
    with tempfile.TemporaryDirectory(prefix="rankmill-peers-") as scratch:
        rows = Path(scratch) / "rows"
        command: list[str | Path] = [
            python, _RUNNER, engine, workload.name, lake,
            f"--threads={budget.threads}", f"--spill={scratch}", f"--rows={rows}",
        ]  # fmt: skip
        if budget.memory_bytes:
            command.append(f"--memory-bytes={budget.memory_bytes}")
        limits = budget.timeout_seconds, budget.machine_bytes
        finished = processes.run(command, *limits, environment)
        printed = _last_json(finished.stdout)
        # Some engines crash on leaving, with the answer given.
        if finished.ended or not printed:
            return finished, None
        return finished, Answer(
            version=printed["version"],
            seconds=printed["seconds"],
            peak_memory_bytes=printed["peak_memory_bytes"],
            lines=rows.read_text().splitlines(),
        )


def environment(threads: int) -> dict[str, str]:
    """This process's, with each library's own way to say how many threads there are."""
    pools = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "OMP_NUM_THREADS",
             "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS")  # fmt: skip
    return os.environ | dict.fromkeys(pools, str(threads))


def _last_json(stdout: str) -> dict[str, Any] | None:
    lines = [line for line in stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None
