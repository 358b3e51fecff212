"""Golden digests: trial keys, plans and exit codes that no change may alter unnoticed.

``python -m tests.digests`` compares with ``tests/digests.json``, prints each difference and exits
with 1 if there is one; ``--write`` writes that file. Names of sections restrict either to them.

=========== =================================================================================
section     entries
=========== =================================================================================
``keys``    trial keys of every method on every built-in benchmark that it fits
``plans``   the counts of ``--plan``: trials, seeds and epochs, not hours and disk
``exits``   exit codes of mistaken commands, and that each prints one error and no traceback
=========== =================================================================================
"""

import argparse
import contextlib
import hashlib
import io
import json
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# ------------------------------------------------------------------------------------------------
# ADAPTOR: all that touches the project. A change that moves or renames something edits this alone.
# isort: split
import core.__main__
import core.toy.__main__
import datasets
import datasets.describe
import datasets.prepare
import tuning.cli.main
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from datasets.groups.base import GroupBenchmark
from tests.conftest import EMBEDDED, fitting
from tests.support.command import run_python

# Columns of the table of --plan that are counted and not measured, from 0 (which is the method).
PLAN_COLUMNS = (1, 2, 3, 4)

# The commands, as a user types them and as functions that return the exit code.
COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "tune.py": tuning.cli.main.main,
    "-m core": core.__main__.main,
    "-m core.toy": core.toy.__main__.main,
    "-m datasets.prepare": datasets.prepare.main,
    "-m datasets.describe": datasets.describe.main,
}


def make_key(method: str, dataset: str, config: Hyperparameters) -> str:
    """Return the digest of the key of a trial with seed 0 on one CPU thread, in float32."""
    environment = detect_environment(gpu=False, threads=1, precision="float32")
    resolved = resolve_method(load_method(method), datasets.load_benchmark(dataset))
    return resolved.make_key(config, 0, environment).digest


def embedded() -> list[tuple[str, str]]:
    """Return every method with every embedded benchmark that it fits."""
    return fitting(list_methods(), EMBEDDED)


def judges_groups(dataset: str) -> bool:
    """Return whether a benchmark has groups, and not tasks."""
    return isinstance(datasets.load_benchmark(dataset), GroupBenchmark)


# ------------------------------------------------------------------------------------------------
# The end of the adaptor.
# ------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).with_suffix(".json")
SHORT = 12  # hexadecimal digits of an entry
EXACT = ("key/", "plan/", "exit/")  # of these entries nothing depends on the CPU
KEYS = re.compile(r"[0-9a-f]{16}( [0-9a-f]{16})*")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?")

# The shortest runs through all stages of the methods that have several.
STAGES: dict[str, Hyperparameters] = {"jtt": {"T": 1, "up": 4}, "tapt": {"pretrain_epochs": 1}}

# Settings of which each takes another way through a run, on colored_digits.
SETTINGS: dict[str, tuple[str, Hyperparameters]] = {
    "adamw": ("erm", {"optimizer": "adamw", "lr": 0.001, "weight_decay": 0.01}),
    "linear": ("rwg", {"schedule": "linear", "warmup": 0.3, "clip_norm": 1.0}),
    "cosine": ("erm", {"schedule": "cosine_with_restarts", "warmup": 0.1}),
    "plateau": ("erm", {"schedule": "plateau", "epochs": 4}),
    "step": ("erm", {"schedule": "step", "epochs": 4}),
    "microbatch": ("rwg", {"batch_size": 64, "microbatch": 16}),
}

PLANS = (
    "--method all --dataset colored_digits",
    "--method erm rwg --dataset colored_digits --epochs 20 --search-seeds 3 --seeds 7 --trials 9",
    "--method jtt dfr tapt --dataset colored_digits --epochs 7 --trials 27",
    "--method jtt --dataset colored_digits --scheduler none --trials 5 --set T=2",
    "--method dro --dataset colored_digits --search grid",
    "--method all --dataset two_digits --search published",
    "--method jtt dfr --dataset waterbirds --search grid --data-root none",
    "--method jtt --dataset waterbirds --search published --data-root none",
    "--method ls fairgrad --dataset imbalanced_tasks --search random --trials 10 --epochs 3",
)

GOOD = "--method erm --dataset colored_digits"
JTT, DRO = ("--method jtt --dataset colored_digits", "--method dro --dataset colored_digits")

# Mistaken commands, each of one of COMMANDS; {tmp} is an empty folder.
MISTAKES: dict[str, tuple[str, ...]] = {
    "tune.py": (
        "",
        "--method erm",
        "--dataset colored_digits",
        "--method ermm --dataset colored_digits",
        "--method erm --dataset colored_digit",
        "--method fairgrad --dataset colored_digits",
        "--method erm --dataset two_digits",
        "--method all erm --dataset colored_digits",
        f"{GOOD} rwg",
        f"{GOOD} --trails 3",
        f"{GOOD} --set lrr=0.1",
        f"{GOOD} --set lr=fast",
        f"{GOOD} --set lr",
        f"{GOOD} --set lr=1 --set lr=2",
        f"{GOOD} --set batch_size=0",
        f"{GOOD} --set batch_size=1.5",
        f"{GOOD} --set model=resnet",
        f"{GOOD} --set lrr=1 --set lr=x",
        f"{GOOD} --set schedule=plateau --set warmup=0.1",
        f"{GOOD} --set epochs=3 --epochs 4",
        f"{JTT} --set T=0",
        f"{JTT} --set up=-1",
        f"{DRO} --set eta=-1",
        f"{DRO} --set eta=.nan",
        f"{GOOD} --trials 0",
        f"{GOOD} --trials many",
        f"{GOOD} --seeds 2000",
        f"{GOOD} --study-seed -1",
        f"{GOOD} --epochs 0",
        f"{GOOD} --search bayes",
        f"{GOOD} --scheduler hyperband",
        f"{GOOD} --select validation_worst_group",
        f"{GOOD} --select oracle_test_worst_group_accuracy",
        f"{GOOD} --precision half",
        f"{GOOD} --gpus-per-trial 1.5",
        f"{GOOD} --gpus-per-trial 64 --address local",
        f"{GOOD} --cpus-per-trial 100000 --address local",
        f"{GOOD} --max-device-hours none",
        f"{GOOD} --time-limit soon",
        f"{GOOD} --baseline {{tmp}}/none.json",
        f"{GOOD} --results /proc/nowhere/results",
        f"{GOOD} --storage {{tmp}}/results",
        f"{GOOD} --storage ftp://bucket/records",
        f"{GOOD} --set lrr=0.1 --plan",
        "--method erm --dataset waterbirds --data-root {tmp}/none",
        "--method erm --dataset folder --data-root {tmp}/none --plan",
        "--simulate {tmp}/none",
        "--simulate {tmp}/none --seeds 3",
        "doctro",
        "doctor --dataset colored_digit",
        "doctor --set lr=1",
        "doctor --cpus-per-trial 0",
        "doctor --gpus-per-trial some",
        "doctor --results /proc/nowhere/results",
        "doctor --trials 3",
        "exprot",
        "export --results {tmp}/none",
        "export --results {tmp} --baseline",
        "export --results {tmp} --baseline --dataset two_digits",
        "export --results {tmp} --baseline --dataset colored_digits",
        "export --results {tmp} --baseline --dataset two_digit",
    ),
    "-m core": (
        "",
        "--method ermm --dataset colored_digits",
        "--method erm --dataset colored_digit",
        "--method erm --dataset two_digits",
        f"{GOOD} --set lrr=0.1",
        f"{GOOD} --set epochs=3 --epochs 4",
        f"{GOOD} --set lr=1000 --epochs 1",
        f"{GOOD} --threads 0",
        f"{GOOD} --device tpu",
        f"{GOOD} --seed one",
        f"{GOOD} --baseline {{tmp}}/none.json",
        f"{GOOD} --trials 3",
        "--method erm --dataset waterbirds --data-root {tmp}/none",
    ),
    "-m core.toy": (
        "--methods cagradd",
        "--out {tmp}/toy.txt",
        "--out {tmp}/none/toy.png",
        "--steps 0",
    ),
    "-m datasets.prepare": (
        "",
        "waterbird",
        "colored_digits",
        "waterbirds --data-root {tmp}/none",
        "waterbirds --data-root {tmp}/none --check",
        "waterbirds --data-root {tmp}/none --download --source ftp://nowhere",
        "waterbirds celeba --data-root {tmp}/none --check --download",
        "waterbirds --data-root {tmp}/none --sources {tmp}/none.yaml --download",
        "waterbirds --checks",
    ),
    "-m datasets.describe": (
        "",
        "colored_digit",
        "colored_digits colored_digit",
        "waterbirds --data-root {tmp}/none",
        "colored_digits --check",
    ),
}  # fmt: skip
# These, in processes of their own, as a user's are.
PROCESSES = (
    ("tune.py", f"{GOOD} --trails 3"),
    ("tune.py", "--method ermm --dataset colored_digits"),
    ("-m core", f"{GOOD} --set lrr=0.1"),
    ("-m datasets.prepare", "waterbirds --data-root {tmp}/none --check"),
    ("-m datasets.describe", "colored_digit"),
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, None after an exception, and what it printed."""

    code: int | None
    out: str
    err: str

    @property
    def told(self) -> str:
        """Exit code and the kind of message, such as ``2 error``."""
        if self.code is None or "Traceback" in self.err:
            return f"{self.code} traceback"
        first = self.err.split("\n")[0]
        return f"{self.code} {'error' if first.startswith('error:') else 'other' if first else '-'}"


def call(command: str, arguments: Sequence[str]) -> Ended:
    """Run one of :data:`COMMANDS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGPIPE)
    code: int | None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = COMMANDS[command](arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception as error:  # a user would see a traceback
        code = None
        err.write(f"Traceback: {error!r}")
    finally:
        signal.signal(signal.SIGPIPE, before)
    return Ended(code, out.getvalue(), err.getvalue())


def digest(texts: Iterable[object]) -> str:
    """Return the digest of texts in their order."""
    joined = "\n".join(map(str, texts))
    return hashlib.sha256(joined.encode()).hexdigest()[:SHORT]


@dataclass
class Section:
    """The entries of a section by name."""

    entries: dict[str, str] = field(default_factory=dict)


def keys() -> Section:
    """Return the entries of trial keys."""
    found = Section()
    for method, dataset in embedded():
        size: Hyperparameters = {} if judges_groups(dataset) else {"batch_size": 1024}
        config: Hyperparameters = {"epochs": 2, **size, **STAGES.get(method, {})}
        found.entries[f"key/{dataset}/{method}"] = make_key(method, dataset, config)
    for name, (method, config) in SETTINGS.items():
        key = make_key(method, "colored_digits", {"epochs": 2, **config})
        found.entries[f"key/colored_digits/{method} {name}"] = key
    return found


def plans() -> Section:
    """Return the entries of ``--plan``."""
    found = Section()
    for text in PLANS:
        with tempfile.TemporaryDirectory() as folder:
            results = ["--address", "local", "--results", f"{folder}/results"]
            ended = call("tune.py", [*text.split(), "--plan", *results])
            lines = ended.out.replace(folder, "").split("\n")
            left = list(Path(folder).iterdir())
        table = [line.strip("| ").split("|") for line in lines if line.startswith("|")]
        first = next((i for i, line in enumerate(lines) if line.startswith("|")), 0)
        said = NUMBER.findall("\n".join(lines[:first]))
        rows = [[cells[column].strip() for column in PLAN_COLUMNS] for cells in table[2:]]
        found.entries[f"plan/{text}"] = digest([ended.code, len(left), said, *rows])
    return found


def exits() -> Section:
    """Return the entries of mistaken commands."""
    found = Section()
    for command, texts in MISTAKES.items():
        for text in texts:
            found.entries[f"exit/{command} {text}"] = _mistaken(command, text, call)
    for command, text in PROCESSES:
        found.entries[f"exit/python {command} {text}"] = _mistaken(command, text, _process)
    return found


def _process(command: str, arguments: Sequence[str]) -> Ended:
    """Run one of :data:`COMMANDS` in a process of its own."""
    first, *rest = command.split()
    done = run_python(first, [*rest, *arguments], timeout=120)
    return Ended(done.code, done.out, done.err)


def _mistaken(command: str, text: str, run: Callable[[str, Sequence[str]], Ended]) -> str:
    """Return how a mistaken command ended, and what it left in its folder, if anything."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = shlex.split(text.format(tmp=folder))
        studies = command == "tune.py" and text.startswith("--method")
        if studies and "--results" not in arguments:
            arguments += ["--results", f"{folder}/results"]
        told = run(command, arguments).told
        left = len(list(Path(folder).rglob("*")))
    return f"{told}, {left} left" if left else told


SECTIONS: dict[str, Callable[[], Section]] = {"keys": keys, "plans": plans, "exits": exits}


def read_golden() -> dict[str, dict[str, str]]:
    """Return the entries of the golden file by section."""
    found: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def differences(name: str, found: Section) -> list[str]:
    """Return a line for each entry of a section that differs from the golden file's."""
    expected = read_golden()[name]
    return [
        f"{entry}: golden {expected.get(entry)}, now {found.entries.get(entry)}"
        for entry in sorted({*expected, *found.entries})
        if expected.get(entry) != found.entries.get(entry)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, or write the golden file; return 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.digests", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--write", action="store_true", help=f"write {GOLDEN.name}")
    args = parser.parse_args(arguments)
    wrong = sorted({*args.sections} - {*SECTIONS})
    if wrong:
        parser.error(f"unknown section '{wrong[0]}'")
    names = args.sections or list(SECTIONS)
    found = {name: SECTIONS[name]() for name in names}
    if args.write:
        entries = {**(read_golden() if args.sections else {})}
        entries |= {name: section.entries for name, section in found.items()}
        GOLDEN.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    changed = [line for name in names for line in differences(name, found[name])]
    print("\n".join(changed) or "no difference")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
