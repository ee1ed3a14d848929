"""``python -m crosswind`` is the command line."""

import sys

from crosswind.cli import main

sys.exit(main())
