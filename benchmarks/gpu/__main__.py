"""Check that the training core is right and fast on a GPU: python -m benchmarks.gpu [--parts a,b].

Right:
  a  every method on every embedded data set, and on made-up texts and photographs: CUDA against
     CPU, the same bits twice and after a resume in deterministic mode, bfloat16 near float32
  b  which lines of a training step make the host wait for the device
  c  weightings and strategies against the host in float64; the device's alpha-fair
     solver, also in a CUDA graph
  d  a memory share's cap: torch.OutOfMemoryError in its process, and a neighbor that goes on
  e  the tests marked ``gpu``
Fast:
  f  weighted steps against a scalarised step and forward + K backward
  g  ViT-B/16 at 384 pixels, BERT-base, ResNet-50, SegNet: examples a second, share of the peak
  h  1, 2, 4 processes on the GPU at once

Each part is a process of its own, so that none spoils another; the parts a, b, c run side by
side, the others one after the other. ``--device cpu --quick`` runs the same code small on a CPU,
to find mistakes without a GPU. Verdicts come last; everything is in ``gpu.json`` in the folder that
the environment variable OUT names.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.compare_runs import compare_runs
from benchmarks.gpu.host_waits import find_host_waits
from benchmarks.gpu.marked_tests import run_marked_tests
from benchmarks.gpu.memory_caps import check_memory_caps
from benchmarks.gpu.model_steps import time_models
from benchmarks.gpu.report import Report, get_device_name
from benchmarks.gpu.shared_gpu import time_shared_gpu
from benchmarks.gpu.weighted_steps import time_weighted_steps
from benchmarks.gpu.weightings import check_weightings
from common.cpus import count_cpus

PARTS: dict[str, Callable[[Report], None]] = {
    "a": compare_runs,
    "b": find_host_waits,
    "c": check_weightings,
    "d": check_memory_caps,
    "e": run_marked_tests,
    "f": time_weighted_steps,
    "g": time_models,
    "h": time_shared_gpu,
}
TOGETHER = ("a", "b", "c")
# Seconds after which a part is ended; its findings until then stay.
LIMIT_SECONDS = {"a": 145, "b": 110, "c": 120, "d": 60, "e": 150, "f": 60, "g": 110, "h": 60}


class PartProcess:
    """A part in a process of its own."""

    def __init__(self, part: str, folder: Path, given: argparse.Namespace) -> None:
        self.part, self.file = part, folder / f"{part}.json"
        self.log = (folder / f"{part}.log").open("w+", encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.gpu", "--one", part, "--into", str(self.file),
                   "--device", given.device, *(["--quick"] if given.quick else [])]  # fmt: skip
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.STDOUT, env=environment
        )
        self.limit = LIMIT_SECONDS[part] * (1 if given.device == "cuda" else 8)
        self.end = time.monotonic() + self.limit

    def finish(self) -> dict[str, Any]:
        """Wait until it ends, or end it; print its output and return its findings."""
        try:
            code = self.process.wait(max(0.0, self.end - time.monotonic()))
            problem = f"ended with code {code}" if code else ""
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            problem = f"was ended after {self.limit} s"
        self.log.seek(0)
        print(f"--- part {self.part}\n{self.log.read()[-30000:]}", flush=True)
        found: dict[str, Any] = {"part": self.part, "verdicts": [], "figures": {}}
        if self.file.exists():
            found = json.loads(self.file.read_text(encoding="utf-8"))
        if problem:
            found["verdicts"].append({"part": self.part, "verdict": "WRONG", "text": problem})
        return found


def run_parts(given: argparse.Namespace, wanted: list[str]) -> list[dict[str, Any]]:
    """Run the parts; return their findings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = []
        children = [PartProcess(part, folder, given) for part in wanted if part in TOGETHER]
        found += [child.finish() for child in children]
        for part in wanted:
            if part not in TOGETHER:
                found.append(PartProcess(part, folder, given).finish())
        return found


def main() -> None:
    """Run the parts that the command line names, and print the verdicts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="such as a,b; all by default")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small, for a look at the code")
    parser.add_argument("--one", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        _run_part(given)
        return
    wanted = given.parts.split(",")
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {unknown[0]}; expected some of {','.join(PARTS)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --quick tries the code on a CPU")
    start = time.monotonic()
    name = get_device_name(given.device)
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN "
          f"{torch.backends.cudnn.version()}, {count_cpus()} processors", flush=True)  # fmt: skip
    found = run_parts(given, wanted)
    out = os.environ.get("OUT")
    if out:
        text = json.dumps({"device": name, "torch": torch.__version__, "parts": found}, indent=1)
        (Path(out) / "gpu.json").write_text(text, encoding="utf-8")
    print("--- verdicts")
    for part in found:
        for verdict in part["verdicts"]:
            print(f"[{verdict['part']}] {verdict['verdict']:5s} {verdict['text']}")
    print(f"{name}: {time.monotonic() - start:.0f} s; seconds by part: "
          + ", ".join(f"{p['part']} {p.get('seconds', 0):.0f}" for p in found))  # fmt: skip


def _run_part(given: argparse.Namespace) -> None:
    report = Report(given.one, given.device, given.quick, given.into)
    start = time.perf_counter()
    report.attempt("all of it", lambda: PARTS[given.one](report))
    report.seconds = time.perf_counter() - start
    report.save()


if __name__ == "__main__":
    main()
