"""Processes that are timed, watched and, when they take too much, ended. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LOOK_EVERY_SECONDS = 0.25


@dataclass(frozen=True)
class Finished:
    """What became of a process. `seconds` are wall time, start-up included; `cpu_seconds` those of the process itself,
    not of children that outlive it."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    stdout: str
    stderr: str
    # Why it was ended, if it was: "timeout" or "out of memory".
    ended: str | None


def run(
    command: Sequence[str | Path],
    timeout_seconds: float,
    memory_bytes: int,
    environment: dict[str, str],
) -> Finished:
    """Runs `command` and ends it, children and all, at either limit."""
    with open(os.devnull) as nothing, _scratch() as out, _scratch() as err:
        begin = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=nothing,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
        watch = _Watch(process.pid, begin + timeout_seconds, memory_bytes)
        try:
            # Its own usage, not that of all children so far.
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - begin
        finally:
            watch.stop()
            _end_group(process.pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Finished(
            exit_code=process.returncode,
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_memory_bytes=max(usage.ru_maxrss * 1024, watch.peak_memory_bytes),
            stdout=_read(out),
            stderr=_read(err),
            ended=watch.ended,
        )


class _Watch:
    """Looks at a process from time to time, in a thread, and ends it at its limits."""

    def __init__(self, pid: int, deadline: float, memory_bytes: int) -> None:
        self.ended: str | None = None
        self.peak_memory_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(pid, deadline, memory_bytes))
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self, pid: int, deadline: float, memory_bytes: int) -> None:
        while not self._stopped.wait(_LOOK_EVERY_SECONDS):
            resident = sum(_status_bytes(each, "VmRSS") for each in _tree(pid))
            self.peak_memory_bytes = max(self.peak_memory_bytes, resident)
            if resident > memory_bytes:
                self.ended = "out of memory"
            elif time.monotonic() > deadline:
                self.ended = "timeout"
            if self.ended:
                _end_group(pid)
                return


def peak_memory_of_tree() -> int:
    """The sum of the peaks of this process and its children that live: Spark's JVM is one."""
    return sum(_status_bytes(pid, "VmHWM") for pid in _tree(os.getpid()))


def _tree(root: int) -> Iterable[int]:
    yield root
    try:
        tasks = list(Path(f"/proc/{root}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from _tree(child)


def _status_bytes(pid: int, field: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _end_group(pid: int) -> None:
    # Its own session: what it left behind, such as a JVM, goes with it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _scratch() -> IO[str]:
    return tempfile.TemporaryFile("w+", errors="replace")


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
