"""Compiles the dependencies of pyproject.toml into the hashed requirements files.

Run it with ``make lock``. It writes six files, which hold for Linux (x86-64 and aarch64) and
macOS (arm64) on Python 3.11 to 3.13:

* ``requirements.txt``: what a run needs.
* ``requirements-dev.txt``: the same, plus the tools of the ``dev`` extra.
* ``requirements-qm9.txt``: what the data set qm9 needs on top of ``requirements.txt``; it is in
  ``requirements-dev.txt`` too.
* ``requirements-head.txt``: what the head of a cluster needs on top of ``requirements.txt``: Ray's
  dashboard, and what starts machines on clouds.
* ``requirements-cuda.txt``: what the CUDA build of torch needs on top of either file.
* ``requirements-cpu.txt``: torch's CPU build, for machines whose pip is configured to find one.

The files are complete, so pip installs them with ``--no-deps --require-hashes``. The CPU and CUDA
files are apart because the usual torch wheel is a CUDA build on Linux and needs gigabytes of
further packages, which a machine with a CPU build at hand must not be made to download. Naming the
CPU build's hash in ``requirements.txt`` is not enough for that: of two wheels whose hashes it
accepts, pip takes the one whose hash it knows beforehand, and a wheel in a local folder is the
other. ``make install`` therefore tries ``requirements-cpu.txt`` first.

Versions already pinned are kept as long as pyproject.toml allows them; ``--upgrade`` takes the
newest. The files hold names, versions, markers and hashes, and no address of an index and no path:
each machine's own configuration of pip says where packages come from. A second run changes nothing.
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

# Hashes of upstream's CPU builds of torch, per release as the registry names it. The registry does
# not have these wheels; a machine may offer them to pip in a folder or an index of its own. Add a
# line per wheel; replace the lines when the lock moves to another release.
CPU_HASHES: dict[str, tuple[str, ...]] = {
    "torch==2.13.0": (
        # torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl
        "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    ),
}

# Packages that only the CUDA build of torch needs.
CUDA = re.compile(r"(nvidia|cuda)-.+|triton")

# The environments that the lock holds for, as the variables that markers read.
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
    "requirements-head.txt": "What the head of a cluster needs besides requirements.txt.",
    "requirements-cuda.txt": "What the CUDA build of torch needs besides requirements.txt.",
}


@dataclass(frozen=True)
class Pin:
    """One package of the lock: its version, where it applies, its hashes and who asked for it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    via: tuple[str, ...]

    @property
    def key(self) -> str:
        """The pin without marker and hashes."""
        return f"{self.name}=={self.version}"

    def text(self) -> str:
        """The pin's lines in a requirements file."""
        head = f"{self.key} ; {self.marker}" if self.marker else self.key
        hashes = [f"    --hash={value}" for value in self.hashes]
        return " \\\n".join([head, *hashes]) + "\n" + "".join(f"{line}\n" for line in self.via)


def simplify(marker: str) -> str:
    """Shortens uv's marker, which repeats the lock's environments, without changing its meaning."""
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


def parse(text: str) -> list[Pin]:
    """Reads the pins of a requirements file that uv or this script wrote."""
    pins: list[Pin] = []
    for line in text.splitlines():
        body = line.removesuffix("\\").strip()
        if line.startswith(("#", "-")) or not body:  # an option would be this machine's own
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
    """Lets uv solve pyproject.toml, preferring the versions of the known pins."""
    # uv finds packages by the machine's own configuration, of which this script knows nothing.
    # Should uv copy any of it into what it writes, parse() leaves that out.
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
        pins = parse(output.read_text(encoding="utf-8"))
    return [
        replace(
            pin,
            marker=simplify(pin.marker),
            hashes=tuple(sorted({*pin.hashes, *CPU_HASHES.get(pin.key, ())})),
        )
        for pin in pins
    ]


def write(name: str, pins: Iterable[Pin]) -> None:
    """Writes one requirements file."""
    header = HEADER.format(purpose=PURPOSES[name], name=name)
    text = header + "".join(pin.text() for pin in pins)
    ROOT.joinpath(name).write_text(text, encoding="utf-8")


def main() -> None:
    """Compiles the lock and writes its files."""
    parser = argparse.ArgumentParser(description="Compile pyproject.toml into hashed requirements.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest allowed versions")
    upgrade = parser.parse_args().upgrade

    locked = [ROOT / f"requirements-{name}.txt" for name in ("dev", "cuda", "head")]
    known = [
        pin
        for path in locked
        if path.exists() and not upgrade
        for pin in parse(path.read_text(encoding="utf-8"))
    ]
    everything = compile_pins(known, ["--extra", "dev", "--extra", "qm9"])
    run = compile_pins(everything, [])
    qm9 = compile_pins(everything, ["--extra", "qm9"])
    names = {pin.name for pin in everything}
    alone = [pin for pin in known if pin.name not in names]
    head = compile_pins([*everything, *alone], ["--extra", "head"])

    pinned = {pin.key for pin in everything}
    besides = [pin for pin in head if pin.name in names]
    if strays := [pin.key for pin in (*run, *qm9, *besides) if pin.key not in pinned]:
        sys.exit(f"the locks disagree with the developer's on {', '.join(sorted({*strays}))}")
    if stale := CPU_HASHES.keys() - pinned:
        sys.exit(f"CPU_HASHES names releases that left the lock: {', '.join(sorted(stale))}")
    cpu = [
        replace(pin, version=f"{pin.version}+cpu", hashes=CPU_HASHES[pin.key], via=())
        for pin in run
        if pin.key in CPU_HASHES
    ]

    write("requirements.txt", [pin for pin in run if not CUDA.fullmatch(pin.name)])
    write("requirements-dev.txt", [pin for pin in everything if not CUDA.fullmatch(pin.name)])
    always = {pin.key for pin in run}
    write("requirements-qm9.txt", [pin for pin in qm9 if pin.key not in always])
    write("requirements-head.txt", [pin for pin in head if pin.key not in always])
    write("requirements-cpu.txt", cpu)
    write("requirements-cuda.txt", [pin for pin in run if CUDA.fullmatch(pin.name)])


if __name__ == "__main__":
    main()
