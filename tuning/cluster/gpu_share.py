"""``--gpus-per-trial auto``: measures the GPU use of trials and chooses how many share a GPU.

The share affects the speed of a study and nothing else: it is no hyperparameter and in no key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import datasets
from common.errors import UserError, ValidationErrors
from common.hyperparameters import Hyperparameters, Scalar
from core.environment import Environment
from core.make_run import make_run
from core.recipe.trial_key import TrialKey
from core.reinforcement.run import ReinforcementRun
from core.training.profiling import Usage, measure_usage
from tuning.cluster.remote import call_on_workers
from tuning.option_values import AUTO
from tuning.options import Options
from tuning.records.method_records import GpuProbe, MethodRecords
from tuning.resources import CUDA_CONTEXT_BYTES, GPU_SHARES, Node, Resources
from tuning.search.space import Space

# The memory of a share by the measured memory: room for other hyperparameters, texts longer than
# the longest of a few batches, and fragments that torch's cache cannot use.
MEMORY_HEADROOM = 1.2
# The GPU time that all trials together may request. Kernels of different processes take turns, so
# trials gain only the time for which one alone leaves the GPU idle. If they request 4/3 of its
# time, half as many request 2/3: the second half adds half as much again; beyond this, less.
MAX_GPU_LOAD = 4 / 3


@dataclass(frozen=True)
class Measurement:
    """The outcome of a method's first steps on a worker.

    Args:
        usage: The measured use of the device; None if they failed.
        error: Why they failed.
    """

    usage: Usage | None
    error: str = ""


def choose_share(usage: Usage, trials_by_cpu: int) -> float:
    """Return the smallest share of a GPU, of :data:`GPU_SHARES`, that suffices for a trial.

    It holds the trial's memory with :data:`MEMORY_HEADROOM`, and so many trials request the GPU's
    time at most :data:`MAX_GPU_LOAD` times.

    Args:
        usage: A trial's use of a whole GPU.
        trials_by_cpu: The trials per GPU for which there are CPUs.
    """
    if not usage.fits or not usage.total or usage.busy is None:
        return 1.0
    need = usage.memory * MEMORY_HEADROOM + CUDA_CONTEXT_BYTES

    def suffices(trials: int) -> bool:
        crowded = usage.busy is None or usage.busy * trials > MAX_GPU_LOAD
        return need <= usage.total / trials and not crowded and trials <= trials_by_cpu

    return min((share for share in GPU_SHARES if suffices(round(1 / share))), default=1.0)


def choose_largest_batches(space: Space, options: Options) -> Hyperparameters:
    """Return the hyperparameters to measure: the largest batches that a search may try.

    Other hyperparameters have their defaults, or the values that the command fixes.
    """
    if options.search == "published":
        return space.complete(space.published() or {})
    values: dict[str, Sequence[Scalar]] = {name: k.values for name, k in space.free.items()}
    if options.search == "grid":
        configs = space.grid()
        names = {name for config in configs for name in config}
        values = {name: [c[name] for c in configs if name in c] for name in names}
    sizes = {n: v for n, v in values.items() if n == "batch_size" or n.endswith("_batch_size")}
    found = {name: max(int(value) for value in allowed) for name, allowed in sizes.items()}
    end_task = found.get("batch_size", int(space.fixed.get("batch_size", 0)))
    # 0 means as many examples as the end task's batch has.
    for name, allowed in sizes.items():
        if 0 in allowed and found[name] < end_task:
            found[name] = 0
    return {**space.find_common_values(options.search), **found}


def measure_trial(key: TrialKey, data_root: str, baseline: str, reference: str = "") -> Measurement:
    """Measure the use of this process's device by the run of a key."""
    try:
        run = make_run(key, datasets.load_benchmark(reference or key.dataset, data_root, baseline))
        if isinstance(run, ReinforcementRun):
            return Measurement(
                None,
                f"--gpus-per-trial {AUTO}: trials of data set '{key.dataset}' are not measured; "
                "give a share, such as 0.25",
            )
        return Measurement(measure_usage(run))
    except UserError as error:
        return Measurement(None, str(error))
    except Exception as error:  # it would end each of the method's trials
        return Measurement(None, f"{type(error).__name__}: {error}")


def read_measured_share(records: Sequence[MethodRecords]) -> float | None:
    """Return the share of a GPU that a study has chosen; None unless all methods were measured."""
    shares = [probe.share for r in records if (probe := r.read_probe()) is not None]
    return max(shares) if len(shares) == len(records) else None


def choose_trial_resources(
    spaces: Sequence[Space],
    records: Sequence[MethodRecords],
    options: Options,
    baseline: str,
    environment: Environment,
    nodes: Sequence[Node],
    resources: Resources,
) -> tuple[Resources, str]:
    """Return the resources of a trial under ``auto``, and a line that explains the choice.

    All methods get one share: the largest that one of them needs. Measurements are recorded, and a
    resumed study keeps them; only new methods are measured then.

    Args:
        spaces: The methods.
        records: Their records.
        options: The command.
        baseline: The text of the baseline file; empty for the benchmark's own.
        environment: The environment of trials.
        nodes: The nodes.
        resources: The resources of a trial with a whole GPU.

    Raises:
        ValidationErrors: If a method's first steps fail, except by lack of memory.
    """
    if options.gpus_per_trial != AUTO or not resources.gpus:
        return resources, ""
    new = [pair for pair in zip(spaces, records, strict=True) if pair[1].read_probe() is None]
    by_cpu = max(int(node.cpus / resources.cpus / node.gpus) for node in nodes if node.gpus)
    measured = _measure_methods(
        [space for space, _ in new], options, baseline, environment, resources
    )
    for (_, record), usage in zip(new, measured, strict=True):
        record.write_probe(GpuProbe(choose_share(usage, by_cpu), usage))
    usages: dict[str, Usage] = {}
    for space, record in zip(spaces, records, strict=True):
        probe = record.read_probe()
        assert probe is not None  # measured just now, or in an earlier session
        usages[space.method.name] = probe.usage
    chosen = replace(resources, gpus=read_measured_share(records) or 1.0)
    return chosen, _describe_choice(usages, chosen.gpus) + (
        "" if new else "; measured at the start of the study"
    )


def _measure_methods(
    spaces: Sequence[Space],
    options: Options,
    baseline: str,
    environment: Environment,
    resources: Resources,
) -> list[Usage]:
    """Return each method's use of a GPU of its own."""
    calls = []
    for space in spaces:
        key = space.resolved.make_key(choose_largest_batches(space, options), 0, environment)
        data_root = str(options.data_root.absolute())
        calls.append((key, data_root, baseline, space.benchmark.reference))
    if not calls:
        return []
    measured = call_on_workers(measure_trial, calls, resources)
    errors = [
        f"{space.method.name}: {measurement.error}"
        for space, measurement in zip(spaces, measured, strict=True)
        if measurement.error
    ]
    if errors:
        raise ValidationErrors(errors)
    return [measurement.usage for measurement in measured if measurement.usage is not None]


def _describe_choice(usages: dict[str, Usage], share: float) -> str:
    """Return the measurements and the choice as a line."""
    start = f"--gpus-per-trial {AUTO}: "
    fitting = {name: used for name, used in usages.items() if used.fits}
    if fitting and not any(used.total for used in fitting.values()):
        return start + "no CUDA device on the workers: nothing measured, one GPU per trial"
    parts = []
    if fitting:
        name = max(fitting, key=lambda name: fitting[name].memory)
        used = fitting[name]
        parts.append(
            f"up to {used.memory / 1024**3:.1f} of {used.total / 1024**3:.1f} GiB ({name})"
        )
        busy = {name: used.busy for name, used in fitting.items() if used.busy is not None}
        if busy:
            name = max(busy, key=lambda name: busy[name])
            parts.append(f"kernels run for up to {busy[name]:.0%} of the time ({name})")
        if len(busy) < len(fitting):
            parts.append("GPU load could not be measured")
    too_large = [name for name, used in usages.items() if not used.fits]
    if too_large:
        parts.append(f"a whole one is too small for the largest batches of {', '.join(too_large)}")
    device = next(iter(usages.values())).device
    return f"{start}{share:g} of a GPU per trial ({device}): {', '.join(parts)}"
