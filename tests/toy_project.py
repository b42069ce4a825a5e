"""A checkout with the flows of this project and stages of a second each, that keep to the same files."""

import shutil
import subprocess
from pathlib import Path

from commands import dvc, git

ROOT = Path(__file__).resolve().parents[1]
PARAMS = """
data: {videos: data/videos, labels: data/labels, time_zone: UTC}
nightly: {cron: "0 2 * * *", scratch_every: 2, watch: [], keep_days: null, keep_gigabytes: null}
"""
STAGES = {
    "train.py": """
import hashlib, json, pathlib
start = pathlib.Path("data/start/gate/model.json")
start = json.loads(start.read_text())["version"] if start.is_file() else None
text = "".join(path.read_text() for path in sorted(pathlib.Path("data/videos").rglob("*.mp4")))
version = hashlib.sha256(f"{text}{start}".encode()).hexdigest()[:12]
for folder in ("data/candidate/gate", "data/metrics"):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
pathlib.Path("data/candidate/gate/model.json").write_text(json.dumps({"version": version, "saw": text, "start": start}))
pathlib.Path("data/metrics/train.json").write_text(json.dumps({"gate": {"version": version, "seen": len(text)}}))
""",
    "gate.py": """
import json, pathlib, shutil
version = json.loads(pathlib.Path("data/candidate/gate/model.json").read_text())["version"]
withdrawn = pathlib.Path("data/withdrawn.csv").read_text().split()
shutil.copytree("data/champion" if version in withdrawn else "data/candidate", "data/model")
""",
    "report.py": """
import pathlib, shutil
pathlib.Path("data/report").mkdir()
shutil.copy("data/model/gate/model.json", "data/report/index.html")
pathlib.Path("data/plots").mkdir(exist_ok=True)
pathlib.Path("data/plots/scores.csv").write_text("score,ordinary,unusual\\n0.0,0.5,0.0\\n0.1,0.5,0.0\\n")
""",
    "dvc.yaml": """
artifacts:
  model: {path: data/model, type: model}
stages:
  demo:  # which nothing here needs
    cmd: mkdir data/demo
    outs: [data/demo]
  train:
    cmd: python train.py
    deps: [train.py, data/videos, data/start]
    outs: [data/candidate]
    metrics: [data/metrics/train.json: {cache: false}]
  gate:
    cmd: python gate.py
    deps: [gate.py, data/candidate, data/champion, data/withdrawn.csv]
    outs: [data/model]
  report:
    cmd: python report.py
    deps: [report.py, data/model]
    outs: [data/report]
""",
}


def make_checkout(repo: Path) -> Path:
    """Committed, with one video."""
    repo.mkdir(parents=True)
    git(repo, "init", "-q")
    dvc(repo, "init", "-q")
    shutil.copytree(ROOT / "flows", repo / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, repo / name)
    (repo / "params.yaml").write_text(PARAMS)
    for name, text in STAGES.items():
        (repo / name).write_text(text)
    for folder in ("videos", "labels", "champion", "start"):
        (repo / "data" / folder).mkdir(parents=True)
    for folder in ("videos", "labels"):
        (repo / "data" / folder / ".gitignore").write_text("*\n!.gitignore\n")
    (repo / "data/champion/README").write_text("the champion\n")
    (repo / "data/start/README").write_text("the start\n")
    (repo / "data/withdrawn.csv").write_text("model_version\n")
    film(repo, "first")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "code")
    return repo


def list_code(repo: Path) -> None:
    """From this commit on, the gate depends on a list of its code, which a stage of its own writes, and not on that."""
    text = (repo / "dvc.yaml").read_text().replace("[gate.py, data", "[data/code/gate.txt, data")
    stage = """stages:
  code:
    cmd: mkdir data/code; sha256sum gate.py > data/code/gate.txt
    deps: [gate.py]
    outs: [data/code]
"""
    (repo / "dvc.yaml").write_text(text.replace("stages:\n", stage))
    git(repo, "commit", "-qam", "a list of code")


def film(repo: Path, name: str) -> None:
    """What a camera has recorded."""
    folder = repo / "data/videos/gate"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.mp4").write_text(name)


def has_namespaces() -> bool:
    """Whether a user may mount a file system that only his own processes see."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0
