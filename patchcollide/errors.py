"""The exceptions of patchcollide.

* PatchCollideError
    * InputError -- what was asked for cannot be done; exit code 2
        * ConfigError -- a setting is unknown, mistyped or out of range
        * GeometryError -- window, stride and image size do not fit each other
        * ImageError -- an image or a folder of images cannot be used
        * DataError -- a data set's files cannot be used
        * StoreError -- a store is missing, damaged or of another kind
        * IndexMismatchError -- an index does not belong to the store or the settings
        * MissingLibraryError -- an optional library is not installed
        * NetworkError -- a network, its weights or a layer cannot be used
        * TargetError -- the features of a target cannot be used
        * RetrievalError -- the store cannot give the neighbours asked for
        * ProgramError -- a linear program is too large, or cannot be solved
            * InfeasibleError -- no point meets all constraints
            * UnboundedError -- a linear function has no smallest value
        * RunError -- a run's folder is missing, incomplete or holds another run
    * WorkError -- work that began could not be finished; exit code 1
        * DivergedError -- a loss became infinite or not a number
        * DiskFullError -- a file does not fit onto the disk
        * OpenFilesError -- the system lets no more files be opened
        * OutputError -- standard output cannot be written to
            * ClosedOutputError -- nobody reads it any more; exit code 141, without a word
        * ClusterError -- the workers of a cluster are lost
        * OutOfMemoryError -- a device has no memory even for the smallest batch
        * InterruptedWorkError -- stopped by the user, at a point from which it can go on
        * ReproductionError -- a number of the paper's tables does not come out as expected

Every message says what was expected, what was found, where, and what to do.
"""

from typing import Any

__all__ = [
    "ClosedOutputError",
    "ClusterError",
    "ConfigError",
    "DataError",
    "DiskFullError",
    "DivergedError",
    "GeometryError",
    "ImageError",
    "IndexMismatchError",
    "InfeasibleError",
    "InputError",
    "InterruptedWorkError",
    "MissingLibraryError",
    "NetworkError",
    "OpenFilesError",
    "OutOfMemoryError",
    "OutputError",
    "PatchCollideError",
    "ProgramError",
    "ReproductionError",
    "RetrievalError",
    "RunError",
    "StoreError",
    "TargetError",
    "UnboundedError",
    "WorkError",
]


class PatchCollideError(Exception):
    """Base of all errors that patchcollide raises on purpose."""

    exit_code = 1


class InputError(PatchCollideError):
    """What was asked for cannot be done with the input given."""

    exit_code = 2


class ConfigError(InputError):
    """A setting is unknown, mistyped or out of range."""


class GeometryError(InputError):
    """Window, stride and image size do not fit each other."""


class ImageError(InputError):
    """An image or a folder of images cannot be used."""


class DataError(InputError):
    """A data set's files cannot be used."""


class StoreError(InputError):
    """A store is missing, damaged or of another kind."""


class IndexMismatchError(InputError):
    """An index does not belong to the store or the settings it is used with."""


class MissingLibraryError(InputError):
    """An optional library is not installed."""


class NetworkError(InputError):
    """A network, its weights or a layer cannot be used."""


class TargetError(InputError):
    """The features of a target cannot be used."""


class RetrievalError(InputError):
    """The store cannot give the neighbours asked for."""


class ProgramError(InputError):
    """A linear program is too large, or cannot be solved."""


class InfeasibleError(ProgramError):
    """No point meets all constraints.

    Attributes:
        clash: Constraints that cannot be met together.
        violation: The least by which units would have to miss their bounds, if known.
    """

    def __init__(
        self, message: str, clash: tuple[str, ...] = (), violation: float | None = None
    ) -> None:
        super().__init__(message)
        self.clash, self.violation = clash, violation


class UnboundedError(ProgramError):
    """A linear function has no smallest value.

    Attributes:
        ray: A direction without end in which it falls, an array of the variables, if known.
    """

    def __init__(self, message: str, ray: Any = None) -> None:
        super().__init__(message)
        self.ray = ray


class RunError(InputError):
    """A run's folder is missing, incomplete or holds another run."""


class WorkError(PatchCollideError):
    """Work that began could not be finished."""


class DivergedError(WorkError):
    """A loss became infinite or not a number."""


class DiskFullError(WorkError):
    """A file does not fit onto the disk."""


class OpenFilesError(WorkError):
    """The system lets this process open no more files."""


class OutputError(WorkError):
    """Standard output cannot be written to."""


class ClosedOutputError(OutputError):
    """Nobody reads standard output any more."""

    exit_code = 141  # As a shell says of a program that SIGPIPE ended.


class ClusterError(WorkError):
    """The workers of a cluster died again and again."""


class OutOfMemoryError(WorkError):
    """A device has no memory even for the smallest batch."""


class InterruptedWorkError(WorkError):
    """Stopped by the user at a point from which the work can go on."""


class ReproductionError(WorkError):
    """A number of the paper's tables does not come out as expected."""
