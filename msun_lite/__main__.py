"""`python -m msun_lite`: the list of the commands, and each of them as `python -m msun_lite COMMAND ...`."""

import sys

from msun_lite.commands import main

if __name__ == "__main__":
    sys.exit(main())
