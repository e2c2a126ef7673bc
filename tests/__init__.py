"""Tests of patchcollide."""

# Named in pyproject.toml, where it must be found as an attribute of this package.
from tests.helpers import type_checks as type_checks
