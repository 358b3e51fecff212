"""The runtime environment of workers: a command's code, and the variables that locate data."""

import os

from ray.runtime_env import RuntimeEnv

from common.errors import UserError
from common.project import ROOT, SOURCE_FOLDERS

MAX_CODE_BYTES = 50 * 2**20
# Where an object store is, for workers on other machines; they have their own credentials.
STORE_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
# Where data and models are.
DATA_VARIABLES = ("EVENHAND_CACHE", "HF_HOME", "TORCH_HOME")


def make_runtime_environment(local: bool) -> RuntimeEnv:
    """Return Ray's runtime environment of the workers.

    Args:
        local: Whether all workers run on this machine, and read its code.
    """
    variables = {"PYTHONWARNINGS": "ignore"}
    # A worker may have another working folder, to which a relative one would refer.
    own = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
           if path]  # fmt: skip
    if paths := [str(ROOT), *own] if local else own:
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    names = (*STORE_VARIABLES, *DATA_VARIABLES)
    # A worker's home folder is its own, other variables are not there.
    variables |= {n: os.path.expandvars(os.environ[n]) for n in names if n in os.environ}
    code = RuntimeEnv() if local else upload_code()
    code["env_vars"] = variables
    return code


def upload_code() -> RuntimeEnv:
    """Return the runtime environment by which Ray sends this command's code to the workers.

    Ray stores it under its hash, so commands with different code do not interfere.

    Raises:
        UserError: If there is more of it than code can be.
    """
    files = [
        path
        for name in SOURCE_FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    sizes = {path: path.stat().st_size for path in files}
    total = sum(sizes.values())
    if total > MAX_CODE_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise UserError(
            f"the code for the workers, {', '.join(SOURCE_FOLDERS)}, has {total / 2**20:.0f} MiB, "
            f"expected at most {MAX_CODE_BYTES / 2**20:.0f}: move "
            f"'{largest.relative_to(ROOT)}' and the like out of these folders"
        )
    others = [f"/{path.name}" for path in ROOT.iterdir() if path.name not in SOURCE_FOLDERS]
    folder = os.getcwd()

    def enter_folder() -> None:  # a model's folder, say, may be relative to it
        if os.path.isdir(folder):
            os.chdir(folder)

    return RuntimeEnv(
        working_dir=str(ROOT),
        excludes=[*others, "__pycache__"],
        worker_process_setup_hook=enter_folder,
    )
