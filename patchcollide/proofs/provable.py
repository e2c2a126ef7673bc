"""What a polytope needs so that something of all its images can be proved."""

from patchcollide.networks.targets import HasTarget
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.hulls import SECONDS, Claim, Prover
from patchcollide.proofs.results import HullProof
from patchcollide.shapes import UInt8, ndarray
from patchcollide.torch_modes import proof_modes


class Provable(HasTarget):
    """Vertices, the network that they are for, and what they collide with.

    Attributes:
        vertices: 8-bit images.
    """

    vertices: UInt8[ndarray, "vertices height width channels"]

    @proof_modes()
    def prove(
        self, *, rounding: bool = False, tightness: float | None = None, seconds: float = SECONDS
    ) -> HullProof:
        """Proves what can be proved of all images between the vertices, or refutes it.

        Args:
            rounding: Whether images are meant that are rounded to 8 bits, in whatever way.
            tightness: What features may differ by, as a share of the target's; None for what the
                vertices were asked for, if it was something.
            seconds: How long to refine what is left open at first.

        Raises:
            NetworkError: If a part of the network has no bounds.
            ValueError: If there are no seconds, or ``tightness`` is no share.
        """
        if not seconds > 0:
            raise ValueError(f"Expected seconds above 0 to prove in, but found {seconds:g}.")
        if tightness is not None and not 0 < tightness < 1:
            raise ValueError(f"Expected a tightness between 0 and 1, but found {tightness:g}.")
        gamma = tightness or self.config.objective.tightness or None
        bounds = HullBounds.of(self.network, self.vertices, self.target, rounding=rounding)
        return Prover(bounds, Claim(gamma, rounding, seconds, seed=self.config.seed)).run()
