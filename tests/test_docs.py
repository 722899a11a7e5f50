"""What the documentation says is what there is."""

import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[1] / "docs"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_help_page_is_what_help_prints():
    help_page = load(DOCS / "make_help.py")
    assert help_page.PAGE.read_text(encoding="utf-8") == help_page.page(), "make docs"
