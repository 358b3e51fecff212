"""Check that the training core is right and fast on a GPU: python -m benchmarks.gpu [--parts a,b].

Right:
  a  every method on every embedded data set, and on made-up texts and photographs: CUDA against
     CPU, the same bits twice and after a resume in deterministic mode, bfloat16 near float32
  b  which lines of a training step make the host wait for the device, with data there and here
  c  weightings and strategies against the host in float64; the device's alpha-fair
     solver, also in a CUDA graph
  d  a memory share's cap: torch.OutOfMemoryError in its process, and a neighbor that goes on;
     data resident where they fit into their share; batches that are split
  e  the tests marked ``gpu``, where pytest and hypothesis are installed
Fast:
  f  weighted steps against a scalarised step and forward + K backward
  g  ViT-B/16 at 384 pixels, BERT-base, ResNet-50, SegNet, the networks of CelebA and QM9:
     examples a second, share of the peak, compiled too
  h  1, 2, 4, 8 processes on the GPU at once, with MPS where it is installed
  i  where the time of a step goes: host, kernels, waiting for data
  j  several seeds stacked in one process by torch.func
  k  updates of reinforcement learning, with and without the graph
  l  a study of four trials on the GPU at once, where Ray and Optuna are installed
  m  settings that the core chooses for GPUs, each against its alternative: graphs and copies of
     data on the host, layout of convolutions, optimizers, evaluation batches
  n  compiling the models that part g times

Each part is a process of its own, so that none spoils another. The parts a, b, c, e, l, n run side
by side, then the others one after the other, each with its share of what is left of ``--seconds``:
few parts have more time than all, and ``--parts g,n`` gives the models all of it. A part that its
share does not suffice for is unfinished, not wrong. ``--device cpu --quick`` runs the same code
small on a CPU, to find mistakes without a GPU.
The verdict comes last. gpu.md (to paste into docs/gpu.md) and gpu.json are written into the folder
that the environment variable OUT names, anew after each part: an interrupted command leaves the
findings so far, and says which parts did not end.
The exit code is 1 where something is wrong, 130 after an interruption.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.compare_runs import compare_runs
from benchmarks.gpu.defaults import compare_defaults
from benchmarks.gpu.fused_trials import time_fused_trials
from benchmarks.gpu.host_waits import find_host_waits
from benchmarks.gpu.made_data import import_models
from benchmarks.gpu.marked_tests import run_marked_tests
from benchmarks.gpu.memory_caps import check_memory_caps
from benchmarks.gpu.model_steps import compile_models, time_models
from benchmarks.gpu.other_commands import run_study, time_reinforcement
from benchmarks.gpu.report import Report, end_with_parent, get_device_name
from benchmarks.gpu.shared_gpu import time_shared_gpu
from benchmarks.gpu.step_shares import measure_step_shares
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
    "i": measure_step_shares,
    "j": time_fused_trials,
    "k": time_reinforcement,
    "l": run_study,
    "m": compare_defaults,
    "n": compile_models,
}
TOGETHER = ("a", "b", "c", "e", "l", "n")
# The others in their order. The last ones get the time that those before them leave.
ALONE_SECONDS = {
    "d": 18, "f": 21, "i": 46, "j": 6, "k": 36, "m": 28, "h": 80, "g": 129,
}  # fmt: skip
TOGETHER_SECONDS = 106
SECONDS = 470
CPU_FACTOR = 8  # of all limits


class PartProcess:
    """A part in a process of its own, which waits for :meth:`begin` once its modules are there."""

    def __init__(self, part: str, folder: Path, given: argparse.Namespace) -> None:
        self.part, self.file = part, folder / f"{part}.json"
        self.log = (folder / f"{part}.log").open("w+", encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.gpu", "--one", part, "--into", str(self.file),
                   "--device", given.device, *(["--quick"] if given.quick else [])]  # fmt: skip
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self.log, stderr=subprocess.STDOUT,
            env=environment, text=True,
        )  # fmt: skip
        self.limit = 0.0
        self.end = 0.0
        self.has_begun = False

    def begin(self, limit: float) -> None:
        """Let it compute for some seconds."""
        assert self.process.stdin is not None
        self.has_begun = True
        self.limit, self.end = limit, time.monotonic() + limit
        # A process that has ended reads nothing; `finish` tells its exit code.
        with suppress(BrokenPipeError), self.process.stdin as pipe:
            pipe.write(f"{self.end}\n")

    def finish(self) -> dict[str, Any]:
        """Wait until it ends, or end it; print its output and return its findings."""
        problem = None
        try:
            if code := self.process.wait(max(0.0, self.end - time.monotonic())):
                problem = "WRONG", f"ended with code {code}"
        except subprocess.TimeoutExpired:
            self._kill()
            time.sleep(2)  # until its children have seen it, and ended
            problem = "unfinished", f"was ended after {self.limit:.0f} s"
        return self._read_findings(problem)

    def interrupt(self) -> dict[str, Any]:
        """End it; print its output and return its findings so far."""
        self._kill()
        text = "was interrupted" if self.has_begun else "had not begun"
        return self._read_findings(("unfinished", text))

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read_findings(self, problem: tuple[str, str] | None) -> dict[str, Any]:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.log.seek(0)
        print(f"--- part {self.part}\n{self.log.read()[-30000:]}", flush=True)
        self.log.close()
        found: dict[str, Any] = {"part": self.part, "verdicts": [], "figures": {}}
        if self.file.exists():
            found = json.loads(self.file.read_text(encoding="utf-8"))
        if problem:
            word, text = problem
            found["verdicts"].append({"part": self.part, "verdict": word, "text": text})
        return found


class Schedule:
    """Divides the time between the parts that are left.

    Args:
        wanted: The parts.
        seconds: The time for all of them.
    """

    def __init__(self, wanted: list[str], seconds: float) -> None:
        self.together = [part for part in wanted if part in TOGETHER]
        self.alone = [part for part in ALONE_SECONDS if part in wanted]
        self._end = time.monotonic() + seconds
        self._left = [TOGETHER_SECONDS] * bool(self.together)
        self._left += [ALONE_SECONDS[part] for part in self.alone]

    def take_limit(self) -> float:
        """Return the seconds of the parts side by side, then of each of the others."""
        rest = self._end - time.monotonic()
        share = self._left[0] / sum(self._left)
        del self._left[0]
        return rest * share


def run_parts(
    given: argparse.Namespace, wanted: list[str], keep: Callable[[dict[str, Any]], None]
) -> bool:
    """Run the parts, and pass on the findings of each; return whether all could end.

    Args:
        given: The command line.
        wanted: The parts.
        keep: Takes the findings of a part, of an interrupted one too.
    """
    factor = 1 if given.device == "cuda" else CPU_FACTOR
    schedule = Schedule(wanted, given.seconds * factor)
    order = [*schedule.together, *schedule.alone]
    with tempfile.TemporaryDirectory() as name:
        # The next two load their modules while one computes.
        ahead = len(schedule.together) + 2
        waiting = [PartProcess(part, Path(name), given) for part in order[:ahead]]
        try:
            if schedule.together:
                limit = schedule.take_limit()
                for child in waiting[: len(schedule.together)]:
                    child.begin(limit)
            while waiting:
                if not waiting[0].has_begun:
                    waiting[0].begin(schedule.take_limit())
                if len(order) > ahead and len(waiting) < 3:
                    waiting.append(PartProcess(order[ahead], Path(name), given))
                    ahead += 1
                keep(waiting[0].finish())
                del waiting[0]
        except KeyboardInterrupt:
            for child in waiting:
                keep(child.interrupt())
            for part in order[ahead:]:
                verdict = {"part": part, "verdict": "unfinished", "text": "had not begun"}
                keep({"part": part, "verdicts": [verdict], "figures": {}})
            return False
    return True


def main() -> None:
    """Run the parts that the command line names, and print the verdicts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="such as a,b; all by default")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts on a GPU")
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
    out = Path(os.environ["OUT"]) if "OUT" in os.environ else None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as timeout sends it
    start = time.monotonic()
    name = get_device_name(given.device)
    versions = (f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN "
                f"{torch.backends.cudnn.version()}, {count_cpus()} processors")  # fmt: skip
    print(f"{name}, {versions}", flush=True)
    found: list[dict[str, Any]] = []

    def keep(findings: dict[str, Any]) -> None:
        found.append(findings)
        if out is not None:
            write_findings(out, name, versions, found, summarize(found, start))

    has_ended = run_parts(given, wanted, keep)
    print("--- verdict", *summarize(found, start), sep="\n")
    is_wrong = any(v["verdict"] == "WRONG" for part in found for v in part["verdicts"])
    raise SystemExit(int(is_wrong) if has_ended else 128 + signal.SIGINT)


def summarize(found: list[dict[str, Any]], start: float) -> list[str]:
    """Return the lines of the verdict, from findings and the clock at the start."""
    verdicts = [verdict for part in found for verdict in part["verdicts"]]
    took = ", ".join(f"{part['part']} {part.get('seconds', 0):.0f}" for part in found)
    return [
        *(f"[{v['part']}] {v['verdict']:5s} {v['text']}" for v in verdicts),
        describe_verdict(verdicts, "right", "WRONG"),
        describe_verdict(verdicts, "fast", "slow"),
        f"{time.monotonic() - start:.0f} s; seconds by part: {took}",
    ]


def write_findings(
    out: Path, name: str, versions: str, found: list[dict[str, Any]], summary: list[str]
) -> None:
    """Write gpu.json, and gpu.md to paste."""
    kept = {"device": name, "versions": versions, "parts": found}
    (out / "gpu.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    lines = [line for part in found for line in part.get("lines", [])]
    text = [f"## {name}, {date.today()}", "", versions, "", "```", *summary, "", *lines, "```"]
    (out / "gpu.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def describe_verdict(verdicts: list[dict[str, Any]], good: str, bad: str) -> str:
    """Return one line that says whether all verdicts of a kind are good."""
    words = [verdict["verdict"] for verdict in verdicts]
    failed, passed, unfinished = words.count(bad), words.count(good), words.count("unfinished")
    if not failed and not passed:
        return f"{good}: not judged"
    rest = f", {unfinished} unfinished" if unfinished else ""
    return f"{good}: {'no' if failed else 'yes'} ({passed} of {passed + failed} checks{rest})"


def _run_part(given: argparse.Namespace) -> None:
    end_with_parent()
    import_models()
    end = float(sys.stdin.readline())  # of the clock that all processes share
    limit = end - time.monotonic()
    report = Report(given.one, given.device, given.quick, given.into, limit)
    start = time.perf_counter()
    report.attempt("all of it", lambda: PARTS[given.one](report))
    report.seconds = time.perf_counter() - start
    report.save()


if __name__ == "__main__":
    main()
