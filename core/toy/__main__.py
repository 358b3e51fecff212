"""``python -m core.toy``: weightings on a landscape of two objectives, drawn and judged."""

import sys

from core.toy.descent import main

sys.exit(main())
