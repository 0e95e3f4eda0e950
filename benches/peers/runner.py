"""One run of one peer in this process: `python runner.py ENGINE WORKLOAD LAKE`.

Prints a line of JSON: the version, the seconds from the files' paths to rows, and the digest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import answers
import engines
import lakes
import processes
from workloads import WORKLOADS


def main() -> None:
    args = _arguments()
    workload = WORKLOADS[args.workload]
    days = workload.days(lakes.days(args.lake))
    with tempfile.TemporaryDirectory(prefix="rankmill-peers-", dir=args.spill) as scratch:
        limits = engines.Limits(args.threads, args.memory_bytes, Path(scratch))
        engine = engines.load(args.engine)(limits)

        begin = time.monotonic()
        engine.attach(args.lake)
        found = [list(question.ask(engine, days)) for question in workload.questions]
        seconds = time.monotonic() - begin

        compared = (
            (question.spec, *row[: len(question.columns)])
            for question, rows in zip(workload.questions, found, strict=True)
            for row in rows
        )
        lines = answers.canonical(compared)
        if args.rows:
            args.rows.write_text("".join(f"{line}\n" for line in lines))
        print(
            json.dumps(
                {
                    "version": engine.version,
                    "seconds": seconds,
                    "rows": len(lines),
                    "digest": answers.digest(lines),
                    "peak_memory_bytes": processes.peak_memory_of_tree(),
                }
            ),
            flush=True,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=engines.PEERS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-bytes", type=int)
    parser.add_argument("--spill", type=Path, help="where scratch files go")
    parser.add_argument("--rows", type=Path, help="writes the compared rows there as text")
    return parser.parse_args()


if __name__ == "__main__":
    main()
