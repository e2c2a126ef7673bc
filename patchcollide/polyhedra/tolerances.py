"""Tolerances of geometry in float64: what counts as zero, always beside the size of the data.

Rows are compared after division by how much they vary over the range of the variables, variables
after division by their range, singular values by the largest. So a layer's weights and biases times
any number, or a pixel in another unit, change no answer.
"""

EPSILON = 2.0**-52
"""Distance of 1 to the next number."""

ROUNDING = 16 * EPSILON
"""What rounding makes of a sum of products, as a share of the Euclidean bound of its terms.

The worst case for ``n`` terms is ``n * EPSILON`` of the sum of their sizes (Higham, "Accuracy and
Stability of Numerical Algorithms", 2002, Section 3.1). Errors of either sign grow as the root, and
the product of lengths is larger than that sum's square root of ``n``-th: 16 is enough for both.
"""

RANK = 1e-9
"""Singular values of rows scaled to length 1 count as zero up to this share of the largest.

Far above the rounding of a decomposition, some ``EPSILON`` times the root of the number of rows, so
that rows that depend on each other do; far below the 6e-8 by which rows differ that were equal but
for a factor before they were rounded to float32, which are different equations.
"""

SHARE = 1e-9
"""Violations and distances up to this share of the size of what is compared count as none.

Ten times what linear programs are solved to, :data:`SOLVED`, since several of these errors meet.
"""

TIGHT = 1e-7
"""A solver's point this near to a boundary, as a share of the range, may lie on it.

It is :data:`WIDE`: where numbers are far apart a solver does no better.
"""

SOLVED = 1e-10
"""What linear programs are solved to, after scaling: the least that HiGHS takes."""

WIDE = 1e-7
"""HiGHS's own, for programs that cannot be solved to the former."""

MET = ROUNDING
"""Violations up to this share leave nothing to polish."""


def resolution(smallest_share: float) -> float:
    """Returns how long a part of a unit vector must be to count, off a subspace that is computed.

    The subspace turns by up to the rounding over the smallest singular value that spans it; what
    lies within it seems to stick out by as much.

    Args:
        smallest_share: That value, as a share of the largest; at least :data:`RANK`.
    """
    return max(RANK, ROUNDING / smallest_share)
