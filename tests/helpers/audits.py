"""Images of bright and dark pixels, of which audits know the polytopes."""

SIDE = 6
BRIGHT, DARK = 204, 51
