"""The code and the environment variables of workers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ray.runtime_env import RuntimeEnv

from common.errors import UserError
from common.project import ROOT, SOURCE_FOLDERS

MAX_CODE_BYTES = 50 * 2**20
# Where an object store is, for workers on other machines; they have their own credentials.
STORE_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
# Where data and models are.
DATA_VARIABLES = ("EVENHAND_CACHE", "HF_HOME", "TORCH_HOME")


@contextmanager
def pass_variables_on() -> Iterator[None]:
    """Let the processes that start during the block, those of a local cluster, have the variables.

    A runtime environment would cost a local study seconds: no worker that Ray starts ahead fits.
    """
    added = make_variables(str(ROOT))
    before = {name: os.environ.get(name) for name in added}
    os.environ |= added
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def make_runtime_environment() -> RuntimeEnv:
    """Return Ray's runtime environment of workers on other machines: the code and the variables."""
    code = upload_code()
    code.set("env_vars", make_variables())
    return code


def make_variables(*paths: str) -> dict[str, str]:
    """Return the environment variables of workers.

    Args:
        paths: The folders of packages to come before those of PYTHONPATH.
    """
    # A worker may have another working folder, to which a relative path would refer.
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [*paths, *(os.path.abspath(path) for path in own if path)]
    names = [name for name in (*STORE_VARIABLES, *DATA_VARIABLES) if name in os.environ]
    return {
        "PYTHONWARNINGS": "ignore",
        **({"PYTHONPATH": os.pathsep.join(folders)} if folders else {}),
        # A worker's home folder is its own, other variables are not there.
        **{name: os.path.expandvars(os.environ[name]) for name in names},
    }


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
