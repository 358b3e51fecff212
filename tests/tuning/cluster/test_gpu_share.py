"""``--gpus-per-trial auto``: the choice as a rule, and the probe on GPUs that are only declared."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasets
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.profiling import Usage
from tuning.cluster.gpu_share import (
    MAX_GPU_LOAD,
    MEMORY_HEADROOM,
    choose_largest_batches,
    choose_share,
    choose_trial_resources,
    measure_trial,
)
from tuning.option_values import Gpus
from tuning.options import Options
from tuning.records.method_records import GpuProbe, MethodRecords
from tuning.resources import CUDA_CONTEXT_BYTES, GPU_SHARES, Node, Resources, torch_memory_fraction
from tuning.search.space import make_space
from tuning.study import plan

GIB = 1024**3
USAGES = st.builds(
    Usage,
    device=st.just("a GPU"),
    memory=st.integers(0, 90 * GIB),
    total=st.integers(4 * GIB, 80 * GIB),
    busy=st.one_of(st.none(), st.floats(0, 1)),
    fits=st.booleans(),
)


@given(USAGES, st.integers(1, 16))
def test_the_share_is_the_smallest_that_serves(found: Usage, by_cpu: int) -> None:
    share = choose_share(found, by_cpu)
    assert share in GPU_SHARES
    for other in GPU_SHARES:
        trials = int(1 / other)
        assert trials * other == 1  # they fill the GPU
        serves = (
            found.fits
            and found.busy is not None
            and found.memory * MEMORY_HEADROOM + CUDA_CONTEXT_BYTES <= other * found.total
            and found.busy * trials <= MAX_GPU_LOAD
            and trials <= by_cpu
        )
        if other < share:
            assert not serves
        elif share < 1:
            assert serves


@given(USAGES, st.integers(1, 16), st.integers(0, 9 * GIB), st.floats(0, 1), st.integers(0, 15))
def test_who_needs_more_gets_no_less(
    found: Usage, by_cpu: int, more: int, busier: float, fewer: int
) -> None:
    busy = None if found.busy is None else max(found.busy, busier)
    hungrier = Usage("a GPU", 0.0, found.memory + more, found.total, busy, found.fits)
    assert choose_share(hungrier, max(1, by_cpu - fewer)) >= choose_share(found, by_cpu)


@given(st.sampled_from(GPU_SHARES), st.integers(4 * GIB, 80 * GIB))
def test_trials_with_their_contexts_keep_to_the_gpu(share: float, total: int) -> None:
    part = torch_memory_fraction(share, total)
    assert 0 < part < share
    if share * total / 2 >= CUDA_CONTEXT_BYTES:
        assert (part * total + CUDA_CONTEXT_BYTES) / share <= total * (1 + 1e-9)


@pytest.mark.parametrize(
    ("method", "search", "pinned", "sizes"),
    [
        ("erm", "tpe", {}, {"batch_size": 64}),
        ("erm", "tpe", {"batch_size": 8}, {"batch_size": 8}),
        ("erm", "grid", {"batch_size": 8}, {"batch_size": 8}),
        # 0 means as many as the end task has, 64: more than the hyperparameter's own 32.
        ("erm_mt", "tpe", {}, {"batch_size": 64, "mt_batch_size": 0}),
        ("erm_mt", "tpe", {"batch_size": 8}, {"batch_size": 8, "mt_batch_size": 32}),
        ("erm_mt", "tpe", {"mt_batch_size": 8}, {"batch_size": 64, "mt_batch_size": 8}),
    ],
)
def test_the_largest_batches_are_probed(
    method: str, search: str, pinned: dict[str, int], sizes: dict[str, int]
) -> None:
    options = Options((method,), "colored_digits", search=search, pinned=pinned)
    space = make_space(load_method(method), datasets.load_benchmark("colored_digits"), options)
    config = choose_largest_batches(space, options)
    assert {name: config[name] for name in sizes} == sizes
    assert set(config) <= {*sizes, *space.fixed}


def test_a_published_configuration_is_probed_as_it_is() -> None:
    options = Options(("erm",), "waterbirds", search="published")
    method = load_method("erm")
    space = make_space(method, datasets.load_benchmark("waterbirds"), options)
    assert choose_largest_batches(space, options) == method.published["waterbirds"]


# --- a resumed study ---

NODES = [Node("worker", 8, 1)]
DRO = Usage("NVIDIA A10G", 0.1, 3 * GIB, 24 * GIB, 0.2)
ERM = Usage("NVIDIA A10G", 0.1, 2 * GIB, 24 * GIB, 0.61)


def decided(folder: Path, usages: dict[str, Usage], asked: Gpus = "auto") -> tuple[Resources, str]:
    """Decide for a study whose methods were measured in an earlier session."""
    options = Options(tuple(usages), "colored_digits", gpus_per_trial=asked)
    benchmark = datasets.load_benchmark("colored_digits")
    spaces = [make_space(load_method(name), benchmark, options) for name in usages]
    records = [MethodRecords(folder / name) for name in usages]
    for record, used in zip(records, usages.values(), strict=True):
        record.write_probe(GpuProbe(choose_share(used, 8), used))
    return choose_trial_resources(
        spaces, records, options, "", detect_environment(False), NODES, Resources(1, 1.0)
    )


def test_what_was_measured_is_kept_and_the_largest_share_serves_all(tmp_path: Path) -> None:
    assert (choose_share(DRO, 8), choose_share(ERM, 8)) == (0.25, 0.5)
    resources, said = decided(tmp_path, {"dro": DRO, "erm": ERM})
    assert resources == Resources(1, 0.5)
    assert said == (
        "--gpus-per-trial auto: 0.5 of a GPU per trial (NVIDIA A10G): up to 3.0 of 24.0 GiB (dro), "
        "kernels run for up to 61% of the time (erm); measured at the start of the study"
    )


def test_what_does_not_fit_or_is_not_known_takes_a_whole_gpu_and_is_named(tmp_path: Path) -> None:
    resources, said = decided(tmp_path, {"dro": DRO, "erm": Usage("NVIDIA A10G", fits=False)})
    assert resources.gpus == 1
    assert "a whole one is too small for the largest batches of erm" in said
    blind = Usage("NVIDIA A10G", 0.1, 3 * GIB, 24 * GIB, None)
    resources, said = decided(tmp_path, {"dro": blind})
    assert resources.gpus == 1
    assert "GPU load could not be measured" in said


def test_only_auto_decides(tmp_path: Path) -> None:
    assert decided(tmp_path, {"dro": DRO}, 1.0) == (Resources(1, 1.0), "")


def test_what_a_run_would_say_the_probe_says() -> None:
    resolved = resolve_method(load_method("erm"), datasets.load_benchmark("colored_digits"))
    key = resolved.make_key({"model": "tasks_mlp"}, 0, detect_environment(False))
    failed = measure_trial(key, "data", "")
    assert failed.usage is None
    assert "tasks_mlp" in failed.error
    key = resolved.make_key({}, 0, detect_environment(False))
    measured = measure_trial(key, "data", "")
    assert measured.error == ""
    assert measured.usage is not None
    assert measured.usage.seconds > 0


def test_the_plan_counts_with_what_was_measured_or_says_that_nothing_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "local_node", lambda: Node("a", 8, 1))
    monkeypatch.setattr(plan, "find_cluster", lambda asked: None)
    asked = Options(
        ("erm",), "colored_digits", results=tmp_path / "r", epochs=1, trials=1, resume=True,
        gpus_per_trial="auto",
    )  # fmt: skip
    for share, count, words in (
        (None, "1 trial", "the plan counts one GPU per trial, the most"),
        (0.25, "4 trials", "0.25 of a GPU per trial, as measured by this study"),
    ):
        if share:
            MethodRecords(asked.records_of("erm")).write_probe(GpuProbe(share, ERM))
        assert plan.print_plan(asked) is not None
        said = capsys.readouterr().out
        assert f"node a (8 CPUs, 1 GPU): {count} in parallel" in said
        assert words in said
