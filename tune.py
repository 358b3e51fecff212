"""``python tune.py --method ... --dataset ...``: hands over to :mod:`tuning`."""

import _signal  # type: ignore[import-not-found]  # the built-in part of signal
import sys

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until common handles it

from common import require_package  # noqa: E402

if sys.stdout and sys.stdout.isatty() and {"--method", "--config", "resume"}.intersection(sys.argv):
    print("loading Ray and torch", flush=True)
require_package("ray")

from common.terminal import run_command  # noqa: E402
from tuning.cli.main import main, prints_result  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=prints_result(sys.argv[1:])))
