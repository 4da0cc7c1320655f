"""`python -m understudy`: the same command as `understudy`."""

import sys

from understudy.console.cli import main

if __name__ == "__main__":
    sys.exit(main())
