"""Where sessions run: providers by name, threads of the process, plain words where CUDA fails."""

import numpy as np
import pytest

from aift_sklearn.errors import ParameterError, ProviderWarning

onnx = pytest.importorskip("onnx", reason="the extra cpu is not installed")
pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

from aift_sklearn.onnx import (  # noqa: E402
    choose_providers,
    open_session,
    runtime,
)

CUDA, CPU, OTHER = "CUDAExecutionProvider", "CPUExecutionProvider", "OpenVINOExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "available", "expected"),
    [
        ("auto", [CPU], [CPU]),
        ("auto", [CUDA, CPU], [CUDA, CPU]),
        (CPU, [CUDA, CPU], [CPU]),
        (CUDA, [CUDA, CPU], [CUDA, CPU]),
        ([CPU, CUDA], [CUDA, CPU], [CPU, CUDA]),
        ("auto", [OTHER, CPU], [CPU]),
        ([CPU], [CPU], [CPU]),
    ],
)
def test_providers_are_chosen_in_order_with_the_cpu_last(asked, available, expected):
    assert choose_providers(asked, available=available) == expected


@pytest.mark.parametrize("asked", [CUDA, "cuda", [], [CPU, "nothing"], OTHER])
def test_providers_that_are_not_there_or_not_supported_are_refused(asked):
    with pytest.raises(ParameterError, match=r"the installed ONNX Runtime has \['CPU[A-Za-z]*'\]"):
        choose_providers(asked, available=[OTHER, CPU])


def test_threads_that_wait_do_not_spin():
    options = open_session(doubling(), n_threads=2).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == 2


def doubling():
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "x"], ["y"])],
        "doubling",
        [value("x", onnx.TensorProto.FLOAT, ["n"])],
        [value("y", onnx.TensorProto.FLOAT, ["n"])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model.SerializeToString()


def test_a_session_runs_on_the_cpu():
    session = open_session(doubling(), n_threads=1)
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], 2 * x)


def test_a_provider_that_does_not_load_is_told_of(monkeypatch):
    # As a build for CUDA says on a machine without its libraries.
    monkeypatch.setattr(runtime, "choose_providers", lambda providers: [OTHER, CPU])
    real = runtime.onnxruntime.InferenceSession

    def without(model, options, providers):
        return real(model, options, providers=[CPU])

    monkeypatch.setattr(runtime.onnxruntime, "InferenceSession", without)
    with pytest.warns(ProviderWarning, match=r"did not load, so CPUExecutionProvider is used"):
        open_session(doubling(), providers=OTHER)
