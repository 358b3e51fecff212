"""The facts of a study that its exports contain."""

from pathlib import Path

import datasets
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.training.selection import RULES
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.search.method_search import MethodSearch
from tuning.search.space import make_space
from tuning.study.make_export_context import make_export_context


def test_metrics_are_those_of_the_tasks_that_the_command_names(tmp_path: Path) -> None:
    tasks = "window-close-v3+drawer-close-v3"
    options = Options(("ls",), "mt1", pinned={"task": tasks})
    space = make_space(load_method("ls"), datasets.load_benchmark("mt1"), options)
    records = MethodRecords(tmp_path)
    rule = RULES["validation_success"]
    search = MethodSearch(space, options, detect_environment(False), records, rule)
    found = make_export_context(search, options).higher_is_better
    assert set(found) == {"success", "worst_task_success", "mean_return"} | {
        f"{metric}_{task}" for metric in ("success", "return") for task in tasks.split("+")
    }
