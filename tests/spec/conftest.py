"""The executable reference and the recipes of the vectors lie in ``specs``, which is no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "specs"))
