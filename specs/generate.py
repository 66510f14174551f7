"""Write the test vectors, and the examples in the specification: ``python specs/generate.py``."""

from pathlib import Path

from vectors.recipes import generated, generated_for_version_2

if __name__ == "__main__":
    specs = Path(__file__).resolve().parent
    for path, content in {**generated(specs), **generated_for_version_2(specs)}.items():
        path.write_text(content, encoding="utf-8")
