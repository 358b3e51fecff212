"""The environment of a run: device, precision, threads. Part of a trial's key."""

import contextlib
import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Environment:
    """The environment in which a run computes.

    Args:
        device: ``cpu`` or ``cuda``.
        device_class: ``cpu`` or the GPU's name; the same key means the same numbers.
        precision: ``float32`` or ``bfloat16`` (autocast).
        threads: Threads of a CPU operation.
        deterministic: Bit-for-bit the same numbers on CUDA too, at some cost; on CPU always.
    """

    device: str
    device_class: str
    precision: str
    threads: int
    deterministic: bool

    def configure_process(self) -> None:
        """Set this process's threads, determinism and kernels."""
        if self.deterministic:  # CUDA's matrix products require it
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(self.threads)
        # use_deterministic_algorithms does the same, and imports the compiler, which takes seconds.
        deterministic = self.deterministic or self.device == "cpu"
        torch.set_deterministic_debug_mode("error" if deterministic else "default")
        torch.backends.cudnn.benchmark = not self.deterministic
        # It plans each new shape anew, and batches of texts have ever new lengths.
        torch.backends.cuda.enable_cudnn_sdp(False)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context manager in which models compute."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)


PRECISIONS = ("auto", "float32", "bfloat16")


def detect_environment(
    gpu: bool | None = None,
    threads: int = 1,
    deterministic: bool = False,
    precision: str = "auto",
) -> Environment:
    """Detect the environment of this process.

    Args:
        gpu: Whether to compute on a GPU; None takes one where there is one.
        threads: Threads of a CPU operation.
        deterministic: As in :class:`Environment`.
        precision: One of :data:`PRECISIONS`; ``auto`` is bfloat16 on GPUs that have it, and
            float32 elsewhere.
    """
    if not (torch.cuda.is_available() if gpu is None else gpu):
        chosen = "float32" if precision == "auto" else precision
        return Environment("cpu", "cpu", chosen, threads, deterministic)
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cuda"
    if precision == "auto":
        half = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if half else "float32"
    return Environment("cuda", name, precision, threads, deterministic)
