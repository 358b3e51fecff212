"""Part d: a capped process, its neighbor, and batches that are split."""

import multiprocessing
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.made_data import MadeImages
from benchmarks.gpu.report import Report, end_with_parent
from benchmarks.gpu.small_runs import compute_deviation, make_run, silence_process, train_epoch
from core.training.loader import RESIDENT_SHARE, Loader
from tuning.resources import torch_memory_fraction


def check_memory_caps(report: Report) -> None:
    """Part d: a capped process runs out of memory, its neighbor goes on."""
    if not report.is_cuda:
        report.print_line("  caps need a GPU; only the splitting of batches is tried")
        _check_split_batches(report)
        return
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    neighbor = context.Process(target=_run_neighbor, args=(theirs,), daemon=True)
    neighbor.start()
    theirs.close()  # so that its end is noticed
    ours, others = context.Pipe()
    capped = context.Process(target=_run_capped, args=(others, 0.25), daemon=True)
    capped.start()
    others.close()
    mine.recv()
    free_before = torch.cuda.mem_get_info()[0]
    ours.send("begin")
    report.print_line(f"  {ours.recv()}")
    total = torch.cuda.mem_get_info()[1]
    found = ours.recv()
    taken = free_before - torch.cuda.mem_get_info()[0]
    mine.send("count")
    before = mine.recv()
    time.sleep(1)
    mine.send("count")
    after = mine.recv()
    ours.send("end")
    report.add_figure("capped", found)
    report.add_verdict(
        found["kind"] == "torch.OutOfMemoryError",
        f"a share of 0.25 ends with {found['kind']}: {found['text']}",
    )
    report.add_verdict(
        taken <= 0.25 * total,
        f"it then holds {taken / 2**30:.2f} GiB of its share of "
        f"{0.25 * total / 2**30:.2f} (torch reserves {found['reserved'] / 2**30:.2f}, "
        f"beside it {(taken - found['reserved']) / 2**30:.2f})",
    )
    more = after["steps"] - before["steps"]
    report.add_verdict(
        after["right"] and more > 0,
        f"its neighbor goes on: {more} products in a second, all right",
    )
    report.add_verdict(found["again"], "after that it can allocate again")
    capped.join(10)
    neighbor.terminate()
    report.attempt("data stay resident", lambda: _check_residency(report))
    report.attempt("batches are split", lambda: _check_split_batches(report))


def _check_residency(report: Report) -> None:
    """Data are copied to the GPU where they fit into their share of what the run may use."""
    images = MadeImages(640, 400)
    needed = sum(split.nbytes for split in images.splits.values())
    total = torch.cuda.mem_get_info()[1]
    for part, expected in ((1.1, True), (0.9, False)):
        torch.cuda.set_per_process_memory_fraction(part * needed / (RESIDENT_SHARE * total))
        try:
            before = torch.cuda.memory_allocated()
            loader = Loader(images, torch.device("cuda"))
            taken = torch.cuda.memory_allocated() - before
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        good = loader.resident == expected and taken <= 1.01 * needed * expected
        where = "resident" if loader.resident else "on the host"
        report.add_verdict(
            good,
            f"{needed / 2**20:.0f} MiB of data, {part:g} times their share of the memory: {where}, "
            f"{taken / 2**20:.0f} MiB taken",
        )


def _run_capped(pipe: Any, share: float) -> None:
    end_with_parent()
    pipe.recv()
    total = torch.cuda.mem_get_info()[1]
    part = torch_memory_fraction(share, total)
    torch.cuda.set_per_process_memory_fraction(part)
    pipe.send(f"share {share:g} of {total / 2**30:.1f} GiB: torch may take {part:.4f}")
    held: list[Tensor] = []
    kind, text = "nothing", ""
    try:
        while len(held) < 1000:
            held.append(torch.empty(128 * 2**20, dtype=torch.uint8, device="cuda").fill_(1))
    except torch.OutOfMemoryError as error:
        kind, text = "torch.OutOfMemoryError", str(error).split("\n")[0][:300]
    except Exception as error:
        kind, text = type(error).__name__, str(error)[:300]
    product = torch.ones(64, 64, device="cuda")
    found = {"kind": kind, "text": text, "reserved": torch.cuda.memory_reserved(), "again": False}
    try:
        del held[-4:]
        found["again"] = float((product @ product)[0, 0]) == 64.0
    except Exception as error:
        found["text"] = f"{text}; then {type(error).__name__}: {error}"
    torch.cuda.synchronize()
    pipe.send(found)
    pipe.recv()


def _run_neighbor(pipe: Any) -> None:
    end_with_parent()
    torch.cuda.set_per_process_memory_fraction(
        torch_memory_fraction(0.25, torch.cuda.mem_get_info()[1])
    )
    matrix = torch.ones(512, 512, device="cuda")
    pipe.send("ready")
    steps, right = 0, True
    while True:
        steps += 1
        right = right and float((matrix @ matrix).mean()) == 512.0
        if pipe.poll():
            pipe.recv()
            pipe.send({"steps": steps, "right": right})


def _check_split_batches(report: Report) -> None:
    """Cap the process so that a batch does not fit, and train: the same losses, in parts."""
    silence_process()
    make = partial(make_run, "erm", "made_images", report.device, batch_size=320)
    whole = make()
    expected = train_epoch(whole)["losses"]
    if not report.is_cuda:
        found = train_epoch(make(microbatch=64))["losses"]
        report.add_verdict(
            compute_deviation(found, expected) < 1e-3, "parts of batches: the same losses"
        )
        return
    peak, total = torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1]
    del whole
    for part in (0.7, 0.5, 0.35):
        torch.cuda.empty_cache()
        # torch.cuda.set_per_process_memory_fraction counts what torch reserves
        torch.cuda.set_per_process_memory_fraction(part * peak / total)
        run = make()
        try:
            row = train_epoch(run)
        except Exception as error:
            report.print_line(f"  {part:g} of the peak: {type(error).__name__}: {str(error)[:250]}")
            continue
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        apart = compute_deviation(row["losses"], expected)
        split = f"{part:g} of {peak / 2**20:.0f} MiB: parts of {run.microbatch or 'all'}"
        report.print_line(f"  {split}, losses within {apart:.2g}")
        if run.microbatch:
            report.add_verdict(
                apart < 1e-2,
                f"a batch that does not fit is split ({split}): losses within {apart:.2g} (1e-2)",
            )
            return
    report.add_verdict(False, "no batch was split")
