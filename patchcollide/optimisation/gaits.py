"""How images move within a bound on features: free pixels otherwise than compositions."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gait:
    """The pace of a descent.

    Attributes:
        averages: Adam's: of gradients and of their squares.
        size: Of steps at first, as a share of the learning rate.
        largest: The centre's steps grow up to this share, where it comes no nearer.
        vertices: The size of theirs at first. Near the bound larger ones shake features, which then
            count for nearly all.
        centre: Of all steps, that the centre may take.
        moves: Of the centre, in a step of the descent: they cost less than one of all vertices.
        rate: Of the slow parts of multipliers, see
            :func:`patchcollide.optimisation.multipliers.weigh`.
        gain: Of the fast ones.
    """

    averages: tuple[float, float]
    size: float
    largest: float
    vertices: float
    centre: float
    moves: int
    rate: float
    gain: float


# Long averages keep free pixels nearest to the source; short ones are faster for compositions.
# In small steps features held, and yet counted for nine tenths, until multipliers were quick.
PIXELS = Gait(
    averages=(0.9, 0.999),
    size=0.4,
    largest=1.0,
    vertices=0.2,
    centre=0.5,
    moves=3,
    rate=0.2,
    gain=15.0,
)
COMPOSITIONS = Gait(
    averages=(0.8, 0.99),
    size=0.5,
    largest=0.5,
    vertices=0.5,
    centre=0.4,
    moves=1,
    rate=0.05,
    gain=5.0,
)
