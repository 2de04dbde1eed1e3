"""ONNX Runtime sessions: where they run, on how many threads, in which precision."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import onnx
import onnxruntime

from .._threads import count_threads
from ..errors import OutOfMemoryError, ParameterError, ProviderWarning

__all__ = [
    "batch_of_pixels",
    "choose_providers",
    "count_threads",
    "is_out_of_memory",
    "open_session",
    "patches_do_not_fit",
    "to_float16",
]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def choose_providers(
    providers: str | Sequence[str] = "auto", *, available: Sequence[str] | None = None
) -> list[str]:
    """Choose where a session runs.

    Parameters
    ----------
    providers : "auto", str or sequence of str
        "auto" is CUDA where ONNX Runtime has it, else the CPU; otherwise
        "CUDAExecutionProvider", "CPUExecutionProvider", or both, in the order in which they are
        tried. The CPU is always the last.
    available : sequence of str, optional
        What there is, by default what the installed ONNX Runtime was built with.

    Returns
    -------
    list of str
        Names of providers.

    Raises
    ------
    ParameterError
        If one is not available, or is another: results on other providers were never compared.

    Examples
    --------
    >>> choose_providers(available=["CPUExecutionProvider"])
    ['CPUExecutionProvider']
    """
    installed = onnxruntime.get_available_providers() if available is None else available
    known = [name for name in installed if name in (_CUDA, _CPU)]
    if isinstance(providers, str):
        providers = [_CUDA] if providers == "auto" and _CUDA in known else [providers]
    wanted = [_CPU if name == "auto" else name for name in providers]
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        raise ParameterError(
            f"providers={list(providers)!r}; of those that are supported, the installed ONNX "
            f"Runtime has {known}. Install the extra gpu for CUDA in the place of cpu, or pass "
            'providers="auto".'
        )
    return list(dict.fromkeys([*wanted, _CPU]))


def open_session(
    model: bytes,
    *,
    providers: str | Sequence[str] = "auto",
    n_threads: int | None = None,
    cuda_options: Mapping[str, str] | None = None,
) -> onnxruntime.InferenceSession:
    """Open a session for a graph.

    Parameters
    ----------
    model : bytes
        The serialised graph.
    providers : "auto", str or sequence of str
        As of `choose_providers`.
    n_threads : int, optional
        Threads of the CPU; by default the cores of the process.
    cuda_options : mapping of str to str, optional
        Options of ONNX Runtime's CUDA provider. With some, the default log of ONNX Runtime in this
        process tells of fatal errors only from then on.

    Returns
    -------
    onnxruntime.InferenceSession
        Its ``get_providers()`` tells where it runs.

    Warns
    -----
    ProviderWarning
        If a provider that was asked for did not load, with the reason that is known.
    """
    chosen = choose_providers(providers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or count_threads()
    # Threads that wait leave their core to others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Warnings about initializers and nodes tell users nothing that they could do, and what fails
    # is raised.
    options.log_severity_level = 4
    if _CUDA in chosen and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    if cuda_options:
        # What cuDNN tries in vain before it finds a kernel goes to the log of the process.
        onnxruntime.set_default_logger_severity(4)
    with_options = [(name, dict(cuda_options or {}) if name == _CUDA else {}) for name in chosen]
    session = onnxruntime.InferenceSession(model, options, providers=with_options)
    lost = [name for name in chosen if name not in session.get_providers()]
    if lost:
        warnings.warn(
            f"{', '.join(lost)} did not load, so {session.get_providers()[0]} is used. The CUDA "
            "and cuDNN libraries must match the installed onnxruntime-gpu: "
            'pip install ".[gpu]" in a clone of aift-sklearn.',
            ProviderWarning,
            stacklevel=2,
        )
    return session


def to_float16(model: onnx.ModelProto, *, takes_half: bool = False) -> onnx.ModelProto:
    """Convert a network to half precision; what comes out stays float32.

    Parameters
    ----------
    model : onnx.ModelProto
        The network; it is not changed.
    takes_half : bool, default=False
        Whether what goes in is float16 too, not float32.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # The converter writes into what it is given.
    own = onnx.ModelProto()
    own.CopyFrom(model)
    kept = [one.name for one in model.graph.output] if takes_half else True
    converted: onnx.ModelProto = convert_float_to_float16(
        own, keep_io_types=kept, disable_shape_infer=True
    )
    return converted


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has run out, on the CPU or a GPU."""
    words = (
        "out of memory",
        "failed to allocate",
        "bad_alloc",
        "bad allocation",
        "unable to alloc",
    )
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def patches_do_not_fit(k: int, size: tuple[int, int], error: Exception) -> OutOfMemoryError:
    """Say that k patches of a size are too many for the memory, for a reason."""
    return OutOfMemoryError(
        f"{k} patches of {size[0]} x {size[1]} pixels do not fit the memory that is left "
        f"({error}). Free some, or pass smaller patches: AffinePatches(size=...)."
    )


def batch_of_pixels(pixels: int, size: tuple[int, int], *, fewest: int, most: int) -> int:
    """Patches of a size that have about so many pixels, as a power of two between two others.

    Powers of two fill whole vectors, and are made of candidates that are cut at once.

    Examples
    --------
    >>> batch_of_pixels(2**16, (64, 64), fewest=2, most=32)
    16
    >>> batch_of_pixels(2**16, (224, 224), fewest=2, most=32)
    2
    """
    power = round(math.log2(pixels / (size[0] * size[1])))
    return int(min(max(2.0**power, fewest), most))
