"""The peers. Each module has a class with the methods of `Engine`, in that engine's own idiom."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from answers import Row

PEERS = {
    "duckdb": "DuckDb",
    "chdb": "ChDb",
    "polars": "Polars",
    "datafusion": "DataFusion",
    "spark": "Spark",
}


@dataclass(frozen=True)
class Limits:
    """What an engine may use. It spills below `spill`."""

    threads: int
    memory_bytes: int | None
    spill: Path


class Engine(Protocol):
    """Starting a session is not timed; `attach`, which makes the files known, is."""

    version: str

    def __init__(self, limits: Limits) -> None: ...
    def attach(self, lake: Path) -> None: ...
    def popularity_of(self, day: date) -> Iterable[Row]: ...
    def popularity(self) -> Iterable[Row]: ...
    def age_clicks(self) -> Iterable[Row]: ...
    def age_visitors(self, top: int, views_only: bool) -> Iterable[Row]: ...
    def web_pages(self) -> Iterable[Row]: ...
    def regions(self) -> Iterable[Row]: ...
    def frequent_visitors(self, day: date) -> Iterable[Row]: ...
    def floor(self) -> Iterable[Row]: ...


def load(name: str) -> type[Engine]:
    """Imports one engine only: the others would count as its memory."""
    return getattr(importlib.import_module(f"engines.{name}_engine"), PEERS[name])
