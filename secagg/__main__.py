"""The ``secagg`` command; ``python -m secagg`` is the same.

Imports without the extra that the command needs, so as to say what to install.
"""

from __future__ import annotations

import sys

from secagg import __version__
from secagg.cli.extras import advice


def main() -> None:
    """Run the command line in ``sys.argv``; exits."""
    try:
        from secagg.cli.app import app
    except ModuleNotFoundError as missing:
        what_to_install = advice(missing, "cli")
        if sys.argv[1:] == ["--version"]:
            sys.stdout.write(f"secagg {__version__}\n")
            sys.exit(0)
        sys.stderr.write(f"secagg: {what_to_install}\n")
        sys.exit(2)
    app(prog_name="secagg")


if __name__ == "__main__":
    main()
