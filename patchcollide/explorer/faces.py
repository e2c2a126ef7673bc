"""What is proved of an edge or a triangle of a run, while a page looks on."""

from typing import Any

from patchcollide.explorer.requests import RequestError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.faces import FaceProof, Faces
from patchcollide.runs.folder import Run
from patchcollide.runs.summary import read_run_target
from patchcollide.runs.vertices import load_vertex_pngs

SECONDS = 2.0
"""How long each question may take; asked again, the proof goes on."""


class RunFaces:
    """Proofs of a run's faces; the bounds are set up when the first is asked for.

    Args:
        run: A finished run.
        network: The one it was made with.
    """

    def __init__(self, run: Run, network: CollisionNetwork) -> None:
        self._run, self._network = run, network
        self._faces: Faces | None = None

    def prove(self, vertices: tuple[int, ...]) -> FaceProof:
        """Proves more of a face.

        Raises:
            NetworkError: If a part of the network has no bounds.
        """
        if self._faces is None:
            target = read_run_target(self._run, self._network)
            images = load_vertex_pngs(self._run)
            self._faces = Faces(HullBounds.of(self._network, images, target, rounding=False))
        return self._faces.prove(vertices, SECONDS)


def parse_face(value: Any, num_vertices: int) -> tuple[int, ...]:
    """Reads the numbers of a face's vertices.

    Raises:
        RequestError: If they are not two or three different ones that there are.
    """
    expected = f"two or three different numbers from 0 to {num_vertices - 1}"
    whole = isinstance(value, list) and all(type(number) is int for number in value)
    if not whole or len(set(value)) != len(value) or len(value) not in (2, 3):
        raise RequestError(400, f"The vertices of a face should be {expected}.")
    if min(value) < 0 or max(value) >= num_vertices:
        raise RequestError(400, f"The vertices of a face should be {expected}.")
    return tuple(value)
