"""Exceptions. Each is also the built-in or scikit-learn error that its users expect.

>>> issubclass(DataError, ValueError)
True
"""

from __future__ import annotations

from sklearn.exceptions import NotFittedError

__all__ = [
    "AIFTError",
    "AddressTakenError",
    "BackendWarning",
    "ConflictError",
    "DataError",
    "DataTypeError",
    "ExportError",
    "HiddenError",
    "LabelError",
    "LedgerError",
    "MissingDependencyError",
    "ModelFileError",
    "ModelNotFittedError",
    "NonFiniteLossError",
    "NonFiniteOutputError",
    "OutOfMemoryError",
    "ParameterError",
    "ProviderWarning",
    "TrainingInterrupted",
    "TrainingWarning",
    "UnavailableError",
    "UnsupportedModelError",
    "UntrustedModelError",
]


class AIFTError(Exception):
    """Base of every error that this package raises on purpose."""


class DataError(AIFTError, ValueError):
    """Images, features or probabilities have the wrong shape, range or contents."""


class DataTypeError(AIFTError, TypeError):
    """An input has a type that cannot hold what was asked for, such as a sparse image."""


class ExportError(AIFTError, RuntimeError):
    """A network cannot be turned into an ONNX graph, or does not fit the graph that there is."""


class NonFiniteOutputError(DataError):
    """A network gives NaN or infinity for an input.

    Parameters
    ----------
    message : str
        What is wrong.
    index : int
        Row of the first such input.

    Examples
    --------
    >>> NonFiniteOutputError("the network gives NaN for image 5.", index=5).index
    5
    """

    def __init__(self, message: str, *, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


class OutOfMemoryError(AIFTError, MemoryError):
    """Work does not fit the memory that is left, not even in its smallest parts."""


class LabelError(AIFTError, ValueError):
    """Labels do not fit the candidates or the classes known so far."""


class ConflictError(LabelError):
    """An answer has the uid of another one."""


class LedgerError(AIFTError, ValueError):
    """A campaign's ledger is missing, damaged or not one, or its database refuses.

    What was to be written may be sent again: an answer is kept once.
    """


class HiddenError(AIFTError, PermissionError):
    """Something is not shown yet: what the model thinks, before an annotator has answered."""


class UnavailableError(AIFTError, RuntimeError):
    """Something cannot be done now, and may be tried again in a moment."""


class AddressTakenError(AIFTError, OSError):
    """A server cannot listen where it was told to."""


class ParameterError(AIFTError, ValueError):
    """A parameter has a value outside its range."""


class ModelNotFittedError(AIFTError, NotFittedError):
    """A prediction was asked of a model that has not been trained yet."""


class NonFiniteLossError(AIFTError, ArithmeticError):
    """Training produced a loss or a gradient that is not finite; the weights were restored."""


class BackendWarning(UserWarning):
    """Scoring is done by another, slower backend than could be expected."""


class ProviderWarning(UserWarning):
    """Scoring runs elsewhere than was asked for."""


class TrainingWarning(UserWarning):
    """Training could not do all that was asked of it, or tells less than it seems to."""


class ModelFileError(AIFTError, ValueError):
    """A saved model is missing, damaged, or of a format that this release does not know."""


class UnsupportedModelError(AIFTError, TypeError):
    """A part of a model cannot be stored as plain data, or has to be supplied again."""


class UntrustedModelError(AIFTError, ValueError):
    """A saved model holds a type that could run code and was not declared trusted."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C in training, after at least one epoch: what was learnt so far is kept and usable.

    The weights are those of the last finished epoch, and the labels of the call are remembered.
    An interrupt before that is a plain KeyboardInterrupt and leaves everything as it was.
    """


class MissingDependencyError(AIFTError, ImportError):
    """An optional package is needed and not installed, or does not load.

    Parameters
    ----------
    package : str
        Name of the distribution that is missing.
    extra : str
        Extra of ``aift-sklearn`` that brings it.
    purpose : str
        What it was needed for.
    command : str, optional
        How to install it, where no extra brings it.
    reason : str, optional
        Why it does not load, where it is installed.

    Examples
    --------
    >>> print(MissingDependencyError("scikit-image", extra="study", purpose="load_tissue()"))
    load_tissue() needs scikit-image, which is not installed: pip install ".[study]" in a clone of
    aift-sklearn
    """

    def __init__(
        self,
        package: str,
        *,
        extra: str = "",
        purpose: str,
        command: str | None = None,
        reason: str | None = None,
    ) -> None:
        # The package is on no index: it is installed from its source.
        command = command or f'pip install ".[{extra}]" in a clone of aift-sklearn'
        state = "is not installed" if reason is None else f"does not load ({reason})"
        super().__init__(f"{purpose} needs {package}, which {state}: {command}")
