"""Write the test vectors, and the examples in the specification: ``python specs/generate.py``."""

from pathlib import Path

from vectors.recipes import generated

if __name__ == "__main__":
    for path, content in generated(Path(__file__).resolve().parent).items():
        path.write_text(content, encoding="utf-8")
