"""Options of ``python tune.py``: the one table that the command line and :class:`Options` share."""

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Final, Literal, ParamSpec

from common.hyperparameters import Hyperparameter, Hyperparameters
from common.paths import parse_location, parse_path
from core.environment import PRECISIONS
from core.recipe.assignments import (
    BASELINE_HELP,
    DATA_ROOT_HELP,
    DETERMINISTIC_HELP,
    EPOCHS_HELP,
    PRECISION_HELP,
    SET_HELP,
)
from tuning.option_values import Gpus, at_least, parse_duration, parse_gpus, parse_hours
from tuning.records.open_storage import open_storage
from tuning.records.storage import Storage, make_absolute

SEARCHES = ("auto", "tpe", "random", "grid", "published")
SCHEDULERS = ("asha", "asha_promotion", "none")
LOGGERS = ("mlflow", "wandb")  # besides those that always write
DEFAULT_TRIALS = 16

Group = Literal[
    "what to run",
    "search, selection, confirmation",
    "resources and budgets",
    "records and results",
]
RUN: Final = "what to run"
SEARCH: Final = "search, selection, confirmation"
RESOURCES: Final = "resources and budgets"
OUTPUT: Final = "records and results"


@dataclass(frozen=True)
class OptionDefinition:
    """How the command line offers a field of :class:`Options`.

    Args:
        group: The heading in ``--help``.
        help: One sentence; names in braces stand for lists that the command line fills in.
        metavar: The value's name in ``--help``.
        default: The default as ``--help`` says it; None for the field's own.
        convert: Reads the value; None keeps the text.
        choices: The values allowed; empty for all.
        flag: The option, where it is not named like the field.
        nargs: ``+`` for an option that takes several values.
        repeatable: Whether the option may be given several times.
    """

    group: Group
    help: str
    metavar: str | None = None
    default: str | None = None
    convert: Callable[[str], object] | None = None
    choices: tuple[str, ...] = ()
    flag: str = ""
    nargs: str | None = None
    repeatable: bool = False


P = ParamSpec("P")


def _as_metadata(
    define: Callable[P, OptionDefinition],
) -> Callable[P, dict[str, OptionDefinition]]:
    """Return a function that makes a field's metadata from the arguments of a definition."""

    def make_metadata(*args: P.args, **kwargs: P.kwargs) -> dict[str, OptionDefinition]:
        return {"option": define(*args, **kwargs)}

    return make_metadata


_option = _as_metadata(OptionDefinition)


def locate_records(results: Path, storage: str | Path | None) -> str:
    """Return the records' folder as an absolute path, or their URL.

    Args:
        results: The ``--results`` option.
        storage: The ``--storage`` option; None for a folder beside the results.
    """
    results = Path(os.path.abspath(results))
    beside = results.parent / f"{results.name}.records"
    return make_absolute(beside if storage is None else storage)


@dataclass(frozen=True)
class Options:
    """The options of one command. Each field is documented by its help text."""

    methods: tuple[str, ...] = field(
        metadata=_option(
            RUN, "method names, or 'all'; available: {methods}", "M", flag="--method", nargs="+"
        )
    )
    dataset: str = field(
        metadata=_option(
            RUN,
            "data sets, one study each: folder:NAME or a path for your own, or of: {datasets}",
            "D",
        )
    )
    data_root: Path = field(
        default=Path("data"), metadata=_option(RUN, DATA_ROOT_HELP, "DIR", convert=parse_path)
    )
    baseline: Path | None = field(
        default=None,
        metadata=_option(
            RUN,
            BASELINE_HELP,
            "FILE",
            "the data set's",
            parse_path,
        ),
    )
    epochs: int | None = field(
        default=None,
        metadata=_option(RUN, EPOCHS_HELP, "N", "the data set's", at_least(1)),
    )
    pinned: Mapping[str, bool | int | float | str] = field(
        default_factory=dict,
        metadata=_option(
            RUN,
            f"{SET_HELP}. A domain is searched: lr=log_uniform:1e-4:1e-1, lr=choice:0.1,0.01, "
            "also uniform, integer, log_integer",
            "KEY=VALUE|DOMAIN",
            "",
            flag="--set",
            repeatable=True,
        ),
    )
    domains: Mapping[str, Hyperparameter] = field(
        default_factory=dict,
        metadata=_option(
            RUN,
            "YAML file of values and domains, in the form of a method file's `search`, for "
            "hyperparameters and training-config fields; --set takes precedence",
            "FILE",
            "",
            parse_path,
            flag="--space",
        ),
    )
    search: str = field(
        default="auto",
        metadata=_option(
            SEARCH,
            "how trials are proposed; auto proposes as tpe does, and on groups keeps the default "
            "hyperparameters unless the best trial is better by a standard error on further seeds "
            "(docs/search.md); "
            "published only confirms the published hyperparameters",
            choices=SEARCHES,
        ),
    )
    protocol: str | None = field(
        default=None,
        metadata=_option(
            SEARCH,
            "published: --search published with the authors' selection rule and training examples "
            "where the data set's own differ, labeled in every table",
            default="the data set's",
            choices=("published",),
        ),
    )
    trials: int | None = field(
        default=None,
        metadata=_option(
            SEARCH,
            "trials per method",
            "N",
            f"{DEFAULT_TRIALS}, or all points of a grid",
            at_least(1),
        ),
    )
    search_seeds: int = field(
        default=1,
        metadata=_option(SEARCH, "training seeds per trial, averaged", "N", convert=at_least(1)),
    )
    scheduler: str = field(
        default="asha",
        metadata=_option(
            SEARCH,
            "asha (asynchronous successive halving) stops weak trials early; asha_promotion pauses "
            "every trial at its first rung and continues the best third of each rung",
            choices=SCHEDULERS,
        ),
    )
    select: str | None = field(
        default=None,
        metadata=_option(
            SEARCH,
            "rule that selects the best epoch and trial; available: {rules}",
            "RULE",
            "the data set's; --search auto: validation_worst_group_accuracy_or_default on groups, "
            "validation_delta_m_best3 on tasks",
        ),
    )
    finalists: int | None = field(
        default=None,
        metadata=_option(
            SEARCH,
            "best trials of the search that get up to 3 further training seeds in turn, the "
            "hopeless leaving first, before one wins; 1 for none",
            "N",
            "2 with a rule that prefers the default hyperparameters, else 1",
            convert=at_least(1),
        ),
    )
    seeds: int = field(
        default=5,
        metadata=_option(
            SEARCH, "number of confirmation seeds (0 to N-1)", "N", convert=at_least(1)
        ),
    )
    study_seed: int = field(
        default=0, metadata=_option(SEARCH, "seed of the search itself", "N", convert=at_least(0))
    )
    audit_test: bool = field(
        default=False,
        metadata=_option(
            SEARCH, "record test metrics of every epoch; only oracle rules may read them"
        ),
    )
    report_training: bool = field(
        default=False,
        metadata=_option(
            SEARCH,
            "evaluate the training split too: its metrics after every epoch (curves.csv), and its "
            "predictions in those of the confirmation seeds",
        ),
    )
    deterministic: bool = field(
        default=False,
        metadata=_option(SEARCH, DETERMINISTIC_HELP),
    )
    precision: str = field(
        default="auto",
        metadata=_option(
            SEARCH,
            PRECISION_HELP,
            choices=PRECISIONS,
        ),
    )
    gpus_per_trial: Gpus = field(
        default=None,
        metadata=_option(
            RESOURCES,
            "GPUs per trial: a fraction or an integer; auto measures the methods' use and "
            "lets trials share a GPU where that is faster",
            "F|auto",
            "1 if there is a GPU",
            parse_gpus,
        ),
    )
    cpus_per_trial: int = field(
        default=1,
        metadata=_option(RESOURCES, "CPUs, and threads, per trial", "N", convert=at_least(1)),
    )
    max_device_hours: float | None = field(
        default=None,
        metadata=_option(
            RESOURCES,
            "budget in GPU-hours (CPU-hours without GPUs) of all trials and all sessions of the "
            "study, which stops when it is used up",
            "H",
            "no limit",
            parse_hours,
        ),
    )
    time_limit: float | None = field(
        default=None,
        metadata=_option(
            RESOURCES,
            "stop this command after a time such as 30m, 1h30m or 1d",
            "TIME",
            "no limit",
            parse_duration,
        ),
    )
    address: str | None = field(
        default=None,
        metadata=_option(
            RESOURCES,
            "Ray cluster to join; auto joins the one running here, local starts one",
            "HOST:PORT|auto|local",
            "the cluster running here, else local",
        ),
    )
    results: Path = field(
        default=Path("results"),
        metadata=_option(OUTPUT, "folder of the exported tables", "DIR", convert=parse_path),
    )
    storage: str | Path | None = field(
        default=None,
        metadata=_option(
            OUTPUT,
            "where records are stored, reachable from every node: a folder, s3://... or gs://...",
            "DIR|URL",
            "<results>.records",
            parse_location,
        ),
    )
    resume: bool = field(
        default=False,
        metadata=_option(
            OUTPUT, "continue a study; with more --trials, --seeds or --finalists, extend it"
        ),
    )
    keep_models: bool = field(
        default=False,
        metadata=_option(
            OUTPUT,
            "keep the weights of the winner's confirmation seeds in the records, and export those "
            "of the best seed (safetensors)",
        ),
    )
    log: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            OUTPUT,
            "also log every run to MLflow (MLFLOW_TRACKING_URI, else <results>/mlruns) or to "
            "Weights & Biases (offline until you log in); event files for TensorBoard and "
            "optuna.journal for optuna-dashboard are always in the results",
            default="",
            choices=LOGGERS,
            nargs="+",
        ),
    )

    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where values and domains were given, by name, for messages: ``--set``, ``--space FILE``."""

    @property
    def records(self) -> str:
        """The records' folder as an absolute path, because workers run elsewhere; or their URL."""
        return locate_records(self.results, self.storage)

    def records_of(self, method: str) -> Storage:
        """Return where a method's records are stored.

        Raises:
            UserError: If they cannot be reached.
        """
        return open_storage(self.records) / self.dataset / method

    @property
    def finalist_count(self) -> int:
        """The finalists: one, the winner of the search, unless a rule or the command sets more."""
        return self.finalists or 1

    @property
    def fixed(self) -> Hyperparameters:
        """All values that the command fixes."""
        return {**self.pinned, **({} if self.epochs is None else {"epochs": self.epochs})}


def get_definition(field: Field[object]) -> OptionDefinition:
    """Return how the command line offers a field."""
    found = field.metadata["option"]
    assert isinstance(found, OptionDefinition)
    return found


# The fields that the command line offers, and the option of each.
OPTION_FIELDS = tuple(field for field in fields(Options) if "option" in field.metadata)
FLAGS = {
    field.name: get_definition(field).flag or f"--{field.name.replace('_', '-')}"
    for field in OPTION_FIELDS
}
