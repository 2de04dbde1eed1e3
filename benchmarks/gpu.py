"""The pool pass on a GPU: against torch there, and against the network alone, on the device."""

import itertools

import numpy as np
import onnxruntime
import throughput
import torch
from throughput import PATCHES, candidates, exported, fine_tuned, seconds

from aift_sklearn.onnx import OnnxScorer, open_session
from aift_sklearn.onnx.passes import to_float16

SIZES = {64: 20_000, 96: 10_000, 224: 2_000}


def torch_row(network, patches, device, dtype, *, compiled):
    """Upload float patches batch by batch and predict."""
    network = network.to(device, dtype).to(memory_format=torch.channels_last)
    fast = torch.compile(network, dynamic=False) if compiled else network

    @torch.inference_mode()
    def run():
        for start in range(0, len(patches), 1024):
            batch = patches[start : start + 1024].to(device, non_blocking=True)
            batch = batch.to(dtype, memory_format=torch.channels_last)
            fast(batch).softmax(1).float().cpu()

    return run


def resident(network, shape, device, k=1024):
    """Run the network in ONNX Runtime on patches that are on the device already, in half."""
    import onnx

    model = to_float16(onnx.load_model_from_string(exported(network, shape)))
    session = open_session(model.SerializeToString())
    patches = np.random.default_rng(0).random((k, *shape), dtype=np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(
        "patches", onnxruntime.OrtValue.ortvalue_from_numpy(patches, device, 0)
    )
    binding.bind_output("logits", device)
    return lambda: session.run_with_iobinding(binding)


def measure(device="cuda", sizes=SIZES):
    """Table of patches a second, as text."""
    import copy

    lines = [
        "| | " + " | ".join(f"{size} px" for size in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    columns = []
    for size, n in sizes.items():
        model = fine_tuned(size)
        network = model.estimator_.module_.cpu()
        pool = candidates(n, size)
        patches = torch.from_numpy(
            model.patches_.transform(pool[: max(1, n // 20)]).reshape(-1, 3, size, size)
        )
        half, single = (OnnxScorer(model, precision=p) for p in ("float16", "float32"))
        runs = {
            "torch, eager, float32": torch_row(
                copy.deepcopy(network), patches, device, torch.float32, compiled=False
            ),
            "torch.compile, float16, channels-last": torch_row(
                copy.deepcopy(network), patches, device, torch.float16, compiled=True
            ),
            "ONNX Runtime, float16, patches on the device": resident(
                network, (3, size, size), device
            ),
            "aift-sklearn, float16, bytes to scores": lambda s=half, p=pool: s.score(p),
            "aift-sklearn, float32, bytes to scores": lambda s=single, p=pool: s.score(p),
        }
        counts = [len(patches), len(patches), 1024, n * PATCHES, n * PATCHES]
        for run in runs.values():
            run()
        best = dict.fromkeys(runs, 0.0)
        for _, ((name, run), k) in itertools.product(
            range(3), zip(runs.items(), counts, strict=True)
        ):
            best[name] = max(best[name], k / seconds(run))
        top = [set(np.argsort(-s.score(pool)[0])[:100].tolist()) for s in (half, single)]
        names = list(best)
        fastest, shared = max(best[names[0]], best[names[1]]), len(top[0] & top[1]) / len(top[0])
        columns.append(
            {
                **{name: f"{value:,.0f}" for name, value in best.items()},
                "share of the network alone": f"{best[names[3]] / best[names[2]]:.0%}",
                "over the best torch row": f"{best[names[3]] / fastest:.1f} x",
                "top 100 shared by float16 and float32": f"{shared:.2f}",
                "bytes uploaded for a candidate": f"{3 * size**2:,}",
            }
        )
        print(size, columns[-1], flush=True)
    lines += [
        f"| {name} | " + " | ".join(column[name] for column in columns) + " |"
        for name in columns[0]
    ]
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    return (
        "\n".join(lines)
        + f"\n\n{name}, torch {torch.__version__}, {throughput.count_threads()} cores"
    )
