"""Records of runs as tests need them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from common.hyperparameters import Scalar
from core.environment import detect_environment
from core.recipe.component import Component
from core.recipe.method_files import load_method
from core.recipe.recipe import Recipe
from core.recipe.trial_key import TrialKey
from core.training.selection import RULES
from tuning.options import Options
from tuning.records.run_data import Confirmation, Phase, RunDescription, RunEnd
from tuning.records.run_record import RunRecord
from tuning.records.study_definition import StudyDefinition
from tuning.search.space import make_space
from tuning.study.make_definition import make_definition


def describe_run(
    number: int, phase: str = Phase.SEARCH, **hyperparameters: Scalar
) -> RunDescription:
    """Return a description with a key that no run trains."""
    recipe = Recipe("uniform", (), Component("ls", {}), ())
    config = datasets.load_benchmark("colored_digits").training_config
    key = TrialKey("d", "1", recipe, config, number, detect_environment(False))
    return RunDescription(Phase(phase), number, hyperparameters, hyperparameters, key)


def define_study(**changes: Any) -> StudyDefinition:
    """Return the definition of a small study with other values for some of its fields."""
    options = Options(("erm",), "colored_digits")
    space = make_space(load_method("erm"), datasets.load_benchmark("colored_digits"), options)
    rule = RULES[space.benchmark.default_selection_rule]
    return replace(make_definition(options, rule, space, detect_environment(False)), **changes)


def folder_of(run: RunRecord) -> Path:
    """Return the folder of a run whose records are local."""
    return Path(run.location)


def end_of(run: RunRecord) -> RunEnd:
    """Return how a run ended; it must have."""
    end = run.read_end()
    assert end is not None
    return end


def confirmation_of(run: RunRecord) -> Confirmation:
    """Return the result of a confirmation seed; it must have one."""
    confirmation = end_of(run).confirmation
    assert confirmation is not None
    return confirmation
