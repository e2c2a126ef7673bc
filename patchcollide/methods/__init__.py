"""Ways to find images that a network takes for the target: ours, and others to compare with.

Each method is a function from a :class:`Problem` to images and how their search went. What a method
needs is imported only when it is asked for.
"""

from patchcollide.config import Config
from patchcollide.errors import ConfigError
from patchcollide.methods.problems import Method, Problem, begin

__all__ = ["Method", "Problem", "begin", "method_of", "require_applicable"]

PIXELS_ONLY = {
    "null_space": "moves the image itself along directions that a layer does not see",
    "adversarial": "changes each pixel by at most a few grey levels",
}


def method_of(config: Config) -> Method:
    """Returns the method that the settings name.

    Raises:
        MissingLibraryError: If it needs a library that is not installed.
    """
    if config.method == "polytope":
        from patchcollide.methods.polytopes import find_polytope

        return find_polytope
    if config.method == "features":
        from patchcollide.methods.features import match_features

        return match_features
    if config.method == "metamer":
        from patchcollide.methods.metamers import find_metamers

        return find_metamers
    if config.method == "null_space":
        from patchcollide.methods.null_space import search_null_space

        return search_null_space
    from patchcollide.methods.adversarial import attack, import_foolbox

    import_foolbox()
    return attack


def require_applicable(config: Config, *, pixels: bool) -> None:
    """Refuses what a method cannot do, before anything long begins.

    Args:
        config: ``method`` and section ``baselines``.
        pixels: Whether pixels vary freely; else patches are composed.

    Raises:
        ConfigError: If the method, or the start asked for, is for free pixels only.
        MissingLibraryError: If it needs a library that is not installed.
    """
    method_of(config)
    if pixels or config.method == "polytope":
        return
    if config.method in PIXELS_ONLY:
        raise ConfigError(
            f"method = '{config.method}' {PIXELS_ONLY[config.method]}, so it does not apply to "
            "compositions of patches. Give --pixels in place of a store or neighbours."
        )
    if config.baselines.start != "auto":
        raise ConfigError(
            f"baselines.start = '{config.baselines.start}' is for free pixels: compositions of "
            "patches start from all neighbours alike. Give --pixels, or baselines.start = 'auto'."
        )
