"""What a night starts from and what it leaves behind: a Git worktree and a branch of the nightly's own.

The checkout is read, never written: a night works in `.nightly/tree`, on the branch `vidrnn/nightly`, with the DVC
cache of the checkout. A commit there is a published night: the code and the parameters that the checkout had committed,
and `dvc.lock`, the measures and the pointer to the champion that the night made. Nothing here knows of Prefect.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc_cli import DvcError, run
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from vidrnn.revisions import PUBLISHED as BRANCH

SENT = "refs/vidrnn/sent"  # the last night up to which all data has reached the remote
MARK = "VIDRNN_NIGHT"  # in the environment of all that a night starts
CHAMPION, START, WITHDRAWN = "data/champion", "data/start", "data/withdrawn.csv"
TRAINED = "data/metrics/train.json"
RETIRED = "data/retired.csv"
OF_RETIRED = ("data/features", "data/media")  # what nobody can make of footage that is gone
# Folders that Git keeps in the checkout, and DVC in the worktree as soon as there is a published model.
POINTERS = {f"{CHAMPION}.dvc": CHAMPION, f"{START}.dvc": START}
# What the branch keeps of its own when it takes over the files of the checkout.
OWN = ("dvc.lock", "data/.gitignore", "data/metrics", "data/plots", *POINTERS, WITHDRAWN, RETIRED)
# What people say in the checkout from day to day: it counts as it lies there, without a commit.
SAID = ("data/feedback.csv",)
DVC_SECONDS = 6 * 3600.0
# Commits of the nightly are its own: no signature to ask for, no hook of the user's.
_SETTINGS = ("user.name=vidrnn", "user.email=vidrnn@localhost", "commit.gpgsign=false", "tag.gpgsign=false")
GIT = ["git", *(part for setting in (*_SETTINGS, "core.hooksPath=/dev/null") for part in ("-c", setting))]


class NightError(Exception):
    """A night cannot begin or be published; one sentence says why and what to do."""


@dataclass(frozen=True)
class Published:
    """A night on the branch: its commit, and the tag of its models where they are new ones."""

    commit: str
    tag: str | None


def home(checkout: Path) -> Path:
    """Where the nightly keeps what is its own; ignored by Git."""
    return checkout / ".nightly"


def tree(checkout: Path) -> Path:
    """The nightly's worktree."""
    return home(checkout) / "tree"


@contextmanager
def alone(checkout: Path) -> Iterator[None]:
    """Hold the night of this checkout; what a killed one left running is ended first.

    Raises:
        NightError: another night is at work.
    """
    home(checkout).mkdir(exist_ok=True)
    with (home(checkout) / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NightError(f"{checkout}: another night is at work here; wait until it has ended") from None
        mark = str(tree(checkout))
        _end_leftovers(f"{MARK}={mark}".encode())
        os.environ[MARK] = mark
        try:
            yield
        finally:
            del os.environ[MARK]


def _end_leftovers(mark: bytes) -> None:
    """Kill every process with this mark in its environment; without /proc, DVC's own locks tell of them."""
    deadline = time.monotonic() + 10
    while (left := _marked(mark)) and time.monotonic() < deadline:
        for number in left:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.05)


def _marked(mark: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(folder.name) != os.getpid() and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def prepare(checkout: Path, log: Callable[[str], None]) -> Path:
    """Bring the worktree to the last published night, with the code that the checkout has committed; returns it.

    Raises:
        NightError: the checkout is no Git repository with a commit, the branch cannot be worked on, or what it needs of
            earlier nights cannot be had.
    """
    folder = tree(checkout)
    base = git(checkout, "rev-parse", "HEAD")
    if names := ", ".join(_not_committed(checkout, base)):
        log(f"warning: a night works with what is committed, and these are changed but not committed: {names}")
    if not _has_tree(checkout, folder):
        _add_worktree(checkout, folder, base)
    git_dir = Path(git(folder, "rev-parse", "--absolute-git-dir"))
    for left in (git_dir / "index.lock", folder / ".dvc/tmp/rwlock"):  # of a killed night; we are alone
        left.unlink(missing_ok=True)
    for link in _links(folder, checkout):
        if link.is_symlink():  # or Git would look through it for the .gitignore that it has there
            link.unlink()
    commit = _with_files_of(checkout, folder, base)
    git(folder, "checkout", "-q", "-f", "-B", BRANCH, commit)
    _configure(checkout, folder)
    _bring_back(folder)
    for link, target in _links(folder, checkout).items():
        if link.is_dir():  # which holds no more than the .gitignore that keeps it in Git
            shutil.rmtree(link)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return folder


def _not_committed(checkout: Path, base: str) -> list[str]:
    """What people have changed, but for what nights keep of their own; and the pointer to footage, if it is new."""
    own = (f":!{name}" for name in (*OWN, *SAID))
    changed = git(checkout, "diff", "--name-only", "--no-renames", "-z", base, "--", ".", *own)
    pointer = footage_pointer(checkout, base)
    new = git(checkout, "ls-files", "--others", "-z", "--", pointer) if pointer else ""
    return [name for name in (changed + new).split("\0") if name]


def _has_tree(checkout: Path, folder: Path) -> bool:
    """Whether the checkout has its worktree; one that was moved or copied along with it is made its own again."""
    link = folder / ".git"
    if not link.is_file():
        return False
    where = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    common = git(checkout, *where)
    own = Path(common, "worktrees", Path(link.read_text().strip()).name)
    if not own.is_dir():
        shutil.rmtree(folder)
        return False
    if git(folder, *where, fails="") != common:  # it leads to where it was, which may be another checkout by now
        link.write_text(f"gitdir: {own}\n")
        git(checkout, "worktree", "repair", str(folder))
    return True


def _add_worktree(checkout: Path, folder: Path, base: str) -> None:
    git(checkout, "worktree", "prune")
    if not git(checkout, "branch", "--list", BRANCH):  # in a clone, nights go on from those that it has fetched
        fetched = git(checkout, "for-each-ref", "--format=%(refname)", f"refs/remotes/*/{BRANCH}").splitlines()
        git(checkout, "branch", "--no-track", BRANCH, *(fetched[:1] or [base]))
    git(checkout, "worktree", "add", "-q", str(folder), BRANCH)


def _bring_back(folder: Path) -> None:
    """What earlier nights made and is not there, as in a new worktree: from the cache, else from the remote.

    What neither has is made again by its stage; but for what pointers lead to, without which DVC says nothing of
    `train`, and for what was made of footage that has been removed since.

    Raises:
        NightError: one of these is lacking.
    """
    needed = [kept for name, kept in POINTERS.items() if (folder / name).is_file()]
    made = {out["path"] for stage in _stages(folder / "dvc.lock") for out in stage.get("outs", [])}
    wanted = [*needed, *(path for path in _outs(folder) if path in made)]
    if footage := footage_pointer(folder):
        wanted.append(footage.removesuffix(".dvc"))
    retired = folder / RETIRED
    if retired.is_file() and len(retired.read_text("utf-8").splitlines()) > 1:
        needed += [path for path in OF_RETIRED if path in wanted]
    bring = ["checkout", "-q", "--allow-missing"]
    for command in (bring, ["fetch", "-q"], bring) if _has_remote(folder) else (bring,):
        if lacking := _lacking(folder, wanted):
            with suppress(DvcError):  # some of it may have come all the same
                run([*command, *lacking], folder, lambda line: None, DVC_SECONDS)
    if lacking := _lacking(folder, needed):
        raise NightError(
            f"{', '.join(lacking)}: made by earlier nights, without which none can go on, and neither in the DVC cache "
            "nor on a remote within reach; `dvc push` where they were made, and make that remote the default one here "
            "(`dvc remote add --default`)"
        )


def _lacking(folder: Path, paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not (folder / path).exists()]


def _configure(checkout: Path, folder: Path) -> None:
    """The remotes and the cache that the checkout has configured; paths in there are relative to the checkout."""
    theirs, local = checkout / ".dvc/config.local", folder / ".dvc/config.local"
    shutil.copyfile(theirs, local) if theirs.is_file() else local.unlink(missing_ok=True)
    wanted, found = {"cache.dir": str(checkout / ".dvc/cache"), **_settings(checkout)}, _settings(folder)
    for name, value in wanted.items():
        if found.get(name) != value:
            run(["config", "--local", name, value], folder, lambda line: None, DVC_SECONDS)


def _settings(repo: Path) -> dict[str, str]:
    """What DVC is told there, with whole paths."""
    lines: list[str] = []
    run(["config", "--list"], repo, lines.append, DVC_SECONDS)
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _with_files_of(checkout: Path, folder: Path, base: str) -> str:
    """A commit on top of the branch with the files of `base` and SAID, but for those that are the branch's own."""
    index = {**os.environ, "GIT_INDEX_FILE": str(home(checkout) / "index")}
    head = git(folder, "rev-parse", BRANCH)
    names = (*OWN, *_updated_import(folder, base, head))
    git(folder, "read-tree", base, env=index)
    if own := git(folder, "ls-tree", "-r", "--name-only", head, "--", *names).splitlines():
        git(folder, "rm", "-rfq", "--cached", "--ignore-unmatch", "--", *names, env=index)
        for kept in (POINTERS[name] for name in own if name in POINTERS):  # DVC keeps the folder, and Git may not
            git(folder, "rm", "-rfq", "--cached", "--ignore-unmatch", "--", kept, env=index)
        entries = git(folder, "ls-tree", "-r", head, "--", *names)
        git(folder, "update-index", "--index-info", env=index, text=entries + "\n")
    if said := [name for name in SAID if (checkout / name).is_file()]:
        git(checkout, "add", "--force", "--", *said, env=index)
    wanted = git(folder, "write-tree", env=index)
    Path(index["GIT_INDEX_FILE"]).unlink()
    if wanted == git(folder, "rev-parse", f"{head}^{{tree}}"):
        return head
    merged = subprocess.run(["git", "merge-base", "--is-ancestor", base, head], cwd=folder).returncode == 0
    parents = ["-p", head] if merged else ["-p", head, "-p", base]
    return git(folder, "commit-tree", wanted, *parents, "-m", f"Code and parameters of {base[:12]}")


def _updated_import(folder: Path, base: str, head: str) -> list[str]:
    """The pointer to imported footage, which nights update; not where the checkout has changed it since."""
    pointer = footage_pointer(folder, base)
    if pointer is None:
        return []
    since = git(folder, "merge-base", base, head)
    return [] if git(folder, "diff", "--name-only", since, base, "--", pointer) else [pointer]


def footage_pointer(folder: Path, rev: str | None = None) -> str | None:
    """The file by which DVC keeps the footage that params.yaml names, as `dvc import-url` and `dvc add` write it.

    Args:
        folder: the worktree.
        rev: whose params.yaml is asked; None is the one that lies there.

    Returns:
        Its path in the worktree; None where none lies there.
    """
    videos = _paths(folder, rev).get("videos")
    return _pointer(folder, videos) if videos else None


def _pointer(folder: Path, path: str) -> str | None:
    name = f"{path}.dvc"
    return name if not Path(path).is_absolute() and (folder / name).is_file() else None


def _paths(folder: Path, rev: str | None = None) -> dict[str, str]:
    """Where footage and labels lie, by params.yaml of the worktree or of a revision; what it lacks, the stages tell."""
    try:
        text = git(folder, "show", f"{rev}:params.yaml") if rev else (folder / "params.yaml").read_text("utf-8")
        data = YAML(typ="safe").load(text)["data"]
        return {name: data[name] for name in ("videos", "labels") if isinstance(data.get(name), str)}
    except (OSError, NightError, YAMLError, KeyError, TypeError, AttributeError):
        return {}


def _links(folder: Path, checkout: Path) -> dict[Path, Path]:
    """Folders of footage and labels that only the checkout has: a link in the worktree, and what it leads to."""
    return {
        folder / path: checkout / path
        for path in _paths(folder).values()
        if not Path(path).is_absolute() and (checkout / path).is_dir() and not _is_made(folder, path)
    }


def _is_made(folder: Path, path: str) -> bool:
    """Whether DVC makes it: a stage, or a .dvc file such as `dvc import-url` writes."""
    return path in _outs(folder) or _pointer(folder, path) is not None


def _outs(folder: Path) -> list[str]:
    """What stages make, as `dvc.yaml` says; but for measures and plots, which Git keeps."""
    return [_path_of(out) for stage in _stages(folder / "dvc.yaml") for out in stage.get("outs", []) if _is_cached(out)]


def _is_cached(out: Any) -> bool:
    return isinstance(out, str) or next(iter(out.values())).get("cache", True)


def _stages(file: Path) -> list[dict[str, Any]]:
    """Of `dvc.yaml` or `dvc.lock`; none where there is no such file, or one of which DVC complains by itself."""
    try:
        return list(YAML(typ="safe").load(file)["stages"].values())
    except (OSError, YAMLError, KeyError, TypeError, AttributeError):
        return []


def _path_of(out: Any) -> str:
    return out if isinstance(out, str) else str(next(iter(out)))


def model_tags(folder: Path, *, everywhere: bool = False) -> list[str]:
    """`model/v1`, `model/v2`, … of published nights, in their order; with those of other branches if `everywhere`."""
    merged = [] if everywhere else ["--merged", BRANCH]
    names = git(folder, "tag", *merged, "--list", "model/v*").splitlines()
    return sorted((n for n in names if n.removeprefix("model/v").isdigit()), key=lambda n: int(n[7:]))


def set_champion(folder: Path, rev: str = BRANCH) -> bool:
    """Make the models of a published night what a candidate must not be worse than; False where there is none yet."""
    model = _output(folder, rev, "data/model") if model_tags(folder) else None
    if model is None:
        return False
    _take(folder, CHAMPION, model)
    return True


def set_start(folder: Path, base: str, scratch_every: int) -> bool:
    """Make the last published models what the candidate starts from; False where its turn is to start from scratch.

    Args:
        folder: the worktree.
        base: a revision of the checkout, whose folder without models takes their place.
        scratch_every: so many published trainings have one from scratch among them.
    """
    model = _output(folder, BRANCH, "data/model")
    if model is not None and int(git(folder, "rev-list", "--count", BRANCH, "--", TRAINED)) % scratch_every:
        _take(folder, START, model)
        return True
    if (folder / f"{START}.dvc").is_file():
        (folder / f"{START}.dvc").unlink()
        shutil.rmtree(folder / START, ignore_errors=True)
        git(folder, "rm", "-q", "--cached", "--ignore-unmatch", "--", f"{START}.dvc")
        git(folder, "checkout", "-q", base, "--", START)
    return False


def _take(folder: Path, path: str, model: dict[str, Any]) -> None:
    """Put a published model at a path, with a pointer to it in the place of what Git has there.

    Raises:
        NightError: its data cannot be had.
    """
    pointer, target = folder / f"{path}.dvc", folder / path
    git(folder, "rm", "-rfq", "--cached", "--ignore-unmatch", "--", path)
    ignored, line = folder / "data/.gitignore", f"/{target.name}"
    lines = ignored.read_text().splitlines() if ignored.is_file() else []
    if line not in lines:
        ignored.write_text("\n".join([*lines, line]) + "\n")
    YAML().dump({"outs": [{**model, "path": target.name}]}, pointer)
    shutil.rmtree(target, ignore_errors=True)
    _fetch(folder, f"the model of an earlier night, for {path},", [str(pointer.relative_to(folder))], lambda line: None)


def _fetch(folder: Path, what: str, targets: list[str], log: Callable[[str], None]) -> None:
    """Put data in its place, whatever a failed night has left there, from the cache or else from the remote.

    Raises:
        NightError: neither has it; the message ends with DVC's reason.
    """
    try:
        run(["checkout", "--force", *targets], folder, log, DVC_SECONDS)
    except DvcError:
        try:
            run(["pull", "--force", *targets], folder, log, DVC_SECONDS)
        except DvcError as error:
            reason = " ".join(str(error).partition("\n")[2].split())  # without the command, which names every target
            raise NightError(
                f"{what} is neither in the DVC cache nor on a remote within reach; `dvc push` it where it was made, "
                f"and name its remote here with `dvc remote add --default`; DVC says: {reason}"
            ) from None


def _output(folder: Path, rev: str, path: str) -> dict[str, Any] | None:
    """What `dvc.lock` of a revision says of an output."""
    try:
        lock = YAML(typ="safe").load(git(folder, "show", f"{rev}:dvc.lock"))
    except NightError:
        return None
    outs = (out for stage in lock["stages"].values() for out in stage.get("outs", []))
    return next((dict(out) for out in outs if out["path"] == path), None)


def go_back(folder: Path, tag: str, stages: Sequence[str], log: Callable[[str], None]) -> None:
    """Make the models of an earlier version the champion, and refuse the candidates of every night after it.

    Those that the gate had refused, too: they started from models that are no champions any more, and may be better
    than this one by its measures.

    Args:
        folder: the worktree.
        tag: the version.
        stages: whose outputs the last published night left, and the next stages read.
        log: takes what DVC writes.

    Raises:
        NightError: there is no such version, or the data of the last published night cannot be had.
    """
    tags = model_tags(folder)
    if tag not in tags:
        listed = ", ".join(tags[-5:]) or "none yet"
        raise NightError(f"no published version is called {tag!r}; the last ones are {listed}")
    pointer = footage_pointer(folder)
    if pointer and not (folder / pointer).with_suffix("").exists():
        _fetch(folder, "the footage", [pointer], log)
    _fetch(folder, "the data of the last published night", _made(folder, stages), log)
    nights = git(folder, "rev-list", "--first-parent", f"{tag}..{BRANCH}", "--", TRAINED).splitlines()
    later = set().union(*(_candidates(folder, night) for night in nights))
    withdrawn = folder / WITHDRAWN
    lines = withdrawn.read_text().splitlines() if withdrawn.is_file() else ["model_version"]
    lines += sorted(later - _candidates(folder, tag) - set(lines))
    withdrawn.write_text("\n".join(lines) + "\n")
    set_champion(folder, tag)


def _made(folder: Path, stages: Sequence[str]) -> list[str]:
    """Outputs of these stages that the last published night has and dvc.yaml still knows; DVC cannot give others."""
    lock = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    outs = (out["path"] for stage in stages if stage in lock for out in lock[stage].get("outs", []))
    return [path for path in outs if _is_made(folder, path)]


def _candidates(folder: Path, rev: str) -> set[str]:
    """The versions that were trained in a published night."""
    measured = json.loads(git(folder, "show", f"{rev}:data/metrics/train.json"))
    return {camera["version"] for camera in measured.values()}


def publish(folder: Path, subject: str) -> Published:
    """Commit what the night made, and tag its models where they are others than those of the last tag."""
    present = [name for name in OWN if (folder / name).exists()]
    if footage := footage_pointer(folder):
        present.append(footage)
    git(folder, "add", "--force", "--", *present)
    if git(folder, "diff", "--cached", "--name-only"):
        git(folder, "commit", "-q", "-m", subject)
    commit = git(folder, "rev-parse", "HEAD")
    model, tags = _output(folder, commit, "data/model"), model_tags(folder)
    if model is None or (tags and _output(folder, tags[-1], "data/model") == model):
        return Published(commit, None)
    number = max((int(name[7:]) for name in model_tags(folder, everywhere=True)), default=0) + 1
    # The plain name is for people and `results.load`; the other one is what `dvc artifacts get` and GTO look for.
    for name in (f"model@v{number}.0.0", f"model/v{number}"):
        git(folder, "tag", "--force", "-a", name, "-m", subject, commit)
    return Published(commit, f"model/v{number}")


def push(folder: Path, log: Callable[[str], None], timeout_seconds: float = DVC_SECONDS) -> str:
    """Send data to the default remote of DVC, if there is one, and what earlier nights could not send.

    Returns:
        `none` without a remote, `pushed`, or `away`: the remote cannot be reached, and the next night tries again.
    """
    if not _has_remote(folder):
        return "none"
    sent = git(folder, "rev-parse", "-q", "--verify", SENT, fails="")
    nights = git(folder, "rev-list", "--first-parent", f"{sent}..HEAD" if sent else "HEAD", "--", "dvc.lock")
    try:
        run(["push", "-q", *(["--all-commits"] if "\n" in nights else [])], folder, log, timeout_seconds)
    except DvcError as error:
        log(f"warning: the data of this night stays here, the next night sends it: {error}")
        return "away"
    git(folder, "update-ref", SENT, "HEAD")
    return "pushed"


def _has_remote(folder: Path) -> bool:
    config = ConfigParser()
    config.read(folder / ".dvc" / name for name in ("config", "config.local"))
    return bool(config.get("core", "remote", fallback=""))


def git(
    folder: Path, *arguments: str, env: dict[str, str] | None = None, text: str = "", fails: str | None = None
) -> str:
    """What `git ARGUMENTS` writes, without the last end of line.

    Args:
        folder: where it runs.
        arguments: of it.
        env: its environment; None is ours.
        text: its standard input.
        fails: what to return where it fails; None raises.

    Raises:
        NightError: it failed; the message is its own.
    """
    done = subprocess.run(
        [*GIT, *arguments], cwd=folder, env=env, input=text, capture_output=True, text=True, errors="backslashreplace"
    )
    if done.returncode:
        if fails is not None:
            return fails
        raise NightError(f"`git {' '.join(arguments)}` failed in {folder}: {' '.join(done.stderr.split())}")
    return done.stdout.rstrip("\n")
