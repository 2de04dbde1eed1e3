"""The pool pass on a GPU: against torch there, and against the network alone, on the device."""

import copy
import itertools

import numpy as np
import onnx
import onnxruntime
import racing
import torch
from throughput import PATCHES, candidates, exported, fine_tuned, seconds

from aift_sklearn import AIFTClassifier, CNNClassifier
from aift_sklearn.onnx import OnnxScorer, count_threads, open_session
from aift_sklearn.onnx.gpu_pass import FAST
from aift_sklearn.onnx.runtime import to_float16

# Size of patches: candidates.
SIZES = {64: 32_768, 96: 16_384, 224: 4_096}
TORCH, COMPILED = "torch, eager, float32", "torch.compile, float16, channels-last"
RESIDENT = "torch.compile, float16, channels-last, patches on the device"
ALONE = "ONNX Runtime, float16, patches on the device"
HALF, SINGLE = "aift-sklearn, float16, bytes to scores", "aift-sklearn, float32, bytes to scores"
LABELS, BEST = 100, (20, 100)


class Plain(torch.nn.Module):
    """The same network without what looks after its input and output, which half would fail."""

    def __init__(self, network):
        super().__init__()
        self.backbone, self.head = network.backbone, network.head

    def forward(self, x):
        """Logits."""
        features = self.backbone.body((x - self.backbone.mean) / self.backbone.std)
        return self.head(features.mean(dim=(2, 3)))


def in_torch(network, patches, batch, *, on, upload):
    """Predict float patches batch by batch, which are uploaded, or are on the device already."""

    def run():
        with torch.inference_mode():
            for start in range(0, len(patches), batch):
                part = patches[start : start + batch]
                if upload:
                    part = part.to(on).to(next(network.parameters()).dtype)
                    part = part.contiguous(memory_format=torch.channels_last)
                network(part).softmax(1).float().cpu()

    return run


def torch_runs(network, patches, batch, on):
    """Name → run; half precision compiled, as it is fastest."""
    plain = Plain(copy.deepcopy(network)).to(on).eval()
    single = copy.deepcopy(plain)
    half = plain.to(torch.float16).to(memory_format=torch.channels_last)
    compiled = torch.compile(half, dynamic=False)
    there = patches[:batch].to(on).to(torch.float16)
    # Of one batch, over and over: all of them would not need to fit the device.
    there = there.contiguous(memory_format=torch.channels_last)
    return {
        TORCH: in_torch(single, patches, batch, on=on, upload=True),
        COMPILED: in_torch(compiled, patches, batch, on=on, upload=True),
        RESIDENT: in_torch(compiled, there, batch, on=on, upload=False),
    }


def alone(network, shape, batch, on):
    """Run the network in ONNX Runtime on patches that are on the device already, in half."""
    model = to_float16(onnx.load_model_from_string(exported(network, shape)), takes_half=True)
    session = open_session(model.SerializeToString(), cuda_options=FAST)
    patches = np.random.default_rng(0).random((batch, *shape), dtype=np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(
        "patches", onnxruntime.OrtValue.ortvalue_from_numpy(patches.astype(np.float16), on, 0)
    )
    binding.bind_output("logits", on)
    return lambda: session.run_with_iobinding(binding)


def measure_size(size, n, on="cuda"):
    """Patches a second of each, and seconds of a first pass and of the first after a round."""
    model = fine_tuned(size)
    network = model.estimator_.module_
    pool = candidates(n, size)
    half, single = (OnnxScorer(model, precision=p) for p in ("float16", "float32"))
    half.prepare(pool.shape)
    first = seconds(lambda: half.score(pool))
    batch = half.batch_size
    cut = model.patches_.transform(pool[: 4 * max(1, batch // PATCHES)])
    patches = torch.from_numpy(cut.reshape(-1, 3, size, size))
    twin = copy.deepcopy(network).cpu()
    runs = torch_runs(twin, patches, batch, on)
    runs |= {
        ALONE: alone(twin, (3, size, size), batch, on),
        HALF: lambda: half.score(pool),
        SINGLE: lambda: single.score(pool),
    }
    counts = dict.fromkeys(runs, n * PATCHES)
    counts |= {TORCH: len(patches), COMPILED: len(patches), RESIDENT: batch, ALONE: batch}
    for run in runs.values():
        run()
        run()
    best = dict.fromkeys(runs, 0.0)
    # In turn, so that what disturbs disturbs all.
    for _, (name, run) in itertools.product(range(3), runs.items()):
        best[name] = max(best[name], counts[name] / seconds(run))
    network.head.weight.data.mul_(1.001)
    later = seconds(lambda: half.score(pool))
    found = {"size": size, "n": n, "batch": batch, "rates": best, "first": first, "later": later}
    print(found, flush=True)
    return found


def fidelity(bccd, pneumonia=None):
    """Share of the best that single and half precision both find, on real images."""
    rows = []
    for name, X, y, views in racing.pools(bccd, pneumonia):
        model = AIFTClassifier(
            CNNClassifier(), patches=views, classes=np.unique(y), backend="torch", random_state=0
        ).partial_fit(X[:LABELS], y[:LABELS])
        pool = X[LABELS:]
        scores = [OnnxScorer(model, precision=p).score(pool)[0] for p in ("float16", "float32")]
        order = [np.argsort(-one, kind="stable") for one in scores]
        shared = {b: len({*order[0][:b]} & {*order[1][:b]}) / b for b in BEST}
        rows.append({"pool": name, "n": len(pool), "shared": shared})
        print(rows[-1], flush=True)
    return rows


def measure(bccd=None, pneumonia=None, sizes=SIZES, on="cuda"):
    """All of it."""
    return {
        "device": torch.cuda.get_device_name() if on == "cuda" else "no GPU",
        "cores": count_threads(),
        "fidelity": fidelity(bccd, pneumonia),
        "sizes": [measure_size(size, n, on) for size, n in sizes.items()],
    }
