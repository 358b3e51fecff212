"""A study over hosts that fail, started and followed as docs/clusters.md says.

``make test-cluster``; some seven minutes on two cores that have nothing else to do. For each event
a ledger line tells what was repeated and what was lost, from the records alone.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.support.command import run_tune
from tests.support.hosts import Hosts, delete_stale_namespaces, explain_missing, make_hosts

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = ROOT / "docs" / "clusters.md"
STUDY = [
    "--method", "erm", "--dataset", "colored_digits", "--search", "random", "--scheduler", "none",
    "--trials", "20", "--seeds", "3", "--epochs", "40",
]  # fmt: skip
ENTER = "export PATH=$HOME/evenhand/.venv/bin:$PATH; cd ~/evenhand; "
MEMORY = "--memory=2000000000 --object-store-memory=100000000"
TIMES = ["seconds", "device_hours"]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(bool(explain_missing()), reason=explain_missing()),
]


def commands(heading: str) -> list[str]:
    """Return the commands that the guide gives under a heading, of its first section."""
    text = GUIDE.read_text().split("\n## AWS")[0]
    section = text.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    (block,) = re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(block).replace("\\\n", " ").strip().splitlines()


# --- what the records tell ---


@dataclass(frozen=True)
class Run:
    """A training run as its record has it: its phase, its rows' seconds, its end."""

    phase: str
    seconds: tuple[float, ...]
    ended: tuple[str, int] | None  # host and process

    @property
    def finished(self) -> bool:
        return self.ended is not None


def recorded(records: Path) -> dict[str, Run]:
    """Return all runs' records."""
    found = {}
    for folder in records.glob("colored_digits/erm/runs/*"):
        try:
            phase = json.loads((folder / "run.json").read_text())["phase"]
            if (folder / "end.json").exists():
                end = json.loads((folder / "end.json").read_text())
                rows, ended = end["rows"], (end["host"], end["process"])
            else:
                rows, ended = json.loads((folder / "rows.json").read_text()), None
        except FileNotFoundError:  # not begun, or replaced at this moment
            continue
        found[folder.name] = Run(phase, tuple(row["seconds"] for row in rows), ended)
    return found


@dataclass(frozen=True)
class Entry:
    """What an event cost: runs that had finished before and were repeated or lost, and epochs."""

    event: str
    finished: int
    running: int
    repeated_runs: int
    lost_runs: int
    repeated_epochs: int

    def __str__(self) -> str:
        return (
            f"{self.event}: {self.finished} finished and {self.running} running runs before; "
            f"finished ones repeated {self.repeated_runs}, lost {self.lost_runs}; "
            f"recorded epochs of running ones repeated {self.repeated_epochs}"
        )


def entry(event: str, before: dict[str, Run], after: dict[str, Run]) -> Entry:
    """Compare the records before an event with those of the end."""
    done = {key: run for key, run in before.items() if run.finished}
    going = {key: run for key, run in before.items() if not run.finished}
    epochs = 0
    for key, run in going.items():
        later = after[key].seconds if key in after else ()
        kept = sum(a == b for a, b in zip(run.seconds, later, strict=False))
        epochs += len(run.seconds) - kept
    return Entry(
        event,
        len(done),
        len(going),
        sum(key in after and after[key] != run for key, run in done.items()),
        sum(key not in after for key in done),
        epochs,
    )


def tables(results: Path) -> dict[str, Any]:
    """Return all exported numbers that do not depend on the clock."""
    folder = results / "colored_digits" / "erm"
    best = yaml.safe_load((folder / "best_config.yaml").read_text())
    trials, seeds = (
        pd.read_csv(folder / name).drop(columns=TIMES, errors="ignore").to_dict("list")
        for name in ("trials.csv", "seeds.csv")
    )
    chosen = {key: best[key] for key in best if key not in ("provenance", "command")}
    return json.loads(json.dumps({"best": chosen, "trials": trials, "seeds": seeds}))  # type: ignore[no-any-return]


def until(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds, f"after {seconds:g} s still not: {what}"
        time.sleep(0.5)


# --- the cluster ---


class Lab:
    """A cluster on hosts, used from the host ``laptop`` as the guide says."""

    def __init__(self, made: Hosts) -> None:
        self.hosts = made
        self.records = made.shared / "records"
        self.start = time.monotonic()

    def say(self, text: str) -> None:
        line = f"[{time.monotonic() - self.start:4.0f} s] {text}"
        print(line, file=sys.stderr, flush=True)  # which a process of pytest-xdist hands through

    def laptop(self, command: str, timeout: float = 180) -> str:
        """Run a command in the project's folder on the laptop."""
        done = self.hosts.sh("laptop", ENTER + command, timeout)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"
        return done.stdout

    def status(self) -> str:
        (_, command) = commands("Watch")
        return self.laptop(command)

    def all_there(self) -> bool:
        return "/2.0 GPU" in self.status()

    def study(self, *more: str) -> None:
        """Start a study as the guide does, but a small one."""
        (command,) = commands("Run")
        options = " ".join([*STUDY, *more])
        command, count = re.subn(r"--method .* --trials 64", options, command)
        assert count == 1
        self.laptop(command.replace("--gpus-per-trial 0.25", "--gpus-per-trial 0.5"))

    def finished(self, phase: str) -> int:
        return sum(r.finished and r.phase == phase for r in recorded(self.records).values())

    def confirms(self) -> bool:
        """Whether the search is over."""
        return any(r.phase == "confirm" for r in recorded(self.records).values())

    def drivers(self) -> list[str]:
        done = self.hosts.sh("head", 'pgrep -f "^python tune.py" || true')
        return done.stdout.split()

    def kill_driver(self) -> dict[str, Run]:
        """Return the records of before."""
        before = recorded(self.records)
        drivers = self.drivers()
        assert drivers, (self.hosts.shared / "study.log").read_text()
        self.hosts.sh("head", f"kill -9 {' '.join(drivers)}")
        self.say("the driver is killed")
        until("the driver is gone", lambda: not self.drivers(), 10)
        return before


def furnish(made: Hosts) -> None:
    """Put the project and the user's key on the laptop, and fill in the cluster file."""
    home = made.hosts["laptop"].home
    shutil.copy(made.folder / "user", home / ".ssh" / "id_ed25519")
    copy_project(home / "evenhand")
    address = {name: host.address for name, host in made.hosts.items()}
    file = home / "evenhand" / "clusters" / "onprem.yaml"
    text = file.read_text()
    for old, new in (
        ("head_ip: 192.0.2.10", f"head_ip: {address['head']}"),
        ("[192.0.2.11, 192.0.2.12]", f"[{address['worker1']}, {address['worker2']}]"),
        ("ssh_user: ubuntu", "ssh_user: root"),
        # Each host would offer the whole machine's memory, and there is no GPU: it is declared.
        ("ray start --head", f"ray start {MEMORY} --head"),
        ("ray start --address", f"ray start --num-cpus=2 --num-gpus=1 {MEMORY} --address"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def copy_project(folder: Path) -> None:
    """Put the project's files there, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of the same study on this machine, without a cluster."""
    results = tmp_path_factory.mktemp("undisturbed") / "results"
    done = run_tune([*STUDY, "--results", results], timeout=600, parallel=True)
    assert done.ran_to_end, done.err
    return tables(results)


@pytest.fixture(scope="module")
def lab(undisturbed: dict[str, Any]) -> Iterator[Lab]:
    """A cluster of a head and two workers, up; gone afterwards, whatever happens."""
    with make_hosts(["laptop", "head", "worker1", "worker2"], ROOT) as made:
        furnish(made)
        found = Lab(made)
        for command in commands("Start")[:-1]:
            found.laptop(command)
        found.say("ray up is done")
        until("both workers have joined", found.all_there, 200)
        found.say("both workers have joined")
        yield found
        log = made.shared / "study.log"
        if log.exists():
            print(log.read_text()[-1500:], file=sys.stderr)


def test_who_has_no_token_stays_outside(lab: Lab) -> None:
    address = lab.hosts.hosts["head"].address
    ask = f'python -c "import ray; ray.init(address=\\"{address}:6379\\")"'
    done = lab.hosts.sh("worker1", f"{ENTER} export RAY_AUTH_TOKEN={'0' * 32}; {ask}", 60)
    assert done.returncode != 0
    assert "auth" in done.stdout.lower()


def test_the_doctor_finds_nothing_wrong(lab: Lab) -> None:
    (command,) = commands("Check")
    said = lab.laptop(command)
    assert "0 errors" in said
    assert "/mnt/shared is shared by 3 nodes" in said


def test_a_study_survives_its_machines(
    lab: Lab, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    before: dict[str, dict[str, Run]] = {}
    lab.study()
    until("two trials are finished", lambda: lab.finished("search") >= 2, 300)

    before["worker1 powered off"] = recorded(lab.records)
    lab.hosts.power_off("worker1")
    lab.say("worker1 is off")
    time.sleep(10)
    lab.hosts.power_on("worker1")
    lab.say("worker1 is on again")
    until("worker1 has joined again", lab.all_there, 240)
    lab.say("worker1 has joined again")

    before["head powered off"] = recorded(lab.records)
    done = lab.finished("search")
    lab.hosts.power_off("head")
    lab.say("the head is off")
    lab.hosts.power_on("head")
    for command in commands("Start")[3:-1]:  # with the token that the laptop has
        lab.laptop(command)
    until("both workers have joined the new head", lab.all_there, 240)
    lab.say("both workers have joined the new head")
    lab.study("--resume")
    until("a trial is finished", lambda: lab.finished("search") > done or lab.confirms(), 240)

    before["worker2 cut off for 90 s"] = recorded(lab.records)
    lab.hosts.cut("worker2")
    lab.say("worker2 is cut off")
    healed = time.monotonic() + 90

    def over() -> bool:
        return time.monotonic() > healed

    until("90 s are over, or a seed is begun", lambda: over() or lab.confirms(), 100)
    if not over():  # the other worker has done what was left of the search: the study ends soon
        before["driver killed"] = lab.kill_driver()
    until("90 s are over", over, 100)
    lab.hosts.heal("worker2")
    lab.say("worker2 is back")

    if "driver killed" not in before:
        until("a seed is begun", lab.confirms, 240)
        before["driver killed"] = lab.kill_driver()
    assert not (lab.hosts.shared / "results" / "colored_digits" / "table.md").exists()
    lab.study("--resume")
    lab.say("resumed")
    log = lab.hosts.shared / "study.log"
    until("the study is done", lambda: not lab.drivers() and "results:" in log.read_text(), 400)
    lab.say("the study is done")

    (command,) = commands("Copy the results back")
    lab.laptop(command)
    home = lab.hosts.hosts["laptop"].home / "evenhand" / "results"
    assert tables(home) == undisturbed

    after = recorded(lab.records)
    assert all(run.finished for run in after.values())
    hosts_used = {run.ended[0] for run in after.values() if run.ended}
    assert hosts_used <= {"worker1", "worker2"}
    for event, runs in before.items():
        line = entry(event, runs, after)
        lab.say(f"ledger: {line}")
        assert line.repeated_runs == line.lost_runs == 0
        assert line.repeated_epochs <= line.running
    assert "token" not in "".join(p.read_text() for p in lab.records.rglob("*.json")).lower()


def test_the_cluster_ends(lab: Lab) -> None:
    (command,) = commands("End")
    lab.laptop(command)

    def rays(name: str) -> str:
        return lab.hosts.sh(name, "pgrep -x raylet; pgrep -x gcs_server; true").stdout.strip()

    assert not rays("head")
    until("the workers' processes have ended", lambda: not rays("worker1") + rays("worker2"), 150)
    lab.say("ray down: no process of Ray is left")


def test_hosts_go_with_their_maker() -> None:
    """Even when that is killed: no process of theirs outlives it."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.support.hosts import make_hosts\n"
        "with make_hosts(['one'], Path('.').absolute()) as made:\n"
        "    print(made.hosts['one'].first, made.folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    number, folder = done.stdout.split()
    until("its process 1 has ended", lambda: not Path("/proc", number).exists(), 10)
    shutil.rmtree(folder)
    delete_stale_namespaces()
