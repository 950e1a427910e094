"""What a measurement was made with: versions, device, commit."""

import platform
import subprocess
from pathlib import Path

import torch
import torchvision


def environment(device: torch.device, precision: str, processes: int = 1) -> dict:
    """Return what a record says of the machine and the code: versions, device, processes, precision, commit."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a plain string: checkpoints hold nothing else
        "torchvision": str(torchvision.__version__),
        "device": device_name(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "commit": commit(),
    }


def device_name(device: torch.device) -> str:
    """Return a GPU's name, or the processor's as far as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"cpu: {line.split(':', 1)[1].strip()}"
    return f"cpu: {platform.processor() or platform.machine()}"


def commit() -> str:
    """Return the commit of the package's checkout, marked `-dirty` if changed, or `unknown` outside of one."""
    folder = Path(__file__).parent
    try:
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)  # else the package is no checkout's
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("-dirty" if _git(folder, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True)
    return done.stdout.strip()
