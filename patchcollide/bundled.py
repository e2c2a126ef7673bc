"""Files inside the wheels of scikit-image and scikit-learn: real data without a download.

The only module that knows where these two libraries are. It runs none of their code, because
``skimage.data`` would download what its wheel lacks.
"""

from importlib.util import find_spec
from pathlib import Path

from patchcollide.errors import DataError, MissingLibraryError

_LIBRARIES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def bundled_file(library: str, place: str) -> Path:
    """Returns the path of a file inside an installed library.

    Args:
        library: ``"skimage"`` or ``"sklearn"``.
        place: Its path inside.

    Raises:
        MissingLibraryError: If the library is not installed.
        DataError: If it came without the file.
    """
    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        raise MissingLibraryError(
            f"{Path(place).name} is part of {_LIBRARIES[library]}, which is not installed. Run "
            f"`pip install {_LIBRARIES[library]}`."
        )
    path = Path(spec.submodule_search_locations[0]) / place
    if not path.is_file():
        raise DataError(
            f"{Path(place).name} should be at {path}, but the installed {_LIBRARIES[library]} came "
            "without it. Reinstall it from its wheel with "
            f"`pip install --force-reinstall {_LIBRARIES[library]}`."
        )
    return path
