"""A checkout, or a repository elsewhere, at any Git revision: its files, and the history of what was made.

The one module that asks DVC, and the one that asks Git. DVC is imported where a revision is read.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from vidrnn.errors import SchemaError, UserError, nearest
from vidrnn.phrases import leaves

LATEST = "latest"  # stands for the last published night
PUBLISHED = "vidrnn/nightly"  # the branch that it is on
DEFAULT = "origin/HEAD"  # of a repository elsewhere, which has no workspace
LOCK = "dvc.lock"

_URL = re.compile(r"\w+://|[\w.-]+@[\w.-]+:")


@dataclass(frozen=True)
class Commit:
    """One of the history, as `git log` tells it.

    Attributes:
        sha: of it, whole.
        date: when it was committed.
        refs: tags and branches that point at it.
        subject: the first line of its message.
        lock: the stages of its `dvc.lock`.
    """

    sha: str
    date: datetime
    refs: list[str]
    subject: str
    lock: dict[str, Any]


@dataclass(frozen=True)
class Repository:
    """Where results lie.

    Attributes:
        root: the checkout; of a repository elsewhere, a clone of it that lasts as long as this process.
        url: of a repository elsewhere, which has no workspace; None of a checkout.
        remotes: where its data is by the settings of today, for revisions that knew of no remote or of another.
    """

    root: Path
    url: str | None
    remotes: dict[str, Any] | None

    @classmethod
    def at(cls, repo: str | Path) -> "Repository":
        """The checkout that a folder lies in, or the repository at a URL or of a bare folder.

        Raises:
            UserError: there is none.
        """
        if not _URL.match(str(repo)) and not _is_bare(Path(repo)):
            return cls(find_root(repo), None, None)
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
        from dvc.scm import SCMError

        try:
            with Repo.open(str(repo)) as clone:
                settings = {"core": clone.config["core"], "remote": clone.config["remote"]}
                return cls(Path(clone.scm.root_dir), str(repo), settings)
        except (SCMError, DvcException) as error:
            raise UserError(f"{repo}: cannot be cloned ({_line(error)}); `git clone` it to see why") from None

    def __str__(self) -> str:
        return self.url or str(self.root)

    def named(self, rev: str | None) -> str | None:
        """The revision that is read where this one is asked for; None is the workspace, if there is one."""
        return DEFAULT if rev is None and self.url is not None else rev

    def of(self, rev: str | None) -> str:
        """For sentences: whose file it is."""
        name = self.named(rev)
        return "" if name is None else f" of revision {name!r}"

    def resolve(self, rev: str) -> str:
        """The commit that a revision names: a tag, a branch, also of a remote, a hash, an experiment, or `latest`.

        Raises:
            UserError: there is no such revision.
        """
        if re.fullmatch("[0-9a-f]{40}", rev):
            return rev
        from dvc.scm import SCM, NoSCM, SCMError, resolve_rev

        name = PUBLISHED if rev == LATEST else rev
        try:
            scm = SCM(str(self.root))
            if not isinstance(scm, NoSCM):
                if not rev.strip():  # Git takes it for HEAD
                    raise SCMError("no revision")
                return str(resolve_rev(scm, name))
        except SCMError:
            if rev == LATEST:
                raise UserError(
                    f"no night has been published in {self}: there is no branch {PUBLISHED!r}, which the nightly flow "
                    "makes; `git fetch` it where it was made elsewhere"
                ) from None
            refs = self._git("for-each-ref", "--format=%(refname:short)") or b""
            known = [*refs.decode("utf-8", "replace").split(), "HEAD", LATEST]
            shallow = (self._git("rev-parse", "--is-shallow-repository") or b"").strip() == b"true"
            advice = "`git fetch --unshallow` brings the others" if shallow else "`git log --oneline` lists the commits"
            raise UserError(
                f"revision {rev!r} cannot be read from {self}: unknown Git revision; {nearest(rev, known)}, "
                f"and {advice}"
            ) from None
        raise UserError(f"revision {rev!r} cannot be read from {self}: it has no Git history")

    def files(self, rev: str | None, path: str) -> pafs.FileSystem:
        """The files at a revision, as `named`, with paths relative to `root`, where `path` is known to be.

        Raises:
            UserError: no such revision, or nothing at `path`.
        """
        name = self.named(rev)
        if name is None:
            source = pafs.SubTreeFileSystem(str(self.root), pafs.LocalFileSystem())
            if source.get_file_info(path).type == pafs.FileType.NotFound:
                raise UserError(
                    f"{path}: not made yet in {self}; run `dvc repro`, or `dvc pull` to fetch what was made elsewhere"
                )
            return source
        from dvc.api import DVCFileSystem

        commit = self.resolve(name)
        # DVC shows the outputs of `dvc.yaml` whether made or not; the lock knows.
        aim, made = PurePosixPath(path), map(PurePosixPath, outputs(self.lock(commit)))
        if not any(aim.is_relative_to(out) or out.is_relative_to(aim) for out in made):
            raise UserError(f"revision {name!r} holds no {path}: nothing had been made, or `{LOCK}` was not committed")
        source = DVCFileSystem(self.url or str(self.root), rev=commit, config=self.remotes)
        return pafs.PyFileSystem(pafs.FSSpecHandler(source))

    def read(self, rev: str | None, path: str) -> bytes | None:
        """A file of the workspace or, at a revision, of those that Git has; None where it is not there."""
        name = self.named(rev)
        if name is None:
            file = self.root / path
            return file.read_bytes() if file.is_file() else None
        return self._git("show", f"{self.resolve(name)}:{path}")

    def names(self, rev: str | None, folder: str) -> list[str]:
        """The paths of what lies in a folder, sorted; likewise."""
        name = self.named(rev)
        if name is None:
            return sorted(path.relative_to(self.root).as_posix() for path in (self.root / folder).glob("*"))
        listed = self._git("ls-tree", "-z", "--name-only", self.resolve(name), f"{folder}/") or b""
        return sorted(filter(None, listed.decode().split("\0")))

    def lock(self, rev: str | None) -> dict[str, Any]:
        """The stages of `dvc.lock`: what was made from what; none where there is no such file.

        Raises:
            SchemaError: it is no such file.
        """
        return _stages(self.read(rev, LOCK), self.of(rev))

    def tags(self, pattern: str) -> list[str]:
        """The names of the tags that fit a pattern of `git tag`, the newest version last; none without Git."""
        return (self._git("tag", "--list", "--sort=version:refname", pattern) or b"").decode("utf-8", "replace").split()

    def history(self, limit: int | None = None) -> list[Commit]:
        """The commits of any branch or tag that changed `dvc.lock`, the newest first; none without Git.

        Args:
            limit: how many of them; None takes all. The `dvc.lock` of no other is read.

        Raises:
            SchemaError: a `dvc.lock` is not readable.
        """
        branches = ("--branches", "--remotes", "--tags", "--date-order", "--decorate=short")
        told = self._git("log", *branches, "--format=%H%x1f%cI%x1f%D%x1f%s%x1e", "HEAD", "--", LOCK) or b""
        lines = [line.strip("\n").split("\x1f") for line in told.decode("utf-8", "replace").split("\x1e")]
        lines = [line for line in lines if len(line) == 4]
        wanted = len(lines) if limit is None else limit
        commits: list[Commit] = []
        while lines and len(commits) < wanted:
            count = wanted - len(commits)
            some, lines = lines[:count], lines[count:]
            locks = self._blobs([f"{sha}:{LOCK}" for sha, *_ in some])
            for (sha, date, refs, subject), text in zip(some, locks, strict=True):
                if text is None:  # that commit removed it
                    continue
                names = [name.removeprefix("HEAD -> ").removeprefix("tag: ") for name in refs.split(", ") if name]
                commits.append(Commit(sha, datetime.fromisoformat(date), names, subject, _stages(text, self.of(sha))))
        return commits

    @contextmanager
    def telling(self, rev: str | None, path: str) -> Iterator[None]:
        """What goes wrong inside, where files of `path` are read, becomes one sentence.

        Raises:
            UserError: the data is neither in the cache nor on a remote.
            SchemaError: a file is damaged.
        """
        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            if self.named(rev) is not None and isinstance(error, FileNotFoundError):
                raise self._nowhere(rev, path, error) from None
            advice = "delete it and run `dvc repro`" if self.named(rev) is None else "`dvc fetch` it anew"
            raise SchemaError(f"{path}{self.of(rev)}: not readable ({_line(error)}); {advice}") from None
        except Exception as error:
            from dvc.exceptions import DvcException
            from dvc_data.index import DataIndexError

            if isinstance(error, DataIndexError | DvcException):
                raise self._nowhere(rev, path, error) from None
            raise

    def _nowhere(self, rev: str | None, path: str, error: Exception) -> UserError:
        advice = "" if self.url else f" `dvc fetch --all-commits {path}`, after"
        return UserError(
            f"{path}{self.of(rev)} is neither in the DVC cache here nor on a remote within reach ({_line(error)}); "
            f"run{advice} `dvc push` where it was made"
        )

    def _blobs(self, names: list[str]) -> list[bytes | None]:
        """The contents of objects, all by one process; None of what is not there."""
        told = self._git("cat-file", "--batch", stdin="\n".join(names).encode()) or b""
        blobs: list[bytes | None] = []
        for _ in names:
            header, _, told = told.partition(b"\n")
            if header.endswith(b" missing"):
                blobs.append(None)
                continue
            size = int(header.split()[-1])
            blobs.append(told[:size])
            told = told[size + 1 :]
        return blobs

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes | None:
        """What a Git command prints; None where it fails."""
        try:
            done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, input=stdin)
        except FileNotFoundError:
            raise UserError("git is not installed, or not on the path; install it to read past revisions") from None
        return None if done.returncode else done.stdout


def find_root(folder: str | Path) -> Path:
    """The checkout that `folder` lies in.

    Raises:
        UserError: neither it nor any folder above holds `.dvc`.
    """
    path = Path(folder).resolve()
    for candidate in (path, *path.parents):
        if (candidate / ".dvc").is_dir():
            return candidate
    raise UserError(f"{path}: not inside a vidrnn checkout (no .dvc here or above); change to its folder")


def outputs(lock: dict[str, Any]) -> dict[str, str]:
    """The MD5 of everything that was made, by path."""
    return {out["path"]: out["md5"] for stage in lock.values() for out in stage.get("outs", [])}


def inputs(lock: dict[str, Any]) -> dict[str, str]:
    """The MD5 of everything that a stage read, by path."""
    return {dep["path"]: dep.get("md5", "") for stage in lock.values() for dep in stage.get("deps", [])}


def params(lock: dict[str, Any]) -> dict[str, Any]:
    """The params that were used, by dotted name."""
    found = (value for stage in lock.values() for value in stage.get("params", {}).values())
    return dict(sorted((name, value) for values in found for name, value in leaves(values)))


def _stages(text: bytes | None, whose: str) -> dict[str, Any]:
    try:
        stages = YAML(typ="safe").load(text.decode())["stages"] if text else {}
    except (YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise SchemaError(f"{LOCK}{whose}: not readable ({_line(error)}); `dvc repro` makes it anew") from None
    return dict(stages)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir()
