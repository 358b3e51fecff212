"""``--gpus-per-trial auto``: what trials take of a GPU, and how many of them to put on one.

The share decides how fast a study is and nothing else: it is no hyperparameter and in no key.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets
from common.errors import UserError, ValidationErrors
from common.hyperparameters import Hyperparameters, Scalar
from core.environment import Environment
from core.recipe.assignments import read_baseline
from core.recipe.trial_key import TrialKey
from core.training.profiling import Usage, measure_usage
from core.training.run import Run
from tuning.cluster.remote import call_on_workers
from tuning.option_values import AUTO
from tuning.options import Options
from tuning.records.method_records import GpuProbe, MethodRecords
from tuning.resources import CUDA_CONTEXT_BYTES, GPU_SHARES, Node, Resources
from tuning.search.space import Space

# Memory that a share has beyond what was measured: other hyperparameters, longer texts than
# the longest of a few batches, fragments that torch's cache cannot use.
HEADROOM = 1.2
# How often a GPU's time may be asked for. Kernels of different processes take turns, so trials gain
# only the time for which one alone leaves the GPU idle. Where they ask for 4/3 of its time, half as
# many asked for 2/3: the second half still added half as much again; beyond this it adds less.
CROWDED = 4 / 3

Answer = tuple[Usage | None, str]  # what was measured, or what is wrong


def share_for(found: Usage, trials_by_cpu: int) -> float:
    """Return the smallest share of a GPU that serves a trial well: one of ``SHARES``.

    It holds the trial's memory with :data:`HEADROOM`, and so many trials ask for the GPU's time at
    most :data:`CROWDED` times.

    Args:
        found: What a trial takes of a whole GPU.
        trials_by_cpu: Trials for which there are CPUs, for each GPU.
    """
    if not found.fits or not found.total or found.busy is None:
        return 1.0
    need = max(found.memory, CUDA_CONTEXT_BYTES) * HEADROOM

    def serves(trials: int) -> bool:
        crowded = found.busy is None or found.busy * trials > CROWDED
        return need <= found.total / trials and not crowded and trials <= trials_by_cpu

    return min((share for share in GPU_SHARES if serves(round(1 / share))), default=1.0)


def largest(space: Space, options: Options) -> Hyperparameters:
    """Return the configuration that the probe trains: the largest batches that a search may try.

    Other hyperparameters have their defaults, or what the command fixes.
    """
    if options.search == "published":
        return space.complete(space.published() or {})
    values: dict[str, Sequence[Scalar]] = {name: k.values for name, k in space.free.items()}
    if options.search == "grid":
        configs = space.grid()
        names = {name for config in configs for name in config}
        values = {name: [c[name] for c in configs if name in c] for name in names}
    sizes = {n: v for n, v in values.items() if n == "batch_size" or n.endswith("_batch_size")}
    # 0 stands for as many examples as the end task has: more than any other, or not, by its own.
    found = {name: max(int(value) for value in allowed) for name, allowed in sizes.items()}
    end_task = found.get("batch_size", int(space.fixed.get("batch_size", 0)))
    # 0 stands for as many examples as the end task's batch has.
    for name, allowed in sizes.items():
        if 0 in allowed and found[name] < end_task:
            found[name] = 0
    return space.complete(dict(found))


def measure(key: dict[str, Any], data_root: str, baseline: str) -> Answer:
    """Return what the run of a key takes of this process's device."""
    try:
        found = TrialKey.from_dict(key)
        return measure_usage(Run(found, datasets.load(found.dataset, data_root, baseline))), ""
    except UserError as error:
        return None, str(error)
    except Exception as error:  # as it would end each of the method's trials
        return None, f"{type(error).__name__}: {error}"


def recorded(records: Sequence[MethodRecords]) -> float | None:
    """Return the share of a GPU, 0 to 1, that a study measured; None unless for all methods."""
    shares = [probe.share for r in records if (probe := r.read_probe()) is not None]
    return max(shares) if len(shares) == len(records) else None


def decide(
    spaces: Sequence[Space],
    records: Sequence[MethodRecords],
    options: Options,
    environment: Environment,
    nodes: Sequence[Node],
    resources: Resources,
) -> tuple[Resources, str]:
    """Return what a trial takes under ``auto``, and the line that says so.

    One share serves all methods: the largest that one needs. What was measured is recorded, and a
    study that goes on keeps it; only methods that have joined are measured then.

    Args:
        spaces: The methods.
        records: Their records.
        options: The command.
        environment: Where trials compute.
        nodes: The nodes.
        resources: A trial with a whole GPU.

    Raises:
        ValidationErrors: If a method's first steps fail, and not for want of memory.
    """
    if options.gpus_per_trial != AUTO or not resources.gpus:
        return resources, ""
    new = [pair for pair in zip(spaces, records, strict=True) if pair[1].read_probe() is None]
    by_cpu = max(int(node.cpus / resources.cpus / node.gpus) for node in nodes if node.gpus)
    found = _measured([space for space, _ in new], options, environment, resources)
    for (_, record), used in zip(new, found, strict=True):
        record.write_probe(GpuProbe(share_for(used, by_cpu), used))
    usages: dict[str, Usage] = {}
    for space, record in zip(spaces, records, strict=True):
        probe = record.read_probe()
        assert probe is not None  # measured just now, or in an earlier session
        usages[space.method.name] = probe.usage
    chosen = replace(resources, gpus=recorded(records) or 1.0)
    return chosen, _told(usages, chosen.gpus) + ("" if new else "; measured when the study began")


def _measured(
    spaces: Sequence[Space], options: Options, environment: Environment, resources: Resources
) -> list[Usage]:
    """Return what each method takes of a GPU that it has for itself."""
    calls = []
    for space in spaces:
        key = space.resolved.make_key(largest(space, options), 0, environment)
        root, baseline = str(options.data_root.absolute()), read_baseline(options.baseline)
        calls.append((key.as_dict(), root, baseline))
    if not calls:
        return []
    answers: list[Answer] = call_on_workers(measure, calls, resources)
    wrong = [
        f"{space.method.name}: {problem}"
        for space, (_, problem) in zip(spaces, answers, strict=True)
        if problem
    ]
    if wrong:
        raise ValidationErrors(wrong)
    return [used for used, _ in answers if used is not None]


def _told(usages: dict[str, Usage], share: float) -> str:
    """Return what was measured and chosen, in a line."""
    start = f"--gpus-per-trial {AUTO}: "
    fitting = {name: used for name, used in usages.items() if used.fits}
    if fitting and not any(used.total for used in fitting.values()):
        return start + "trials see no CUDA device: nothing measured, one GPU per trial"
    told = []
    if fitting:
        name = max(fitting, key=lambda name: fitting[name].memory)
        used = fitting[name]
        told.append(f"up to {used.memory / 1024**3:.1f} of {used.total / 1024**3:.1f} GiB ({name})")
        busy = {name: used.busy for name, used in fitting.items() if used.busy is not None}
        if busy:
            name = max(busy, key=lambda name: busy[name])
            told.append(f"kernels for up to {busy[name]:.0%} of the time ({name})")
        if len(busy) < len(fitting):
            told.append("how busy it is could not be measured")
    short = [name for name, used in usages.items() if not used.fits]
    if short:
        told.append(f"no room on a whole one for the largest batches of {', '.join(short)}")
    device = next(iter(usages.values())).device
    return f"{start}{share:g} of a GPU per trial ({device}): {', '.join(told)}"
