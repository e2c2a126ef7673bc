"""Finds feature collisions: polytopes of different-looking images a network cannot tell apart.

After Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019.
"""

import sys
from typing import TYPE_CHECKING, Any

from patchcollide._moved import LEFT, MOVED, MovedModules, moved_module
from patchcollide._version import __version__

if TYPE_CHECKING:
    from patchcollide.api import find_polytope
    from patchcollide.config import Config
    from patchcollide.config_files import load_config
    from patchcollide.errors import PatchCollideError
    from patchcollide.networks.loading import load_network
    from patchcollide.networks.network import CollisionNetwork
    from patchcollide.polytope import Polytope
    from patchcollide.store.reader import PatchStore

__all__ = [
    "CollisionNetwork",
    "Config",
    "PatchCollideError",
    "PatchStore",
    "Polytope",
    "__version__",
    "find_polytope",
    "load_config",
    "load_network",
]

# Modules are imported when a name of theirs is first used: with PyTorch that takes seconds.
_HOMES = {
    "CollisionNetwork": "networks.network",
    "Config": "config",
    "PatchCollideError": "errors",
    "PatchStore": "store.reader",
    "Polytope": "polytope",
    "find_polytope": "api",
    "load_config": "config_files",
    "load_network": "networks.loading",
}
# What is public of the package beside these names; see its architecture.
_MODULES = ("errors", "pipeline", "polyhedra")


sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> Any:
    if name in MOVED:
        return moved_module(name)
    if name not in _HOMES:
        where = f". {LEFT[name]}" if name in LEFT else ""
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'{where}")
    home = __import__(f"{__name__}.{_HOMES[name]}", fromlist=[name])
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
