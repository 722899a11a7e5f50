"""What is shipped: the wheel carries templates and cards, and each of the three ways to install finds them."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TELLS = """
import json
from pathlib import Path
from prompt2model import prompts, registry
package, templates = Path(registry.__file__).parent, prompts.templates()
print(json.dumps({
    "package": str(package),
    "templates": str(templates),
    "rendered": prompts.render("parse/repair.j2", answer="one", problem="a comma"),
    "names": sorted(path.relative_to(templates).as_posix() for path in templates.rglob("*.j2")),
    "data": sorted(path.name for path in package.rglob("*") if path.suffix in (".jsonl", ".toml")),
    "plugins": {family: registry.names(family) for family in registry.FAMILIES},
}))
"""


def shipped() -> set[str]:
    """The names in the wheel of everything in the package and the templates."""
    files = [path for folder in ("prompt2model", "templates") for path in (ROOT / folder).rglob("*")]
    names = [path.relative_to(ROOT) for path in files if path.is_file() and "__pycache__" not in path.parts]
    return {name.as_posix() if name.parts[0] == "prompt2model" else f"prompt2model/{name.as_posix()}" for name in names}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def new_environment(folder: Path) -> Path:
    """The `bin` of a fresh virtual environment that sees the third-party packages of this one, but not prompt2model."""
    venv.create(folder, with_pip=True)
    site = next(folder.glob("lib/python*/site-packages"), folder / "Lib" / "site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, so that both are seen to be whole."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_environment(tmp_path_factory.mktemp("installed") / "venv")
    run(folder / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel, folder=folder)
    return folder


def test_the_wheel_holds_the_package_the_templates_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    assert names == shipped()
    assert licences


def test_an_installed_wheel_finds_its_templates_and_cards(installed: Path, tmp_path: Path):
    told = json.loads(run(installed / "python", "-c", TELLS, folder=tmp_path))
    assert Path(told["package"]).is_relative_to(installed.parent)
    assert told["templates"] == str(Path(told["package"]) / "templates")
    here = json.loads(run(sys.executable, "-c", TELLS, folder=ROOT))
    for what in ("rendered", "names", "data", "plugins"):
        assert told[what] == here[what]
        assert told[what]


def test_an_installed_wheel_has_the_command(installed: Path, tmp_path: Path):
    assert "build" in run(installed / "prompt2model", "--help", folder=tmp_path)


def test_an_editable_install_uses_the_checkout(tmp_path: Path):
    binaries = new_environment(tmp_path / "venv")
    options = ("-q", "--no-deps", "--no-index", "--no-build-isolation")
    run(binaries / "python", "-m", "pip", "install", *options, "-e", ROOT, folder=tmp_path)
    told = json.loads(run(binaries / "python", "-c", TELLS, folder=tmp_path))
    assert told["package"] == str(ROOT / "prompt2model")
    assert told["templates"] == str(ROOT / "templates")


def test_a_checkout_works_without_being_installed():
    told = json.loads(run(sys.executable, "-c", TELLS, folder=ROOT))
    assert told["templates"] == str(ROOT / "templates")
    assert "build" in run(sys.executable, "cli.py", "--help", folder=ROOT)
