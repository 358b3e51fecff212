"""Part a: every method on every small benchmark, a GPU against the CPU."""

import io
import multiprocessing
import traceback
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.report import Report, end_with_parent
from benchmarks.gpu.small_runs import (
    DEFAULT_TF32,
    HALF,
    STRICT,
    TRAINED,
    WORKERS,
    Row,
    compute_deviation,
    disable_tf32,
    finish_run,
    flatten_weights,
    list_pairs,
    make_run,
    shorten_path,
    silence_process,
    take_early_steps,
    train_epoch,
    train_run,
)
from common.cpus import count_cpus
from core.training.run_state import RunState

AMPLIFIED = 10  # times the limit, where logarithms of losses near 0 amplify rounding


def compare_run(method: str, dataset: str, device: str) -> dict[str, Any]:
    """Return how one method on one data set compares; failures by what failed."""
    found: dict[str, Any] = {"method": method, "dataset": dataset, "failed": {}}
    make = partial(make_run, method, dataset)
    values: dict[str, Any] = {}

    def attempt(name: str, work: Callable[[], Any]) -> None:
        try:
            values[name] = work()
        except Exception as error:
            text = (str(error).strip() or "?").splitlines()[0][:200]
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if "/core/" in f.filename or "/datasets/" in f.filename]
            last = own[-1] if own else frames[-1]
            place = f"{shorten_path(last.filename)}:{last.lineno} {last.name}: {last.line}"
            found["failed"][name] = f"{type(error).__name__}: {text} [{place}]"

    def stop_and_resume() -> tuple[dict[str, float], list[Row], Tensor]:
        first = make(device, exact=True)
        rows = [train_epoch(first)]
        file = io.BytesIO()
        torch.save(first.make_state().as_dict(), file)
        file.seek(0)
        second = make(device, exact=True)
        second.load_state(RunState(**torch.load(file, weights_only=True)))
        rows += finish_run(second)
        return rows[-1]["losses"], rows, flatten_weights(second)

    # Deterministic first: what CUDA's libraries are told then must be told before they are used.
    attempt("deterministic", lambda: train_run(make(device, exact=True)))
    attempt("again", lambda: train_run(make(device, exact=True)))
    attempt("resumed", stop_and_resume)
    attempt("shipped", lambda: train_run(make(device)))
    if device == "cuda":
        start = torch.Generator(device="cuda").manual_seed(0).get_state()[8:]
        found["draws_on_device"] = bool((torch.cuda.get_rng_state()[8:] != start).any())
    attempt("bfloat16", lambda: train_run(make(device, "bfloat16")))
    attempt("host", lambda: train_run(make("cpu")))
    attempt("early host", lambda: take_early_steps(make("cpu")))
    attempt("early shipped", lambda: take_early_steps(make(device)))
    with disable_tf32():
        attempt("early strict", lambda: take_early_steps(make(device)))

    def check_bits(name: str) -> None:
        if name in values and "deterministic" in values:
            one, other = values["deterministic"], values[name]
            equal = torch.equal(one[2], other[2]) and repr(one[1]) == repr(other[1])
            found[name] = equal
            if not equal:
                found[f"{name} differs"] = _describe_difference(one, other)

    check_bits("again")
    check_bits("resumed")
    compared = {
        "shipped": "host",
        "bfloat16": "shipped",
        "early shipped": "early host",
        "early strict": "early host",
    }
    for name, reference in compared.items():
        if name in values and reference in values:
            found[name] = compute_deviation(values[name][0], values[reference][0])
            ours, theirs = values[name][-1], values[reference][-1]
            found[f"{name} weights"] = float((ours - theirs).norm() / theirs.norm())
    return found


def _describe_difference(one: Any, other: Any) -> str:
    parts = [f"weights by {float((one[2] - other[2]).abs().max()):.2g}"]
    for mine, yours in zip(one[1], other[1], strict=True):
        keys = [k for k in mine if repr(mine[k]) != repr(yours.get(k))]
        if keys:
            parts.append(f"epoch {mine['epoch']}: {', '.join(keys)}")
    return "; ".join(parts)


def compare_runs(report: Report) -> None:
    """Part a: every method on every data set that it fits."""
    work = list_pairs(report.quick)
    found: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    workers = 2 if report.quick else min(WORKERS, count_cpus())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    waiting = [pool.submit(compare_run, *pair, report.device) for pair in work]
    try:  # runs that are not compared in time are left out
        for done in as_completed(waiting, timeout=max(0.0, report.seconds_left)):
            found.append(done.result())
            report.add_figure("runs", found)
    except TimeoutError:
        pass
    finally:
        for process in list(pool._processes.values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
    if len(found) < len(work):
        report.add_unfinished(f"{len(found)} of {len(work)} runs were compared")
    else:
        report.add_verdict(True, f"all {len(work)} runs were compared")
    _judge_runs(report, found)


def _judge_runs(report: Report, found: list[dict[str, Any]]) -> None:
    columns = ("early strict", "early shipped", "shipped", "bfloat16", "early strict weights")
    rows = []
    for entry in sorted(found, key=lambda e: (e["dataset"], e["method"])):
        flags = "".join(
            {True: "=", False: "X", None: "?"}[entry.get(name)] for name in ("again", "resumed")
        )
        draws = "draws" if entry.get("draws_on_device") else ""
        rows.append(
            [entry["dataset"], entry["method"], *(entry.get(c, "-") for c in columns), flags, draws]
        )
    report.print_line(
        "largest relative deviation of losses from the CPU; '==': same bits again, resumed"
    )
    report.print_table(["data", "method", *columns, "bits", "random"], rows)
    failed: dict[str, list[str]] = defaultdict(list)
    for entry in found:
        for name, text in entry["failed"].items():
            failed[f"{name}: {text}"].append(f"{entry['method']}/{entry['dataset']}")
    for text, who in sorted(failed.items()):
        report.add_verdict(False, f"{len(who)} runs ({', '.join(who[:60])}): {text}")
    for name, claim in (("again", "the same bits twice"), ("resumed", "the same bits resumed")):
        if not any(name in e for e in found):
            continue
        wrong = [
            f"{e['method']}/{e['dataset']} ({e.get(name + ' differs')})"
            for e in found
            if e.get(name) is False
        ]
        report.add_verdict(not wrong, f"deterministic: {claim}; not: {wrong or 'none'}")
    limits = {
        "early strict": STRICT,
        "early shipped": DEFAULT_TF32,
        "shipped": TRAINED,
        "bfloat16": HALF,
    }
    for name, limit in limits.items():
        ours = [e for e in found if name in e]
        if not ours:
            continue
        stars = {id(e): "*" if e.get("draws_on_device") else "" for e in ours}
        far = [
            f"{e['method']}/{e['dataset']} {e[name]:.2g}{stars[id(e)]}"
            for e in ours
            if not e[name] <= limit * _amplify(name, e)
        ]
        most = max((e[name] for e in ours if e[name] <= limit), default=0.0)
        report.add_verdict(
            not [text for text in far if not text.endswith("*")],
            f"{name}: within {limit:g}, the largest {most:.2g}; beyond (* draws on the device): "
            f"{far or 'none'}",
        )


def _amplify(name: str, entry: dict[str, Any]) -> int:
    """Return by which factor trained losses may differ more: logarithms of losses near 0 do."""
    is_amplified = entry["dataset"] == "imbalanced_tasks" and entry["method"].startswith("log_")
    return AMPLIFIED if is_amplified and name in ("shipped", "bfloat16") else 1


def _begin_worker() -> None:
    end_with_parent()
    silence_process()
