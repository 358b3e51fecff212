"""``--protocol published``: select and train as the authors did, where the defaults differ."""

from dataclasses import replace

from common.errors import UserError
from core.training import selection
from core.training.selection import Rule
from datasets.benchmark import Benchmark
from tuning.options import Options

PUBLISHED = "published"


def apply_protocol(options: Options, benchmark: Benchmark) -> tuple[Options, list[str]]:
    """Return a command with the options that its protocol stands for, and a message of them.

    Args:
        options: The command.
        benchmark: The benchmark, whose published rule and training examples count.

    Raises:
        UserError: If another option contradicts the protocol.
    """
    if options.protocol != PUBLISHED:
        return options, []
    given = [f"--search {PUBLISHED}"]
    if options.search not in ("auto", PUBLISHED):
        raise UserError(_refuse("--search", options.search, PUBLISHED))
    options = replace(options, search=PUBLISHED)
    name = benchmark.published_rule or benchmark.default_selection_rule
    if options.select not in (None, name):
        raise UserError(_refuse("--select", str(options.select), name))
    if name != benchmark.default_selection_rule:
        given.append(f"--select {name}")
        options = replace(options, select=name)
    if selection.RULES[name].oracle:
        given.append("--audit-test")
        options = replace(options, audit_test=True)
    split = benchmark.published_training_split
    asked = options.pinned.get("training_split", split)
    if asked != split:
        raise UserError(_refuse("--set training_split", str(asked), split))
    if split != "train":
        given.append(f"--set training_split={split}")
        options = replace(options, pinned={**options.pinned, "training_split": split})
    return options, [f"--protocol {PUBLISHED}: {' '.join(given)}"]


def describe_authors_protocol(options: Options, benchmark: Benchmark, rule: Rule) -> list[str]:
    """Return a message if published values are trained, but selected or trained otherwise.

    Args:
        options: The command, with its protocol applied.
        benchmark: The benchmark.
        rule: The selection rule of the command.
    """
    published, split = benchmark.published_rule, benchmark.published_training_split
    if options.search != PUBLISHED or published is None:
        return []
    trained = options.pinned.get("training_split", "train")
    if (published, split) == (rule.name, trained):
        return []
    return [
        f"on {benchmark.name} the authors selected by {published} and trained on "
        f"{_name_split(split)}; this command selects by {rule.name} and trains on "
        f"{_name_split(str(trained))}: --protocol {PUBLISHED} does as they did, labeled in every "
        "table"
    ]


def _name_split(split: str) -> str:
    return "the training split" if split == "train" else "all frames that are not test frames"


def _refuse(option: str, received: str, expected: str) -> str:
    return (
        f"{option}: received {received}, expected {expected} or nothing beside "
        f"--protocol {PUBLISHED}"
    )
