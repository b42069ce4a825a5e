"""What tests ask of Git, of DVC and of the list of processes."""

import subprocess
import sys
from pathlib import Path

DVC = [sys.executable, "-m", "dvc"]


def git(repo: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    done = subprocess.run(["git", *identity, *arguments], cwd=repo, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(repo: Path) -> str:
    """All that lies there; returns the commit."""
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "night")
    return git(repo, "rev-parse", "HEAD")


def dvc(repo: Path, *arguments: str) -> str:
    done = subprocess.run([*DVC, *arguments], cwd=repo, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def at_work_in(folder: Path) -> dict[int, str]:
    """The command lines of the processes whose working folder it is, by their numbers."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found
