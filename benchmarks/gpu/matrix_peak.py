"""The peak rate of a GPU's matrix products in bfloat16."""

import re
import time

import torch

from benchmarks.gpu.report import Report

# Dense bfloat16 operations a second, sums in float32, by NVIDIA's data sheets; first match first.
SHEETS = {
    "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12,
    "A100": 312e12, "L40S": 362e12, "L4": 121e12,
}  # fmt: skip


def find_peak(name: str) -> float | None:
    """Return the operations a second of a GPU of this name; None where its sheet is not listed."""
    known = (rate for key, rate in SHEETS.items() if re.search(rf"\b{key}\b", name))
    return next(known, None)


def measure_products(report: Report) -> float:
    """Return the operations a second of a large matrix product."""
    side, count = (128, 2) if report.quick else (8192, 20)
    kind = torch.bfloat16 if report.is_cuda else torch.float32
    matrix = torch.randn(side, side, device=report.device, dtype=kind)
    took = []
    for _ in range(3):
        if report.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            matrix @ matrix
        if report.is_cuda:
            torch.cuda.synchronize()
        took.append(time.perf_counter() - start)
    return 2 * side**3 * count / min(took)
