"""The project's own folders."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE_FOLDERS = ("common", "core", "datasets", "search_spaces", "tuning")  # all that trials read
