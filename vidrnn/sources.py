"""The code of a stage: a change of it makes anew what the stage made, and nothing else does."""

from collections.abc import Sequence
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from vidrnn.schema import SCHEMA_VERSION
from vidrnn.storage import digest, sha256_file

PACKAGE = Path(__file__).parent


class _OwnModules(ModuleFinder):
    """Follows imports of one package alone, whatever else lies beside it."""

    def __init__(self, package: Path) -> None:
        super().__init__(path=[str(package.parent)])
        self._name = package.name

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        """As the class above, which calls it without a path for what is in no package."""
        if path is None and name != self._name:
            raise ImportError(name)
        return super().find_module(name, path, parent)


def sources(stage: str, package: Path = PACKAGE) -> dict[str, str]:
    """The modules that `python -m vidrnn.stages.STAGE` imports, wherever in them it does so, with the hash of each.

    Args:
        stage: its name.
        package: the folder of this package.

    Returns:
        The sha256 of each, by its path from the folder that holds the package, in order.
    """
    root = package.resolve().parent
    finder = _OwnModules(package.resolve())
    finder.import_hook(f"{package.name}.stages.{stage}")
    files = [Path(name) for module in finder.modules.values() if (name := getattr(module, "__file__", None))]
    return dict(sorted((path.relative_to(root).as_posix(), sha256_file(path)) for path in files))


def stage_digest(stage: str, params: Any, packages: Sequence[str]) -> str:
    """What a per-video output of a stage depends on, apart from its video.

    Args:
        stage: its name; its own modules count with their bytes.
        params: its JSON-able parameters.
        packages: others, whose versions count.
    """
    versions = {name: version(name) for name in packages}
    return digest({"params": params, "code": sources(stage), "versions": versions, "schema": SCHEMA_VERSION})
