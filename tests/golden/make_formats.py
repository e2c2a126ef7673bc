"""Writes a file of each format beside this one, as the sources of commit fe7da0e did.

It was run as ``PYTHONPATH=. python tests/golden/make_formats.py`` there. What has a file already is
left alone: a later version of a format gets a line of its own here, beside that of the older one.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from patchcollide.audit import audit
from patchcollide.composition.contributions import Contributions
from patchcollide.config_files import load_config
from patchcollide.evaluation.dimensions import measure_dimensions
from patchcollide.evaluation.samples import HullSamples, save_samples
from patchcollide.evaluation.transfer import Cell, Figures, TransferMatrix
from patchcollide.geometry import PatchGrid
from patchcollide.images.digits import Digits, write_digits
from patchcollide.images.photographs import write_photographs
from patchcollide.images.pictures import write_png
from patchcollide.io.files import write_json
from patchcollide.networks.feature_files import write_features
from patchcollide.networks.network import CollisionNetwork
from patchcollide.optimisation.checkpoints import Checkpoint, DescentState
from patchcollide.proofs.attack import Worst
from patchcollide.proofs.knowledge import Knowledge
from patchcollide.proofs.search import Cells
from patchcollide.reproduction.results import Check, Outcome, write_results
from patchcollide.retrieval.neighbours import Neighbours, Omissions
from patchcollide.store.export import export_patches
from patchcollide.store.index_builder import build_index
from patchcollide.store.reader import PatchStore
from patchcollide.store.sums_making import make_sums
from patchcollide.store.writer import write_store

HERE = Path(__file__).parent
SETTINGS = (
    "images.size_px=8",
    "patches.window_px=4",
    "patches.stride_px=4",
    "patches.patch_px=2",
    "retrieval.query_stride_px=4",
    "index.components=3",
    "index.kind=flat",
)


def tiny_network() -> CollisionNetwork:
    """Unit j sees how far pixel j of nine is above the middle."""
    fc, out = nn.Linear(9, 9), nn.Linear(9, 2)
    with torch.no_grad():
        fc.weight.copy_(torch.eye(9))
        fc.bias.fill_(-0.5)
        out.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 9))
        out.bias.copy_(torch.tensor([-1.4, 1.4]))
    module = nn.Sequential(nn.Flatten(), fc, nn.ReLU(), out)
    return CollisionNetwork(
        module,
        name="tiny",
        layer="2",
        input_size=3,
        mean=(0.0,),
        scale=(1.0,),
        class_names=("day", "night"),
    )


def write_pictures(folder: Path) -> Path:
    """Writes four pictures of 8 x 8 pixels; all numbers below 192 come up once."""
    for number in range(4):
        pixels = (np.arange(192) * (2 * number + 1) % 192).astype(np.uint8).reshape(8, 8, 3)
        (folder / "pictures" / f"class-{number % 2}").mkdir(parents=True, exist_ok=True)
        write_png(folder / "pictures" / f"class-{number % 2}" / f"{number}.png", pixels)
    return folder / "pictures"


def write_days(folder: Path) -> Path:
    """Writes an image with no dark pixel, and one with six of nine."""
    for label, dark in (("day", 0), ("night", 6)):
        pixels = np.full((9, 1), 204, np.uint8)
        pixels[:dark] = 51
        (folder / "days" / label).mkdir(parents=True)
        write_png(folder / "days" / label / "0.png", pixels.reshape(3, 3, 1))
    return folder / "days"


def features(out: Path) -> None:
    values = torch.arange(9, dtype=torch.float32) / 4 - 1
    write_features(out, values, tiny_network(), image="a/é.png", about={"fingerprint": "f" * 64})


def samples(out: Path) -> None:
    weights = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]])
    shares = np.array([0.5, 0.25, 0.125], np.float32)
    part = HullSamples(weights, np.array([0, 2, 1]), shares, shares / 2, shares / 4)
    save_samples(out, {"hull": part, "tour": part, "check": part}, "f" * 64)


def neighbours(out: Path) -> None:
    Neighbours(
        source=np.arange(192, dtype=np.uint8).reshape(8, 8, 3),
        grid=PatchGrid(image_size=8, window_size=4, stride=4, patch_size=2),
        ids=np.array([[0, 9], [1, 6], [2, 4], [11, 3]]),
        squared_distances=np.array([[0, 5], [1, 2], [3, 4], [4, 4]]),
        proven=np.array([True, False, True, True]),
        patches=(np.arange(4 * 2 * 6 * 6 * 3) % 251).astype(np.uint8).reshape(4, 2, 6, 6, 3),
        margin=1,
        image_names={0: "a/0.png", 1: "a/1.png", 2: "b/é.png"},
        omissions=Omissions(leaked_images=1, excluded_images=2, overlapping_patches=3),
    ).save(out, settings={"seed": 4}, seed=4, store="f" * 64)


def contributions(out: Path) -> None:
    numbers = np.arange(8).reshape(1, 2, 2, 2)
    Contributions(
        locations=numbers % 4,
        ranks=numbers % 3,
        parts=(numbers / 16).astype(np.float32),
        shares=np.full((1, 4, 3), 1 / 12, np.float32),
    ).save(out, "f" * 64)


def proof(out: Path) -> None:
    halves = torch.tensor([[[1, 0], [0.5, 0.5]], [[0.5, 0.5], [0, 1]]], dtype=torch.float64)
    bounds = torch.tensor([0.25, -0.5], dtype=torch.float64)
    cells = Cells(halves, bounds, torch.tensor([1, 1]), bounded=3, seconds=0.125)
    worst = Worst(0.75, torch.tensor([0.25, 0.75], dtype=torch.float64))
    Knowledge({"margin": cells}, {"margin": worst}).save(out, "f" * 64)


def checkpoint(out: Path) -> None:
    parameter = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    adam = torch.optim.Adam([parameter], lr=0.5)
    parameter.square().sum().backward()
    adam.step()
    generator = torch.Generator().manual_seed(3)
    history = [{"step": 0, "loss": 0.5, "seconds": 0.25}]
    state = DescentState(step=1, history=history, weights={"diversity": 2.5})
    Checkpoint(out, "f" * 64).save(parameter, adam, generator, state)


def store(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(overrides=SETTINGS)
        made = write_store(config, write_pictures(Path(folder)), out)
        build_index(made, config.index, config.seed)
    # The same as the other copy, and half of what a store this small takes.
    (out / "manifest.backup.json").unlink()


def sums(out: Path) -> None:
    wide = ("images.size_px=16", "patches.window_px=8", "patches.stride_px=8", "patches.patch_px=8")
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(overrides=[*SETTINGS, *wide, "retrieval.query_stride_px=8"])
        make_sums(write_store(config, write_pictures(Path(folder)), out))
    (out / "manifest.backup.json").unlink()


def patches(out: Path) -> None:
    export_patches(PatchStore.open(HERE / "store-v2"), out, compress=True, patches_per_shard=99)


def reproduction(out: Path) -> None:
    outcome = Outcome(
        table="table6",
        title="Cat and é",
        origin="Table 6, row 2",
        commands=("patchcollide collide",),
        checks=[Check(metric="steps", paper="7", expected="7 ± 1", status="OK", obtained="8")],
        values={"steps": 8.0},
        fingerprint="f" * 64,
        seconds=1.5,
        machine={"cpu": "one", "cores": 2, "gpu": None},
        versions={"numpy": "2"},
    )
    out.mkdir()
    write_results(out, {"cat": outcome})


def audited(out: Path) -> None:
    setattr(audit, "load_network", lambda *_: tiny_network())  # noqa: B010
    settings = ["audit.hull_samples=4", "audit.num_vertices=2", "audit.method=exact"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "audit"
        audit.audit(load_config(overrides=settings), write_days(Path(folder)), made)
        out.mkdir()
        for name in ("config.json", "audit.json"):
            shutil.copy(made / name, out)


def dimensions(out: Path) -> None:
    settings = ["network.name=mlp", "network.weights=random", "network.device=cpu"]
    with tempfile.TemporaryDirectory() as folder:
        picture = write_pictures(Path(folder)) / "class-0" / "0.png"
        measure_dimensions(load_config(overrides=settings), [picture], ["act2"], out=out)


def transfer(out: Path) -> None:
    figures = Figures(in_class=0.5, feature_distance=float("inf"), inactive_response=0.25)
    cell = Cell("run", "tiny", "2", True, "day", 0.75, 9, 3, hull=figures, source=None)
    about: Any = {"seed": 1}
    matrix = TransferMatrix((cell,), {("tiny", "2"): figures}, {"run": 4}, about)
    write_json(out, matrix.as_json())


def digits(out: Path) -> None:
    images = (np.arange(2 * 28 * 28) % 251).astype(np.uint8).reshape(2, 28, 28, 1)
    write_digits(out, Digits(images, np.array([3, 1]), name="some", split="test"), count=1)


def photographs(out: Path) -> None:
    write_photographs(out, cuts=0, size=8, seed=0)
    for folder in out.glob("*/"):
        shutil.rmtree(folder)


MAKERS: dict[str, Callable[[Path], None]] = {
    "features-v1.h5": features,
    "samples-v2.h5": samples,
    "neighbours-v3.h5": neighbours,
    "contributions-v1.h5": contributions,
    "checkpoint-v2.h5": checkpoint,
    "proof-v1.h5": proof,
    "store-v2": store,
    "sums-v1": sums,
    "patches-v1.h5": patches,
    "reproduction-v1": reproduction,
    "audit-v1": audited,
    "dimensions-v1.json": dimensions,
    "transfer-v2.json": transfer,
    "digits-v1": digits,
    "photographs-v1": photographs,
}

if __name__ == "__main__":
    for name, make in MAKERS.items():
        if not (HERE / name).exists():
            make(HERE / name)
