"""Golden digests: what a change that must change no behaviour leaves exactly as it is.

``python -m tests.digests`` computes all entries anew, prints each difference from
``tests/digests.json`` and exits with 1 if there is one; ``--write`` writes that file instead.
Names of sections (``python -m tests.digests runs exits``) restrict either to them.

An entry is a short digest of numbers. It depends neither on the names of fields, columns and files
nor on the order of keys: records are flattened to their leaves, and those are sorted. So what
renames or moves things passes, and what computes, counts or writes anything else does not.

=========== =================================================================================
section     entries
=========== =================================================================================
``runs``    keys, epochs and test metrics of every method on every embedded benchmark that it
            fits, of some settings, and (``real``) of some methods on pieces of real data
``plans``   what ``--plan`` counts: trials, seeds and epochs, not hours and disk
``study``   what a small study exports and records, without what clock and machine say
``simulate`` what ``--simulate`` finds in made-up records
``exits``   exit codes of mistaken commands, and that each gets a message and no traceback
=========== =================================================================================

Numbers are the same bits only on the same kind of CPU. Where it, or torch, is another one than in
the golden file, entries other than keys, plans and exit codes are left out, which is told.
"""

import argparse
import contextlib
import csv
import hashlib
import importlib.util
import io
import json
import platform
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

# ------------------------------------------------------------------------------------------------
# ADAPTOR: all that touches the project. A change that moves or renames something edits this alone.
# isort: split
import core.__main__
import core.toy.__main__
import datasets
import datasets.describe
import datasets.prepare
import tuning.cli.main
from common.hyperparameters import Hyperparameters as Config
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.training.run import Run
from datasets.groups.base import GroupBenchmark
from tests.conftest import EMBEDDED, fitting
from tests.support.command import run_python
from tests.test_every_dataset import BATCHES, EVERY
from tests.tuning.search.test_simulate import write as write_simulated_records

# Values, by their fields' names, that clock, checkout or machine decide: they are left out.
SKIPPED_FIELDS = {
    "seconds", "device_hours",  # the clock
    "commit", "code_differs", "python", "packages",  # the checkout and what is installed
    "machine", "host", "process",  # where it ran
    "record_version",  # raised since
}  # fmt: skip
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


@dataclass(frozen=True)
class Trained:
    """What a training run came to: its key's digest, a record per epoch, its test metrics."""

    key: str
    epochs: Sequence[Mapping[str, Any]]
    test: Mapping[str, Any]


def train(method: str, dataset: str, config: Config, root: Path | None = None) -> Trained:
    """Train a method with seed 0 on one CPU thread, in float32, to the end of its last stage."""
    benchmark = (
        datasets.load_benchmark(dataset) if root is None else datasets.load_benchmark(dataset, root)
    )
    environment = detect_environment(gpu=False, threads=1, precision="float32")
    resolved = resolve_method(load_method(method), benchmark)
    key = resolved.make_key(config, 0, environment)
    run = Run(key, benchmark)
    epochs = [run.train_epoch().as_dict() for _ in range(run.total_epochs)]
    return Trained(key.digest, epochs, run.evaluate_split("test").compute_metrics())


def embedded() -> list[tuple[str, str]]:
    """Return every method with every embedded benchmark that it fits."""
    return fitting(list_methods(), EMBEDDED)


def judges_groups(dataset: str) -> bool:
    """Return whether a benchmark has groups, and not tasks."""
    return isinstance(datasets.load_benchmark(dataset), GroupBenchmark)


def lay_out(dataset: str, root: Path) -> None:
    """Prepare a small piece of a real data set; pytest's skip where there is none here."""
    EVERY[dataset][0](root)
    ended = call("-m datasets.prepare", [dataset, "--data-root", str(root)])
    assert ended.code == 0, ended.err


def small(dataset: str) -> Config:
    """Return the settings with which a piece of a real data set trains in a second."""
    return {"model": EVERY[dataset][1], "batch_size": BATCHES.get(dataset, 24)}


# The end of the adaptor.
# ------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).with_suffix(".json")
SHORT = 12  # hexadecimal digits of an entry
EXACT = ("key/", "plan/", "exit/")  # of these entries nothing depends on the CPU
KEYS = re.compile(r"[0-9a-f]{16}( [0-9a-f]{16})*")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?")

# The shortest runs through all stages of the methods that have several.
STAGES: dict[str, Config] = {"jtt": {"T": 1, "up": 4}, "tapt": {"pretrain_epochs": 1}}

# Settings of which each takes another way through a run, on colored_digits.
SETTINGS: dict[str, tuple[str, Config]] = {
    "adamw": ("erm", {"optimizer": "adamw", "lr": 0.001, "weight_decay": 0.01}),
    "linear": ("rwg", {"schedule": "linear", "warmup": 0.3, "clip_norm": 1.0}),
    "cosine": ("erm", {"schedule": "cosine_with_restarts", "warmup": 0.1}),
    "plateau": ("erm", {"schedule": "plateau", "epochs": 4}),
    "step": ("erm", {"schedule": "step", "epochs": 4}),
    "microbatch": ("rwg", {"batch_size": 64, "microbatch": 16}),
}

REAL: dict[str, tuple[str, ...]] = {
    "waterbirds": ("erm_mt_l1", "dfr", "jtt"),
    "celeba": ("erm_mt2_l1", "rwg"),
    "multinli": ("erm_mt_l1", "dro"),
    "civilcomments": ("tapt", "erm"),
    "folder": ("erm_mt2_l1", "subg"),
    "nyuv2": ("ls", "fairgrad"),
    "cityscapes": ("cagrad", "uw"),
    "celeba40": ("uw", "famo"),
    "qm9": ("ls", "stl"),
}

PLANS = (
    "--method all --dataset colored_digits",
    "--method erm rwg --dataset colored_digits --epochs 20 --search-seeds 3 --seeds 7 --trials 9",
    "--method jtt dfr tapt --dataset colored_digits --epochs 7 --trials 27",
    "--method jtt --dataset colored_digits --scheduler none --trials 5 --set T=2",
    "--method dro --dataset colored_digits --search grid",
    "--method all --dataset two_digits --search published",
    "--method ls fairgrad --dataset imbalanced_tasks --search random --trials 10 --epochs 3",
)

STUDY = (
    "--method erm jtt --dataset colored_digits --search random --scheduler none --trials 3 "
    "--epochs 2 --seeds 2 --address local"
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
        "--method erm --dataset waterbirds --data-root {tmp}/none --plan",
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


@dataclass
class Leaves:
    """The leaves of nested data: numbers, exactly, and words."""

    numbers: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, data: object) -> None:
        """Add what some data hold, without :data:`SKIPPED_FIELDS`; a list of numbers is one."""
        if isinstance(data, Mapping):
            for name, value in data.items():
                if name not in SKIPPED_FIELDS:
                    self.add(value)
        elif isinstance(data, (list, tuple)):
            if all(isinstance(item, (int, float)) for item in data):
                self.numbers.append(f"[{' '.join(map(exactly, data))}]")
            else:
                for item in data:
                    self.add(item)
        elif isinstance(data, (bool, int, float)):
            self.numbers.append(exactly(data))
        elif data is not None:
            self.words.append(str(data))


def exactly(number: float) -> str:
    """Return a number's text, that of another number never."""
    return number.hex() if isinstance(number, float) else str(number)


def digest(texts: Iterable[object]) -> str:
    """Return the digest of texts in their order."""
    joined = "\n".join(map(str, texts))
    return hashlib.sha256(joined.encode()).hexdigest()[:SHORT]


def leaves(*data: object) -> Leaves:
    """Return the sorted leaves of some data."""
    found = Leaves()
    for item in data:
        found.add(item)
    return Leaves(sorted(found.numbers), sorted(found.words))


def numbers(rows: Iterable[object]) -> str:
    """Return the digest of rows' numbers: sorted within a row, the rows in their order."""
    return digest(leaves(row).numbers for row in rows)


@dataclass
class Section:
    """What was computed: entries by name, and by their names' start those left out, and why."""

    entries: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def trained(self, name: str, run: Trained) -> None:
        """Add what a training run came to."""
        self.entries[f"key/{name}"] = run.key
        self.entries[f"epochs/{name}"] = numbers(run.epochs)
        self.entries[f"test/{name}"] = numbers([run.test])


def runs() -> Section:
    """Return the entries of embedded benchmarks."""
    found = Section()
    for method, dataset in embedded():
        size: Config = {} if judges_groups(dataset) else {"batch_size": 1024}
        config: Config = {"epochs": 2, **size, **STAGES.get(method, {})}
        found.trained(f"{dataset}/{method}", train(method, dataset, config))
    for name, (method, config) in SETTINGS.items():
        run = train(method, "colored_digits", {"epochs": 2, **config})
        found.trained(f"colored_digits/{method} {name}", run)
    return found


def real() -> Section:
    """Return the entries of pieces of real data sets."""
    found = Section()
    for dataset, chosen in REAL.items():
        if dataset == "qm9" and importlib.util.find_spec("rdkit") is None:
            found.left_out[f"{dataset}/"] = "requirements-qm9.txt is not installed"
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                lay_out(dataset, Path(folder))
            except pytest.skip.Exception as skipped:
                found.left_out[f"{dataset}/"] = str(skipped)
                continue
            for method in chosen:
                config: Config = {"epochs": 1, **small(dataset), **STAGES.get(method, {})}
                found.trained(f"{dataset}/{method}", train(method, dataset, config, Path(folder)))
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


def study() -> Section:
    """Return the entries of what a small study exports and records."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        done = run_python("tune.py", [*STUDY.split(), "--results", results], timeout=900)
        assert done.code == 0, done.err
        return exported(results)


def exported(results: Path) -> Section:
    """Return the entries of a results folder and of the records beside it."""
    found = Section()
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results)
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            columns = [leaves(table[column].tolist()) for column in table]
            found.entries[f"exported/{name}"] = digest(sorted(column.numbers for column in columns))
        elif path.suffix in (".csv", ".json", ".yaml"):
            rows = _read(path)
            found.entries[f"exported/{name} numbers"] = numbers(rows)
            found.entries[f"exported/{name} words"] = digest(leaves(row).words for row in rows)
            if path.name == "trials.csv":
                keys = [word for word in leaves(*rows).words if KEYS.fullmatch(word)]
                found.entries[f"key/study/{name.parent}"] = digest(keys)
    for records in sorted(results.parent.glob(f"{results.name}.records/*/*")):
        by_folder: dict[Path, list[object]] = {}
        for path in sorted(records.rglob("*.json")):
            by_folder.setdefault(path.parent, []).append(json.loads(path.read_text()))
        each = [digest(leaves(*parts).numbers) for parts in by_folder.values()]
        name = records.relative_to(records.parents[1])
        found.entries[f"recorded/{name}"] = digest(sorted(each))
    return found


def _read(path: Path) -> list[object]:
    """Return a file's rows: of a table each row, of anything else one."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        table = csv.DictReader(io.StringIO(text))
        return [{name: _value(cell) for name, cell in row.items()} for row in table]
    return [json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)]


def _value(cell: str) -> object:
    """Return what a table's cell says; a key, which may be all digits, is a word."""
    if KEYS.fullmatch(cell):
        return cell
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(cell)
    return {"": None, "True": True, "False": False}.get(cell, cell)


def simulate() -> Section:
    """Return the entry of ``--simulate``."""
    with tempfile.TemporaryDirectory() as folder:
        write_simulated_records(Path(folder) / "dataset" / "method", 30)
        ended = call("tune.py", ["--simulate", f"{folder}/dataset/method", "--trials", "9"])
    said = NUMBER.findall(ended.out.replace(folder, ""))
    assert ended.code == 0, ended.err
    return Section({"simulate": digest(said)})


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


SECTIONS: dict[str, Callable[[], Section]] = {
    "exits": exits, "simulate": simulate, "plans": plans, "runs": runs, "real": real,
    "study": study,
}  # fmt: skip


def fingerprint() -> dict[str, str]:
    """Return what the bits of numbers depend on."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    parts = [re.search(rf"^{n}\s*: (.*)$", text, re.M) for n in ("model name", "model", "stepping")]
    return {
        "cpu": " / ".join(part[1] for part in parts if part) or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def golden() -> dict[str, Any]:
    """Return what the golden file holds."""
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def strange() -> str:
    """Return in what this machine differs from the golden file's; empty if in nothing."""
    theirs, ours = golden()["fingerprint"], fingerprint()
    return ", ".join(
        f"{n}: {theirs[n]} there, {ours[n]} here" for n in ours if theirs[n] != ours[n]
    )


def differences(name: str, found: Section) -> list[str]:
    """Return a line for each entry of a section that differs from the golden file's.

    Where the machine is of another kind, only entries that do not depend on it are compared.
    """
    exact_alone = bool(strange())
    expected: dict[str, str] = golden()["entries"][name]
    lines = []
    for entry in sorted({*expected, *found.entries}):
        if exact_alone and not entry.startswith(EXACT):
            continue
        here = found.entries.get(entry)
        if here is None and any(start in entry for start in found.left_out):
            continue
        if expected.get(entry) != here:
            lines.append(f"{entry}: golden {expected.get(entry)}, now {here}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, or write the golden file; return 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.digests", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--write", action="store_true", help=f"write {GOLDEN.name}")
    args = parser.parse_args(arguments)
    wrong = sorted({*args.sections} - {*SECTIONS})
    if wrong:
        parser.error(f"unknown section '{wrong[0]}'")
    if args.write and args.sections and strange():
        parser.error(f"--write: all sections are of one machine ({strange()})")
    entries: dict[str, dict[str, str]] = golden()["entries"] if args.sections else {}
    changed: list[str] = []
    if not args.write and strange():
        print(f"numbers are not compared, for the machine is another one ({strange()})")
    for name in args.sections or SECTIONS:
        start = time.perf_counter()
        found = SECTIONS[name]()
        entries[name] = found.entries
        seconds = time.perf_counter() - start
        print(f"{name}: {len(found.entries)} entries, {seconds:.0f} s", flush=True)
        for what, reason in found.left_out.items():
            print(f"{name}: {what} left out: {reason}")
        if not args.write:
            changed += differences(name, found)
    if args.write:
        data = {"fingerprint": fingerprint(), "entries": entries}
        GOLDEN.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"written: {GOLDEN.name}, {sum(map(len, entries.values()))} entries")
        return 0
    print("\n".join(changed) or "no difference")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
