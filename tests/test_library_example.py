"""The example of the README's section on the library runs as it stands."""

from pathlib import Path

from patchcollide import Polytope

HEADING = "## Use it as a library"
EXAMPLE = """
from torch import nn

from patchcollide import find_polytope
from patchcollide.photographs import photograph

module = nn.Sequential(  # yours: any module from a batch of images to logits
    nn.Conv2d(3, 16, kernel_size=7, stride=4),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(4),
    nn.Flatten(),
    nn.Linear(256, 10),
)
polytope = find_polytope(
    module,
    "1",  # the activation whose input is to collide, as the module names it
    photograph("chelsea"),  # a path, a Pillow picture or an uint8 array, as the target
    photograph("coffee"),
    input_size=64,
    mean=(0.485, 0.456, 0.406),
    scale=(0.229, 0.224, 0.225),
    settings={"optimiser.steps": 30, "network.min_confidence": 0},
)
polytope.vertices  # uint8 (5, 64, 64, 3)
numbers = polytope.evaluate(num_samples=100)  # the entries of summary.json
images = polytope.sample(10, seed=1)  # between the vertices, rounded to 8 bits
polytope.contains(images[0])  # is it of the target's class?
polytope.contains(images[0], tolerance=0.5)  # and is every feature within 0.5 of the target's?
polytope.walk(num_edges=1)["worst_margin"]  # on the edge that comes nearest to failing
polytope.save("runs/mine")  # a run's folder, for figure, animate, report and compare
"""


def test_it_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(compile(EXAMPLE, "README.md", "exec"), found)  # noqa: S102
    assert found["polytope"].vertices.shape == (5, 64, 64, 3)
    assert found["images"].shape == (10, 64, 64, 3)
    assert found["numbers"]["num_samples"] == 100
    assert len(Polytope.load("runs/mine")) == 5


def test_the_readme_shows_this_example():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert EXAMPLE.strip() in readme.partition(HEADING)[2]
