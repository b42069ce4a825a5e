"""Is everything here that a run needs? One finding a thing, each with what to do about it."""

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from vidrnn.errors import VidrnnError
from vidrnn.revisions import Repository, find_root

DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg2video", "mpeg4", "mjpeg", "gif")
LEAST_FREE_BYTES = 5 * 2**30
_TIMEOUT_SECONDS = 3.0
State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        name: of the thing.
        state: `problem` where runs will fail, `warning` where something that they may need is missing.
        found: in words.
        advice: what to do; empty where all is well.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Look at everything, quick things first; nothing is changed and nothing is started.

    Args:
        folder: inside the checkout.
    """
    looks: tuple[Callable[[Path], Finding], ...] = (
        _python, _packages, _torch, _codecs, _ray, _prefect, _git, _params, _remote, _disk,
    )  # fmt: skip
    for look in looks:
        yield look(folder)


def _python(_: Path) -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", "ok", found)
    return Finding(
        "Python", "problem", found, "vidrnn needs Python 3.11: `make clean`, then `make run PYTHON=python3.11`"
    )


def _packages(_: Path) -> Finding:
    """Every requirement of this package that is not optional."""
    wanted = [item for item in map(Requirement, requires("vidrnn") or []) if item.marker is None]
    wrong = []
    for item in wanted:
        try:
            if not item.specifier.contains(version(item.name)):
                wrong.append(f"{item.name} {version(item.name)} is not {item.specifier}")
        except PackageNotFoundError:
            wrong.append(f"{item.name} is not installed")
    if wrong:
        return Finding("packages", "problem", "; ".join(wrong), "`make clean`, then `make run` installs them anew")
    return Finding("packages", "ok", f"{len(wanted)} as they are needed")


def _torch(_: Path) -> Finding:
    import torch

    cuda, built = torch.cuda.is_available(), torch.version.cuda
    if cuda:
        return Finding("torch", "ok", f"{torch.__version__}, CUDA {built}: {torch.cuda.get_device_name()}")
    if shutil.which("nvidia-smi") is None:
        return Finding(
            "torch", "ok", f"{torch.__version__} on {os.cpu_count()} cores; there is no GPU, and none is needed"
        )
    if built is None:
        advice = (
            '`make clean`, then `make run TORCH="torch==2.13.0 --index-url URL"` with the URL that pytorch.org names'
        )
        return Finding("torch", "warning", f"{torch.__version__} cannot use the GPU of this machine", advice)
    advice = f"look at `nvidia-smi`: the driver may be older than CUDA {built} needs"
    return Finding("torch", "warning", f"{torch.__version__} with CUDA {built} finds no GPU that it can use", advice)


def _codecs(_: Path) -> Finding:
    from vidrnn.decode import lacking

    if missing := lacking(DECODERS):
        advice = (
            "such footage becomes rows that say so; `pip install --force-reinstall av` brings FFmpeg with all of them"
        )
        return Finding("FFmpeg", "warning", f"cannot decode {', '.join(missing)}", advice)
    return Finding("FFmpeg", "ok", f"decodes {', '.join(DECODERS)} (PyAV {version('av')})")


def _ray(_: Path) -> Finding:
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        return Finding("Ray", "ok", f"{version('ray')}; on this machine alone, since RAY_ADDRESS is not set")
    return _reached(
        "Ray", f"{version('ray')}; RAY_ADDRESS={address}", address, "start the cluster, or unset RAY_ADDRESS"
    )


def _prefect(_: Path) -> Finding:
    url = os.environ.get("PREFECT_API_URL")
    if url is None:
        return Finding(
            "Prefect", "ok", f"{version('prefect')}; a server for the length of a run, since there is no other"
        )
    advice = "`prefect server start` there, or unset PREFECT_API_URL"
    return _reached("Prefect", f"{version('prefect')}; PREFECT_API_URL={url}", url, advice)


def _reached(name: str, found: str, address: str, advice: str) -> Finding:
    """Whether something listens at an address, where it names a host and a port."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if parts.hostname and port:
        try:
            socket.create_connection((parts.hostname, port), _TIMEOUT_SECONDS).close()
        except OSError as error:
            return Finding(name, "problem", f"{found}: nobody answers ({error})", advice)
    return Finding(name, "ok", found)


def _git(folder: Path) -> Finding:
    if shutil.which("git") is None:
        return Finding("Git", "problem", "not on the path", "install it: past results are found in its history")
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        return Finding(
            "Git", "warning", "no history here", "`git init`, and commit dvc.lock after a run, to keep versions"
        )
    return Finding("Git", "ok", f"at commit {done.stdout.strip()}")


def _params(folder: Path) -> Finding:
    from vidrnn.params import load_params

    try:
        root = find_root(folder)
        videos = root / load_params(root / "params.yaml").data.videos
    except VidrnnError as error:
        return Finding("checkout", "problem", str(error), "run this in the folder that holds params.yaml")
    if not videos.is_dir() and videos != root / "data/demo/videos":
        return Finding(
            "checkout", "problem", f"{videos}: no such folder", "set data.videos in params.yaml to your footage"
        )
    return Finding("checkout", "ok", f"{root}, footage in {videos}")


def _remote(folder: Path) -> Finding:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(Repository.at(folder).root)) as repo:
            remote = repo.cloud.get_remote() if repo.config["core"].get("remote") else None
            if remote is None:
                advice = "`dvc remote add --default NAME URL`, then `dvc push`: results of today outlive this disk"
                return Finding("DVC remote", "warning", "none; results are in the cache of this checkout alone", advice)
            if remote.fs.exists(remote.path) or remote.fs.protocol != "local":
                return Finding("DVC remote", "ok", f"{remote.name}: {remote.path}")
            return Finding("DVC remote", "warning", f"{remote.name}: {remote.path} is empty", "`dvc push` fills it")
    except (VidrnnError, DvcException, OSError, ImportError) as error:
        told = re.sub(r"\s+", " ", str(error))
        return Finding("DVC remote", "problem", f"out of reach: {told}", "`dvc remote list` and `dvc doctor` tell more")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GiB free"
    if free < LEAST_FREE_BYTES:
        advice = "`dvc gc --all-branches --all-tags` removes what the newest of each branch and no tag needs"
        return Finding("disk", "warning", found, advice)
    return Finding("disk", "ok", found)
