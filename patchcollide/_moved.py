"""Modules that moved: their former names work for one release, and say where to look now."""

import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "extents": "polyhedra.extents",
    "linear": "polyhedra.exact_polytope",
    "photographs": "images.photographs",
    "proposition": "polyhedra.proposition1",
    "regularisers": "networks.models.regularisers",
    "tours": "evaluation.simplex",
}
"""The modules that CHANGELOG named, before packages came: former and present name."""

LEFT = {
    "against_exact": "It serves one benchmark and lies beside it, in scripts/against_exact.py.",
}
"""Modules that CHANGELOG named and that are no part of the package any more: where they are."""


def moved_module(name: str) -> ModuleType:
    """Returns the module that ``patchcollide.NAME`` has become, with a ``FutureWarning``."""
    now = f"patchcollide.{MOVED[name]}"
    # Three frames up: past this one, and past those of whoever looks names up.
    warnings.warn(
        f"patchcollide.{name} is {now} now; its former name goes with the next release.",
        FutureWarning,
        stacklevel=3,
    )
    return __import__(now, fromlist=["__name__"])


class MovedModules(MetaPathFinder, Loader):
    """Finds moved modules by their former names, for ``import`` and ``from ... import``."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Returns a spec for the former name of a module, None for every other name."""
        package, _, module = name.partition(".")
        if package == "patchcollide" and module in LEFT:
            raise ModuleNotFoundError(f"{name} has left the package. {LEFT[module]}", name=name)
        known = package == "patchcollide" and module in MOVED
        return ModuleSpec(name, self) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the module as it is found now."""
        module = moved_module(spec.name.partition(".")[2])
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module its own spec back, which the import of its former name replaced."""
        module.__spec__ = self._own_spec
