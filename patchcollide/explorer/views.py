"""A run as the explorer shows it: page and pictures in memory, answers about its points."""

import json
from importlib.resources import files

from patchcollide.errors import RunError
from patchcollide.evaluation.simplex import leg_labels, tour
from patchcollide.evaluation.summary import Summary
from patchcollide.explorer.faces import RunFaces
from patchcollide.explorer.points import Points
from patchcollide.explorer.requests import MAX_IMAGE_BYTES
from patchcollide.images.pictures import read_png
from patchcollide.networks.network import CollisionNetwork
from patchcollide.report.templates import embedded, render
from patchcollide.runs.folder import Run, require_files
from patchcollide.runs.summary import read_summary

_POINTS_PER_LEG = 16
_SMALL_PX = 112

_PARTS = (
    ("report/style.css", "text/css"),
    ("report/simplex.js", "text/javascript"),
    ("explorer/explorer.css", "text/css"),
    ("explorer/explorer.js", "text/javascript"),
    ("explorer/collisions.js", "text/javascript"),
    ("explorer/faces.js", "text/javascript"),
)


def read_parts() -> dict[str, tuple[bytes, str]]:
    """Returns the styles and scripts of the page with their media types, by file name."""
    package = files("patchcollide")
    return {name.split("/")[1]: ((package / name).read_bytes(), media) for name, media in _PARTS}


class RunView:
    """A finished run in memory.

    Args:
        run: The run.
        network: The network it was made with.
        root: Where the explorer's own parts are, from this page: empty, or ``../../``.

    Attributes:
        points: Answers about its points.
        faces: Proofs of its edges and triangles.
        pictures: Its PNG files by name.
        report: Its page.
        page: The page that explores it.

    Raises:
        InputError: If a file is missing or damaged, or holds something else.
    """

    def __init__(self, run: Run, network: CollisionNetwork, root: str = "") -> None:
        require_files(run, run.config.optimiser.num_vertices)
        summary = read_summary(run)
        self.points = Points(run, network, read_png(run / "source.png"))
        self.faces = RunFaces(run, network)
        names = ["source", *(f"vertex-{number}" for number in range(self.points.num_vertices))]
        names += ["target"] if run.target_file == "target.png" else []
        self.pictures = {f"{name}.png": (run / f"{name}.png").read_bytes() for name in names}
        self.report = (run / "report.html").read_bytes()
        self.page = self._page(run, summary, network, root).encode()

    def _page(self, run: Run, summary: Summary, network: CollisionNetwork, root: str) -> str:
        count, side = (
            self.points.num_vertices,
            embedded("source", self.pictures["source.png"]).width,
        )
        points = tour(count, _POINTS_PER_LEG)
        data = {
            "root": root,
            "maxBytes": MAX_IMAGE_BYTES,
            "tour": points.round(6).tolist(),
            "legs": leg_labels(count),
            "pointsPerLeg": _POINTS_PER_LEG,
        }
        try:
            vertices = [
                {
                    "name": f"vertex-{number}.png",
                    "class_name": vertex["class_name"],
                    "probability": vertex["probability"],
                }
                for number, vertex in enumerate(summary["vertices"])
            ]
        except (KeyError, TypeError) as error:
            raise RunError(
                f"{run / 'summary.json'} is damaged: it does not describe the vertices ({error}). "
                f"Measure the run again with `patchcollide evaluate {run.folder}`."
            ) from error
        return render(
            "explorer.html.j2",
            summary=summary,
            run=run.folder.name,
            root=root,
            network=network.full_name,
            vertices=vertices,
            has_target="target.png" in self.pictures,
            side=side,
            small=side < _SMALL_PX,
            tour_points=len(points),
            data=json.dumps(data),
        )
