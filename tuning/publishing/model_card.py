"""Model cards: the README.md of a published model."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.hyperparameters import format_scalar
from common.text import format_count
from common.yaml_files import write_yaml
from core.models import is_pretrained
from core.models.pretrained.public_names import FULL_NAMES
from core.models.pretrained.weights import is_path
from datasets.benchmark import Benchmark
from datasets.groups.image_table import ImageBenchmark
from datasets.groups.text_table import TextBenchmark
from tuning.records.run_data import Metrics
from tuning.reporting.layout.columns import DELTAS
from tuning.reporting.layout.printed_table import format_markdown
from tuning.reporting.summary import Summary

ARCHIVE = "evenhand.zip"
LICENSES = {"CC0": "cc0-1.0", "CC BY 4.0": "cc-by-4.0"}  # of data, by the names of the Hub
DIRECTIONS = {True: "higher", False: "lower", None: ""}
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


@dataclass(frozen=True)
class PublishedModel:
    """A model that is published.

    Args:
        summary: The summary of its method's study.
        seed: The confirmation seed that trained it.
        architecture: Its class in transformers; None where its architecture is not theirs.
        metrics: Its metrics on the test split.
        model_name: The name of its architecture here.
        base_model: The pretrained model on the Hub that it started from; None where none is known.
        commands: The commands that repeat the study and the training of this model.
    """

    summary: Summary
    seed: int
    architecture: str | None
    metrics: Metrics
    model_name: str
    base_model: str | None
    commands: Sequence[str]


def escape_markdown(text: str) -> str:
    """Return a text of the data as Markdown shows it: no tag, no markup, one line."""
    kept = "".join(sign for sign in text if sign.isprintable())
    return SPECIAL.sub(r"\\\1", html.escape(kept, quote=False))


def write_model_card(model: PublishedModel, benchmark: Benchmark) -> str:
    """Return the model card, with the front matter that the Hub reads."""
    summary, card = model.summary, benchmark.card
    license_name = LICENSES.get(card.license)
    front: dict[str, object] = {
        **({"license": license_name} if license_name
           else {"license": "other", "license_name": "see-below"}),
        "library_name": "evenhand" if model.architecture is None else "transformers",
        "tags": ["evenhand", _name_aim(benchmark), summary.method, summary.dataset],
    }  # fmt: skip
    if model.base_model is not None:
        front |= {"base_model": model.base_model}
    task = {"text": "text-classification", "images": "image-classification"}
    if model.architecture is not None and benchmark.modality in task:
        front |= {"pipeline_tag": task[benchmark.modality]}
    values = ", ".join(f"{n}={format_scalar(v)}" for n, v in summary.hyperparameters.items())
    lines = [
        "---", write_yaml(front).rstrip(), "---", "",
        f"# {escape_markdown(summary.method)} on {escape_markdown(summary.dataset)}", "",
        *_list_warnings(summary),
        f"Confirmation seed {model.seed}, of {summary.seeds} the best by the rule "
        f"{summary.rule}. Expect the mean over seeds of the method, not the "
        "values of this one; both are below.", "",
        *_describe_use(model, benchmark), "",
        "## Data", "",
        escape_markdown(card.title), "",
        f"- Source: {escape_markdown(card.source)}",
        f"- License: {escape_markdown(card.license or 'unknown')}",
        f"- Paper: {escape_markdown(card.paper or 'none')}",
        f"- Version: {escape_markdown(summary.dataset_version)}",
        *(f"- {escape_markdown(note)}" for note in card.notes), "",
        "## Test metrics", "",
        *format_markdown(_list_metrics(model)), "",
        *_list_groups(model, benchmark),
        "## Intended use and limits", "",
        "For research on performance in the worst group or task. It was selected and measured on "
        "the splits of this data set only: nothing is known about other data, other groups, or "
        "groups smaller than those above. The model and the pretrained weights that it started "
        "from keep the terms of their sources; those of the data are above.", "",
        "## Provenance", "",
        f"- Method: {escape_markdown(summary.method)}; search {summary.search}, "
        f"{format_count(summary.trials, 'trial')}, "
        f"{summary.device_hours:.3g} device-hours on {escape_markdown(summary.device)}",
        f"- Hyperparameters: {escape_markdown(values)}",
        f"- Code: commit {summary.provenance.commit or 'unknown'}"
        + (" with uncommitted changes" if summary.provenance.code_differs else ""),
        f"- Packages: {', '.join(f'{n} {v}' for n, v in summary.provenance.packages.items())}", "",
        "The study again, and one of its seeds alone:", "",
        "```", *model.commands, "```", "",
        f"`{ARCHIVE}` holds the records. With the code and the data, `python tune.py verify "
        f"{ARCHIVE}` checks its hashes, computes the row from the seeds, and evaluates the model "
        "on the test split again.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def find_base_model(name: str, from_scratch: bool) -> str | None:
    """Return the Hub's name of the pretrained model that a model started from; None without.

    Args:
        name: The name of the model's architecture here.
        from_scratch: Whether its weights were random.
    """
    if from_scratch or not is_pretrained(name) or is_path(name):
        return None
    found = FULL_NAMES.get(name, name)
    return found if "/" in found and not found.startswith("torchvision/") else None


def has_files(benchmark: Benchmark) -> bool:
    """Return whether ``python -m core.predict`` has files to read for a data set's models."""
    return isinstance(benchmark, ImageBenchmark | TextBenchmark)


def _name_aim(benchmark: Benchmark) -> str:
    has_groups = bool(benchmark.list_group_names("test"))
    return "worst-group-accuracy" if has_groups else "multi-task-learning"


def _list_warnings(summary: Summary) -> list[str]:
    """Return a paragraph for each reason not to trust the values."""
    found = []
    if summary.oracle:
        found.append(
            f"the rule {summary.rule} selects on the test split, so that the values below are "
            "optimistically biased"
        )
    if not summary.complete:
        found.append(f"the study is not complete; {summary.seeds} seeds have a result so far")
    if not summary.has_learned:
        found.append("no trial of the search is better than a constant prediction")
    if summary.is_trained_on_all:
        found.append("the validation split was trained on too")
    return [line for text in found for line in (f"**Warning:** {text}.", "")]


def _describe_use(model: PublishedModel, benchmark: Benchmark) -> list[str]:
    if model.architecture is None:
        name = f"Its architecture, {escape_markdown(model.model_name)}, is none of transformers."
        if not has_files(benchmark):
            return [f"{name} `python tune.py verify {ARCHIVE}` loads it."]
        return [
            f"{name} `python -m core.predict` and `python tune.py verify {ARCHIVE}` load it:", "",
            "```", "python -m core.predict model.safetensors FILES...", "```",
        ]  # fmt: skip
    processor = "AutoTokenizer" if benchmark.modality == "text" else "AutoImageProcessor"
    lines = [
        "```python",
        f"from transformers import {model.architecture}, {processor}", "",
        f'model = {model.architecture}.from_pretrained("FOLDER")',
        f'processor = {processor}.from_pretrained("FOLDER")',
        "```",
    ]  # fmt: skip
    if benchmark.modality == "images":
        lines += ["", "The processor resizes images; where the data set crops them, "
                  "`python -m core.predict` repeats its preprocessing exactly."]  # fmt: skip
    return lines


def _list_metrics(model: PublishedModel) -> list[Mapping[str, str]]:
    rows: list[Mapping[str, str]] = []
    for metric, value in model.metrics.items():
        found = model.summary.metrics.get(f"test_{metric}")
        if isinstance(value, list) or found is None:
            continue
        unit = "%" if metric in DELTAS else "share" if model.summary.as_percent else ""
        rows.append(
            {
                "metric": escape_markdown(metric),
                "better": DIRECTIONS[model.summary.higher_is_better.get(metric)],
                "this model": _format_value(value, unit),
                "mean of seeds": _format_value(found.mean, unit),
                "standard deviation": _format_value(found.std, unit),
                "seeds": str(found.n),
            }
        )
    return rows


def _list_groups(model: PublishedModel, benchmark: Benchmark) -> list[str]:
    """Return the table of groups, with a heading; nothing for data sets without groups."""
    accuracies, counts = (model.metrics.get(f"group_{name}") for name in ("accuracy", "count"))
    names = benchmark.list_group_names("test")
    if not isinstance(accuracies, list) or len(names) != len(accuracies):
        return []
    sizes = counts if isinstance(counts, list) else [None] * len(names)
    rows: list[Mapping[str, str]] = []
    for name, accuracy, size in zip(names, accuracies, sizes, strict=True):
        found = model.summary.metrics.get(f"test_group_accuracy[{name}]")
        rows.append(
            {
                "group": escape_markdown(name),
                "examples": "" if size is None else f"{size:.0f}",
                "accuracy, this model": _format_value(accuracy, "share"),
                "mean of seeds": _format_value(None if found is None else found.mean, "share"),
                "standard deviation": _format_value(None if found is None else found.std, "share"),
            }
        )
    return ["## Groups", "", *format_markdown(rows), ""]


def _format_value(value: float | None, unit: str) -> str:
    """Return a value; a share in percent."""
    if value is None:
        return ""
    return f"{100 * value:.2f}%" if unit == "share" else f"{value:.4g}{unit}"
