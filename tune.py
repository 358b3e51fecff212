"""``python tune.py --method ... --dataset ...``: hands over to :mod:`tuning`."""

import sys

from tuning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
