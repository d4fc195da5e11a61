"""The method in docs/methods.md is one."""

import re
from pathlib import Path

from swell.methods import find_method
from swell.testing import check_method

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_method_of_ones_own(tmp_path):
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    (tmp_path / "aligned.py").write_text(re.findall(r"```python\n(.*?)```", text, re.S)[0], encoding="utf-8")
    check_method(find_method(f"{tmp_path}/aligned.py:Aligned"))
