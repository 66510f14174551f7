"""Write the test vectors, and the examples in the specification: ``python specs/reference/generate.py``."""

import sys
from pathlib import Path

SPECS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SPECS))

from vectors.recipes import generated  # noqa: E402

if __name__ == "__main__":
    for path, content in generated(SPECS).items():
        path.write_text(content, encoding="utf-8")
