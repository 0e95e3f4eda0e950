"""Answers as text, so that those of all engines can be compared byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

Row = Sequence[object]

UNKNOWN = "unknown"
_BANDS = ("under-10", "10s", "20s", "30s", "40s", "50s", "60s", "70+")


def band_name(band: int) -> str:
    """The name of a decade of life, 0 … 7; of -1, that the age is not known."""
    return _BANDS[band] if band >= 0 else UNKNOWN


def text(value: object) -> str:
    """Engines give the same number as int, Decimal or float, a date as date or text."""
    if isinstance(value, float):
        # Shares are a quotient of two exact counts: they agree in far more digits.
        return f"{value:.9f}"
    return r"\N" if value is None else str(value)


def canonical(rows: Iterable[Row]) -> list[str]:
    """One line a row, sorted: engines may give rows in any order, ranks are a column."""
    return sorted("\t".join(text(value) for value in row) for row in rows)


def digest(lines: Iterable[str]) -> str:
    """The SHA-256 of canonical lines."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def first_difference(ours: list[str], theirs: list[str]) -> str:
    """Where two answers part, for a person to look at."""
    only_ours = sorted(set(ours) - set(theirs))
    only_theirs = sorted(set(theirs) - set(ours))
    samples = f"only here {only_ours[:2]}, only there {only_theirs[:2]}"
    return f"{len(only_ours)} and {len(only_theirs)} rows of {len(ours)} and {len(theirs)}: {samples}"
