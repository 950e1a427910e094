"""What the first cell of a chapter runs in Colab: the package from its checkout, with its light dependencies.

PyTorch and torchvision are left as they are.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def light_dependencies() -> list[str]:
    """Return what the package and the chapters need beside PyTorch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["analyse"]]
    return [name for name in wanted if not name.startswith("torch")]


def install() -> None:
    """Install the dependencies and make the checkout's package importable."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *light_dependencies()], check=True)
    sys.path.insert(0, str(ROOT))
    import torch

    if not torch.cuda.is_available():
        print("no GPU in this session (Runtime, Change runtime type): the chapter runs on the CPU as well")


if __name__ == "__main__":
    install()
