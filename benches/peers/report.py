"""What a run found, as a table for people and as JSON with all raw figures."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from measure import OURS, Record, Result

_RUNS = Path(__file__).parent.parent / "runs"


def folder(day: date) -> Path:
    """`benches/runs/<date>-<cores>core-<brand>/peers`. A host's name is nobody's business."""
    return _RUNS / f"{day}-{os.cpu_count()}core-{_brand()}" / "peers"


def write(into: Path, facts: dict[str, Any], results: Sequence[Result]) -> None:
    raw = {**facts, "cases": [_raw(result) for result in results]}
    write_pair(into, raw, _page(facts, results))


def write_pair(into: Path, raw: dict[str, Any], page: str) -> None:
    """`results.json` and `results.md`, or with a number if there are some of that day."""
    into.mkdir(parents=True, exist_ok=True)
    count = 1
    while (name := "results" if count == 1 else f"results-{count}") and (into / f"{name}.md").exists():
        count += 1
    (into / f"{name}.json").write_text(json.dumps(raw, indent=1, allow_nan=False) + "\n")
    (into / f"{name}.md").write_text(page)
    print(f"written to {into / name}.md and .json", file=sys.stderr)


def machine() -> str:
    """Without names: cores, processor, memory, system."""
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return f"{os.cpu_count()} × {_model()}, {memory_gib:.0f} GiB, {platform.system()}"


def table(results: Sequence[Result]) -> str:
    """One row for each case and engine; ratios are to rankmill's median."""
    head = ["workload", "engine", "seconds", "× rankmill", "peak memory", "memory × rankmill", ""]
    rows = [head, ["---", "---", "--:", "--:", "--:", "--:", "---"]]
    for result in results:
        ours = next((each for each in result.records if each.engine == OURS), None)
        rows += [_cells(result, record, ours) for record in result.records]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def _padded(cell: str, width: int) -> str:
    return cell[:-1].ljust(width - 1, "-") + cell[-1] if cell.startswith("--") else cell.ljust(width)


def _cells(result: Result, record: Record, ours: Record | None) -> list[str]:
    seconds, peak = record.median_seconds, record.peak
    # The peak of a run that was ended says only how far it got.
    done = record.outcome == "done"
    base_seconds = ours.median_seconds if ours and ours.outcome == "done" else None
    base_peak = ours.peak if ours and ours.outcome == "done" else None
    theirs = record is not ours
    return [
        result.case.title,
        record.engine,
        f"{seconds:.2f}" if seconds is not None and done else record.outcome,
        f"{seconds / base_seconds:.2f}" if seconds and base_seconds and done and theirs else "",
        f"{peak / (1 << 20):,.0f} MiB" if peak else "",
        f"{peak / base_peak:.2f}" if peak and base_peak and done and theirs else "",
        record.note,
    ]


def _page(facts: dict[str, Any], results: Sequence[Result]) -> str:
    versions = ", ".join(f"{engine} {version}" for engine, version in facts["versions"].items())
    titles = dict.fromkeys((each.case.workload.name, each.case.workload.title) for each in results)
    lines = [
        f"# rankmill and its peers, {facts['date']}",
        "",
        f"Host: {facts['machine']}. Versions: {versions}; rankmill's source: {facts['source']}.",
        f"Command: `{facts['command']}`. {facts['threads']} threads; rounds: {facts['rounds']},",
        "each engine in turn, medians, after a round in which answers were compared.",
        "The whole command counts on rankmill's side, the query alone on the others'",
        "(see the README of benches/peers).",
        "",
        *(f"- {name}: {title}" for name, title in titles),
        "",
        table(results),
        "",
        verdict(results),
    ]
    failures = [
        f"- {result.case.title}, {record.engine}: {record.outcome}. {record.message}".rstrip(". ")
        for result in results
        for record in result.records
        if record.outcome != "done"
    ]
    return "\n".join(lines + (["", "Not done:", "", *failures] if failures else [])) + "\n"


def verdict(results: Sequence[Result]) -> str:
    differences = [f"- {each.case.title}: {text}" for each in results for text in each.differences]
    if differences:
        return "**Results differ:**\n\n" + "\n".join(differences)
    alone = [each.case.title for each in results if sum(bool(r.digest) for r in each.records) < 2]
    unchecked = f" Nothing to compare with: {', '.join(alone)}." if alone else ""
    return "All engines that answered gave the same rows." + unchecked


def _raw(result: Result) -> dict[str, Any]:
    return {
        "workload": result.case.workload.name,
        "variant": result.case.variant,
        "lake": result.case.lake.name,
        "differences": result.differences,
        "engines": [
            {
                "engine": record.engine,
                "outcome": record.outcome,
                "message": record.message,
                "note": record.note,
                "seconds": record.seconds,
                "median_seconds": record.median_seconds,
                "peak_memory_bytes": record.peak_memory_bytes,
                "rows": record.rows,
                "digest": record.digest,
                "stages": record.stages,
            }
            for record in result.records
        ],
    }


def _model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return re.sub(r"\((R|TM)\)| Processor| CPU.*", "", found[1]).strip() if found else platform.machine()


def _brand() -> str:
    """xeon, epyc, ryzen …: the word behind the maker's."""
    words = _model().lower().split()
    return re.sub(r"[^a-z0-9]", "", words[min(1, len(words) - 1)])


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
