"""A Ray cluster on this machine whose GPU is only declared."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.command import clean_environment, list_descendants


def _start(name: str, **more: str) -> tuple["subprocess.Popen[str]", str, Path]:
    """Start a Ray cluster on loopback with a GPU that is only declared; give its address."""
    folder = Path("/tmp") / f"evenhand-{name}-{os.getpid()}"  # Ray's sockets need a short path
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = str(Path(sys.executable).with_name("ray"))
    process = subprocess.Popen(
        [ray, "start", "--head", f"--port={port}", "--num-cpus=4", "--num-gpus=1", "--block",
         "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--temp-dir={folder}",
         "--disable-usage-stats"],
        env={**clean_environment(), **more}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "--block" in line:  # the cluster is up and this command now waits
            break
    return process, f"127.0.0.1:{port}", folder


def _stop(process: "subprocess.Popen[str]") -> None:
    """End such a cluster at once; in order, it would take half a minute."""
    for number in list_descendants(process.pid):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.communicate(timeout=60)


@contextmanager
def cluster_with_declared_gpu(name: str, **variables: str) -> Iterator[str]:
    """Yield the address of a cluster with 4 CPUs and a GPU that does not exist.

    Args:
        name: A short name of its folder.
        variables: Environment variables of its processes.
    """
    process, address, folder = _start(name, **variables)
    try:
        yield address
    finally:
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)
