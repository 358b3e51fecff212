"""The commands that repeat a winner."""

import shlex
from pathlib import Path

from common.hyperparameters import Hyperparameters
from core.recipe.assignments import format_assignment
from tuning.records.export_context import ExportContext

DEFAULT_DATA_ROOT = "data"


def make_repeat_commands(
    context: ExportContext, hyperparameters: Hyperparameters
) -> tuple[str, str]:
    """Return the command that trains all seeds of a configuration, and one run without Ray."""
    options, environment = context.command, context.environment
    settings = [
        f"--set {shlex.quote(format_assignment(name, value))}"
        for name, value in hyperparameters.items()
        if name != "epochs"
    ]
    common = [f"--method {context.method} --dataset {context.dataset}"]
    if (epochs := hyperparameters.get("epochs")) is not None:
        common.append(f"--epochs {epochs}")
    if Path(options.data_root) != Path(DEFAULT_DATA_ROOT):
        common.append(f"--data-root {shlex.quote(options.data_root)}")
    if options.baseline is not None:
        common.append(f"--baseline {shlex.quote(options.baseline)}")
    if options.deterministic:
        common.append("--deterministic")
    if options.precision != "auto":
        common.append(f"--precision {options.precision}")
    study = [f"--search published --seeds {context.seeds}"]
    if options.select:
        study.append(f"--select {options.select}")
    if options.audit_test:
        study.append("--audit-test")
    if (gpus := options.gpus_per_trial) is not None:
        study.append(f"--gpus-per-trial {gpus if isinstance(gpus, str) else format(gpus, 'g')}")
    if options.cpus_per_trial != 1:
        study.append(f"--cpus-per-trial {options.cpus_per_trial}")
    single = [f"--seed 0 --threads {environment.threads} --device {environment.device}"]
    return (
        " ".join(["python tune.py", *common, *study, *settings, "--results results-repeated"]),
        " ".join(["python -m core", *common, *single, *settings]),
    )
