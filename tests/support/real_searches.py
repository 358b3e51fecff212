"""Searches of real methods on a real data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from core.environment import detect_environment
from core.recipe.method_files import load_method
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.search.method_search import MethodSearch
from tuning.search.space import make_space
from tuning.study.checks import choose_rule

BASE = Options(methods=("erm",), dataset="colored_digits", trials=6, seeds=2, epochs=9)


def search_of(folder: Path, method: str = "erm", **changes: Any) -> MethodSearch:
    options = replace(BASE, methods=(method,), **changes)
    space = make_space(load_method(method), datasets.load_benchmark("colored_digits"), options)
    rule = choose_rule(options, space.benchmark)
    return MethodSearch(space, options, detect_environment(), MethodRecords(folder), rule)
