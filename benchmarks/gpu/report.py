"""The findings of a part of :mod:`benchmarks.gpu`: verdicts, figures and faults, kept at once."""

import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Report:
    """Findings of one part.

    Args:
        part: Its letter.
        device: ``cpu`` or ``cuda``.
        quick: Whether sizes are small, to show that the code runs.
        into: The file that holds the findings, rewritten with every one. Its folder gets models.
        limit: Seconds after which the part will be ended.
    """

    part: str
    device: str
    quick: bool
    into: Path
    limit: float = float("inf")
    lines: list[str] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float:
        """Seconds until the part will be ended, but for some to write its findings."""
        return self.limit - 10 - (time.monotonic() - self.start)

    @property
    def folder(self) -> Path:
        """The folder that all parts share."""
        return self.into.parent

    @property
    def is_cuda(self) -> bool:
        return self.device == "cuda"

    def print_line(self, text: str = "") -> None:
        """Print a line and keep it."""
        self.lines.append(text)
        print(text, flush=True)
        self.save()

    def add_verdict(self, good: bool, text: str, kind: str = "right") -> None:
        """Say whether something is right, or fast, as ``kind`` asks."""
        self._add_verdict(kind if good else {"right": "WRONG", "fast": "slow"}[kind], text)

    def add_unfinished(self, text: str) -> None:
        """Say that the time did not suffice for something."""
        self._add_verdict("unfinished", text)

    def _add_verdict(self, word: str, text: str) -> None:
        self.verdicts.append({"part": self.part, "verdict": word, "text": text})
        self.print_line(f"[{self.part}] {word:5s} {text}")

    def add_figure(self, name: str, value: Any) -> None:
        """Keep a figure for the JSON."""
        self.figures[name] = value
        self.save()

    def print_table(self, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
        """Say a table."""
        cells = [[str(c) for c in head], *([_format_cell(c) for c in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        for row in cells:
            self.print_line("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)))

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do work; a failure becomes a verdict, and does not stop the part."""
        start = time.perf_counter()
        try:
            work()
        except Exception as error:
            self.add_verdict(
                False, f"{name}: failed: {type(error).__name__}: {_shorten_error(error)}"
            )
            self.print_line(traceback.format_exc(limit=-6))
        self.print_line(f"[{self.part}] {name}: {time.perf_counter() - start:.1f} s")

    def save(self) -> None:
        found = asdict(self) | {"into": str(self.into)}
        written = self.into.with_suffix(".written")  # a part may be ended while it writes
        written.write_text(json.dumps(found, default=str), encoding="utf-8")
        written.replace(self.into)


def _format_cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _shorten_error(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def end_with_parent() -> None:
    """End this process soon after the one that started it has ended, also where that was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def get_device_name(device: str) -> str:
    """Return the GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
