"""``python -m medvl_lib.cli``: the command where its script is not on the path."""

import sys

from medvl_lib.cli import main

sys.exit(main())
