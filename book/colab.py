"""What the first cell of a chapter runs in Colab: the package from its checkout, with its light dependencies.

PyTorch and torchvision are left as they are.
"""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def light_dependencies() -> list[str]:
    """Return what the package and the chapters need beside PyTorch."""
    return [name for name in _dependencies() if not name.startswith("torch")]


def too_old() -> list[str]:
    """Return what to say of PyTorch and torchvision if the session's are missing or older than the package needs."""
    from packaging.requirements import Requirement  # comes with matplotlib

    said = []
    for wanted in (Requirement(name) for name in _dependencies() if name.startswith("torch")):
        found = installed(wanted.name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            said.append(f"{wanted.name}: expected {wanted.specifier}, this session has {found}")
    return said


def installed(name: str) -> str | None:
    """Return which version of a package there is, None if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["analyse"]]


def install() -> None:
    """Install the dependencies and make the checkout's package importable; end with a line if that cannot be."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, *light_dependencies()]).returncode:
        sys.exit("the chapter's dependencies cannot be installed, pip says why above; run this cell again")
    if old := too_old():
        sys.exit("; ".join(old) + "; run %pip install --upgrade torch torchvision, and restart the session")
    sys.path.insert(0, str(ROOT))


if __name__ == "__main__":
    install()
