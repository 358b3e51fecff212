"""The definition of a command's study, compared with the recorded one on ``--resume``."""

from collections.abc import Sequence

from common.errors import ValidationErrors
from core.environment import Environment
from core.recipe.trial_key import VERSION
from core.training.selection import Rule
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.study_definition import StudyDefinition
from tuning.search.space import Space


def make_definition(
    options: Options, rule: Rule, space: Space, environment: Environment | None
) -> StudyDefinition:
    """Return the definition of the study of one method.

    Args:
        options: The command.
        rule: The selection rule.
        space: The search space of the method.
        environment: Where trials compute; None while that is unknown.
    """
    return StudyDefinition(
        dataset=options.dataset,
        dataset_version=space.benchmark.key_version,
        data_hash=space.benchmark.data_hash,
        recipe=space.resolved.recipe,
        space=space.free,
        pinned={name: value for name, value in space.fixed.items() if name in options.pinned},
        training_config=space.resolved.training_config,
        epochs=options.epochs,
        search=options.search,
        search_seeds=options.search_seeds,
        scheduler=options.scheduler,
        select=rule.name,
        study_seed=options.study_seed,
        audit_test=options.audit_test,
        keep_models=options.keep_models,
        environment=environment,
        core=VERSION,
    )


def check_definition(records: MethodRecords, asked: StudyDefinition) -> None:
    """Refuse to resume a study that differs from the command's.

    Raises:
        ValidationErrors: If they differ, with each difference.
    """
    stored = records.read_definition()
    differences = [] if stored is None else stored.describe_differences(asked)
    if differences:
        raise ValidationErrors(
            [
                f"--resume: the study in '{records.storage}' differs from this command:",
                *(f"  {line}" for line in differences),
                "rerun with the study's original options, or choose another --results folder",
            ]
        )


def check_resumed_studies(
    options: Options, rule: Rule, spaces: Sequence[Space], records: Sequence[MethodRecords]
) -> None:
    """Refuse to resume studies that differ from the command's, before the devices are known.

    Raises:
        UserError: If one differs or cannot be read.
    """
    for space, record in zip(spaces, records, strict=True):
        record.check_readable()
        stored = record.read_definition()
        environment = None if stored is None else stored.environment
        check_definition(record, make_definition(options, rule, space, environment))
