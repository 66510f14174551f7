"""The README's Python blocks are one program, and it runs."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)


def test_the_readme_names_its_commands_at_the_start_of_a_line() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("python3 ") and line.endswith("secagg demo") for line in lines)
    assert any(line.startswith("python3 ") and "-m pytest" in line for line in lines)
