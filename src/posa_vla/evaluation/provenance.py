"""Where numbers come from: code revision, versions, machine."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("lerobot_policy_posa_vla", "lerobot", "torch", "transformers", "mujoco", "mink", "numpy")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Commit of the source tree this code runs from, with ``+changes``; None where no git tree holds it.

    An environment inside another project's tree is not held by that project.
    """
    here = Path(__file__).resolve().parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def host() -> dict[str, str]:
    """System, processor and memory; needs no torch."""
    facts = {"system": f"{platform.system()} {platform.machine()}", "cpu": _cpu(), "cores": str(os.cpu_count())}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    return facts


def machine() -> dict[str, str]:
    """The host and its accelerator."""
    import torch

    gpu = {"gpu": torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {}
    return host() | gpu


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if "model name" in line]
        if path.exists()
        else []
    )
    return names[0] if names else platform.processor() or "unknown"
