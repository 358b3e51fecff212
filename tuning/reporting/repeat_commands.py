"""The commands that repeat a winner."""

import shlex
from pathlib import Path

from common.hyperparameters import Hyperparameters
from core.recipe.assignments import format_assignment
from core.recipe.trial_key import TrialKey
from tuning.records.export_context import ExportContext

DEFAULT_DATA_ROOT = "data"


def make_repeat_commands(
    context: ExportContext, key: TrialKey, hyperparameters: Hyperparameters
) -> tuple[str, str]:
    """Return the command that trains all seeds of a configuration, and one run without Ray.

    Both have this key, apart from the seed and the machine.

    Args:
        context: The study.
        key: The key of one of the configuration's runs.
        hyperparameters: All that the configuration was given or proposed.
    """
    options, environment = context.command, context.environment
    values = _list_values(context, key, hyperparameters)
    settings = [
        f"--set {shlex.quote(format_assignment(name, value))}"
        for name, value in values.items()
        if name != "epochs"
    ]
    dataset = options.dataset or context.dataset
    common = [f"--method {shlex.quote(context.method)} --dataset {shlex.quote(dataset)}"]
    if (epochs := values.get("epochs")) is not None:
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
    if options.report_training:
        study.append("--report-training")
    if (gpus := options.gpus_per_trial) is not None:
        study.append(f"--gpus-per-trial {gpus if isinstance(gpus, str) else format(gpus, 'g')}")
    if options.cpus_per_trial != 1:
        study.append(f"--cpus-per-trial {options.cpus_per_trial}")
    single = [f"--seed 0 --threads {environment.threads} --device {environment.device} --test"]
    if options.select:
        single.append(f"--select {options.select}")
    return (
        " ".join(["python tune.py", *common, *study, *settings, "--results results-repeated"]),
        " ".join(["python -m core", *common, *single, *settings]),
    )


def _list_values(
    context: ExportContext, key: TrialKey, hyperparameters: Hyperparameters
) -> Hyperparameters:
    """Return the values that a command has to give.

    Besides the hyperparameters, these are fields that the method sets otherwise than the data set,
    so that the command says what it trains, and values that the published ones would change.
    """
    config = key.training_config.as_dict()
    trained = {**context.defaults, **hyperparameters, **config}
    own = {**trained, **context.training_config}
    published = {**trained, **context.best_published}
    return {
        name: trained[name]
        for name in dict.fromkeys([*hyperparameters, *trained])
        if name in hyperparameters or not trained[name] == own[name] == published[name]
    }
