"""Finds feature collisions: polytopes of different-looking images a network cannot tell apart.

After Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patchcollide.config import Config, load_config
    from patchcollide.errors import PatchCollideError
    from patchcollide.networks import CollisionNetwork, load_network
    from patchcollide.polytope_search import find_polytope
    from patchcollide.polytopes import Polytope
    from patchcollide.store import PatchStore

__version__ = "0.1.0"

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
    "CollisionNetwork": "networks",
    "Config": "config",
    "PatchCollideError": "errors",
    "PatchStore": "store",
    "Polytope": "polytopes",
    "find_polytope": "polytope_search",
    "load_config": "config",
    "load_network": "networks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    home = __import__(f"{__name__}.{_HOMES[name]}", fromlist=[name])
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
