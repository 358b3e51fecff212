"""Compile the dependencies of pyproject.toml into hashed requirements files.

Run it with ``make lock``. It writes ten files for Linux (x86-64 and aarch64) and macOS (arm64),
Python 3.11 to 3.13:

* ``requirements.txt``: the dependencies of a run.
* ``requirements-dev.txt``: the same, and the tools of the ``dev`` extra.
* ``requirements-qm9.txt``: further dependencies of the data set qm9, which are in
  ``requirements-dev.txt`` too.
* ``requirements-timm.txt``: further dependencies of models ``timm/NAME``; in no other file.
* ``requirements-metaworld.txt``: further dependencies of the data sets mt1, mt10, mt25 and mt50.
* ``requirements-mlflow.txt``, ``requirements-wandb.txt``: further dependencies of ``--log``.
* ``requirements-head.txt``: further dependencies of a cluster's head node: Ray's dashboard and
  cloud launchers.
* ``requirements-cuda.txt``: further dependencies of torch's CUDA build.
* ``requirements-cpu.txt``: torch's CPU build, for machines whose pip is configured to find it.

The files are complete, so pip installs them with ``--no-deps --require-hashes``. The CPU and CUDA
files are separate because torch's usual Linux wheel is a CUDA build with gigabytes of dependencies,
which a machine with a CPU build should not download. Listing the CPU build's hash in
``requirements.txt`` is not enough: of two wheels with accepted hashes, pip prefers the one whose
hash it knows from the index to the one in a local folder. ``make install`` therefore tries
``requirements-cpu.txt`` first.

Pinned versions are kept as long as pyproject.toml allows them; ``--upgrade`` selects the newest.
The files contain names, versions, markers and hashes but no index URLs or paths, because each
machine configures pip itself. A second run changes nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent

# Hashes of upstream's CPU builds of torch by release. PyPI does not have these wheels, but a
# machine may offer them to pip in a folder or another index. Add a line per wheel, and replace the
# lines when the lock changes to another release.
CPU_HASHES: dict[str, tuple[str, ...]] = {
    "torch==2.13.0": (
        # torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl
        "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    ),
}

# Packages that only the CUDA build of torch needs.
CUDA_PACKAGES = re.compile(r"(nvidia|cuda)-.+|triton")

# Extras that are not among the dependencies of development.
SEPARATE_EXTRAS = ("head", "timm", "metaworld", "mlflow", "wandb")

# The environments that the lock supports, as the variables of markers.
LINUX, MACOS = (
    [
        {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_system": platform_system,
            "python_full_version": f"{python}.9",
            "python_version": python,
            "sys_platform": sys_platform,
        }
        for machine in machines
        for python in ("3.11", "3.12", "3.13")
    ]
    for sys_platform, platform_system, machines in (
        ("linux", "Linux", ("x86_64", "aarch64")),
        ("darwin", "Darwin", ("arm64",)),
    )
)

HEADER = """\
# {purpose}
# Written by tools/lock.py (make lock) from pyproject.toml: do not edit.
# For Linux (x86-64, aarch64) and macOS (arm64), Python 3.11 to 3.13.
# Install with: pip install --no-deps --require-hashes -r {name}
"""

PURPOSES = {
    "requirements.txt": "What a run of evenhand needs.",
    "requirements-dev.txt": "What a run of evenhand needs, and the tools to develop it.",
    "requirements-cpu.txt": "The CPU build of torch, to install before requirements.txt.",
    "requirements-qm9.txt": "What the data set qm9 needs besides requirements.txt.",
    "requirements-timm.txt": "What models of timm need besides requirements.txt.",
    "requirements-metaworld.txt": "What the data sets mt1 to mt50 need besides requirements.txt.",
    "requirements-mlflow.txt": "What --log mlflow needs besides requirements.txt.",
    "requirements-wandb.txt": "What --log wandb needs besides requirements.txt.",
    "requirements-head.txt": "What the head of a cluster needs besides requirements.txt.",
    "requirements-cuda.txt": "What the CUDA build of torch needs besides requirements.txt.",
}


@dataclass(frozen=True)
class Pin:
    """A pinned package.

    Args:
        name: The package.
        version: Its version.
        marker: The environments that need it, empty for all.
        hashes: The hashes of its files.
        via: Comment lines that name the packages that require it.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    via: tuple[str, ...]

    @property
    def key(self) -> str:
        """The requirement without marker and hashes."""
        return f"{self.name}=={self.version}"

    @property
    def is_cuda_only(self) -> bool:
        """Whether only the CUDA build of torch needs the package."""
        return CUDA_PACKAGES.fullmatch(self.name) is not None

    def format_lines(self) -> str:
        """Return the pin's lines in a requirements file."""
        head = f"{self.key} ; {self.marker}" if self.marker else self.key
        hashes = [f"    --hash={value}" for value in self.hashes]
        return " \\\n".join([head, *hashes]) + "\n" + "".join(f"{line}\n" for line in self.via)


def simplify_marker(marker: str) -> str:
    """Return an equivalent of uv's marker without the conditions that all environments meet."""
    if not marker:
        return ""
    parsed = Marker(marker)
    linux = {parsed.evaluate(environment) for environment in LINUX}
    macos = {parsed.evaluate(environment) for environment in MACOS}
    if linux == macos == {True}:
        return ""
    if linux == {True} and macos == {False}:
        return "sys_platform == 'linux'"
    return marker


def parse_pins(text: str) -> list[Pin]:
    """Parse the pins of a requirements file that uv or this script wrote."""
    pins: list[Pin] = []
    for line in text.splitlines():
        body = line.removesuffix("\\").strip()
        if line.startswith(("#", "-")) or not body:  # options belong to one machine
            continue
        if body.startswith("--hash="):
            value = body.removeprefix("--hash=")
            pins[-1] = replace(pins[-1], hashes=(*pins[-1].hashes, value))
        elif body.startswith("#"):
            pins[-1] = replace(pins[-1], via=(*pins[-1].via, line.rstrip()))
        else:
            requirement, _, marker = body.partition(";")
            name, _, version = requirement.strip().partition("==")
            pins.append(Pin(name, version, marker.strip(), (), ()))
    return pins


def compile_pins(known: Iterable[Pin], options: Sequence[str]) -> list[Pin]:
    """Resolve pyproject.toml with uv, preferring the versions of the known pins.

    Args:
        known: Pins whose versions are preferred.
        options: Further options of ``uv pip compile``.
    """
    # uv reads the machine's configuration and may copy options from it into its output, which
    # parse_pins() leaves out.
    command = [os.environ.get("UV", str(Path(sys.executable).with_name("uv")))]
    command += ["pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11"]
    command += [
        "--fork-strategy",
        "fewest",
        "--generate-hashes",
        "--no-header",
        "--quiet",
        *options,
    ]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "requirements.txt")
        output.write_text("".join(f"{pin.key}\n" for pin in known), encoding="utf-8")
        subprocess.run([*command, "--output-file", str(output)], cwd=ROOT, check=True)
        pins = parse_pins(output.read_text(encoding="utf-8"))
    return [
        replace(
            pin,
            marker=simplify_marker(pin.marker),
            hashes=tuple(sorted({*pin.hashes, *CPU_HASHES.get(pin.key, ())})),
        )
        for pin in pins
    ]


def write_requirements(name: str, pins: Iterable[Pin]) -> None:
    """Write a requirements file."""
    header = HEADER.format(purpose=PURPOSES[name], name=name)
    text = header + "".join(pin.format_lines() for pin in pins)
    ROOT.joinpath(name).write_text(text, encoding="utf-8")


def main() -> None:
    """Compile the lock and write its files."""
    parser = argparse.ArgumentParser(description="Compile pyproject.toml into hashed requirements.")
    parser.add_argument("--upgrade", action="store_true", help="select the newest allowed versions")
    upgrade = parser.parse_args().upgrade

    locked = [ROOT / f"requirements-{name}.txt" for name in ("dev", "cuda", *SEPARATE_EXTRAS)]
    known = [
        pin
        for path in locked
        if path.exists() and not upgrade
        for pin in parse_pins(path.read_text(encoding="utf-8"))
    ]
    everything = compile_pins(known, ["--extra", "dev", "--extra", "qm9"])
    run = compile_pins(everything, [])
    qm9 = compile_pins(everything, ["--extra", "qm9"])
    names = {pin.name for pin in everything}
    others = [pin for pin in known if pin.name not in names]
    separate = {
        name: compile_pins([*everything, *others], ["--extra", name]) for name in SEPARATE_EXTRAS
    }

    pinned = {pin.key for pin in everything}
    shared = [pin for pins in separate.values() for pin in pins if pin.name in names]
    if conflicts := [p.key for p in (*run, *qm9, *shared) if p.key not in pinned]:
        sys.exit(f"versions differ from requirements-dev.txt: {', '.join(sorted({*conflicts}))}")
    if stale := CPU_HASHES.keys() - pinned:
        sys.exit(f"CPU_HASHES: remove releases not in the lock: {', '.join(sorted(stale))}")
    cpu = [
        replace(pin, version=f"{pin.version}+cpu", hashes=CPU_HASHES[pin.key], via=())
        for pin in run
        if pin.key in CPU_HASHES
    ]

    everywhere = {pin.key for pin in run}
    write_requirements("requirements.txt", [pin for pin in run if not pin.is_cuda_only])
    write_requirements("requirements-dev.txt", [pin for pin in everything if not pin.is_cuda_only])
    write_requirements("requirements-qm9.txt", [pin for pin in qm9 if pin.key not in everywhere])
    for name, pins in separate.items():
        own = [pin for pin in pins if pin.key not in everywhere]
        write_requirements(f"requirements-{name}.txt", own)
    write_requirements("requirements-cpu.txt", cpu)
    write_requirements("requirements-cuda.txt", [pin for pin in run if pin.is_cuda_only])


if __name__ == "__main__":
    main()
