"""New weights in an exported graph against an export: python benchmarks/refresh.py."""

import time

import torch

from aift_sklearn.backbones import build_backbone
from aift_sklearn.onnx import NetworkGraph, open_session
from aift_sklearn.training import Network


def main():
    """Print seconds and their ratio, for EfficientNet-Lite0 at 64 pixels."""
    backbone = build_backbone("efficientnet_lite0", pretrained=True).eval()
    backbone.measure(torch.rand(1, 3, 64, 64))
    network = Network(backbone, 2).eval()
    start = time.perf_counter()
    graph = NetworkGraph(network, (3, 64, 64))
    export = time.perf_counter() - start
    refreshes = []
    for _ in range(5):
        start = time.perf_counter()
        graph.refresh(network)
        refreshes.append(time.perf_counter() - start)
    refresh = sorted(refreshes)[2]
    start = time.perf_counter()
    open_session(graph.to_bytes())
    opened = time.perf_counter() - start
    print(f"export {export:.2f} s, refresh {refresh:.3f} s: 1/{export / refresh:.0f}")
    print(
        f"opening a session {opened:.2f} s: refresh and opening 1/{export / (refresh + opened):.0f}"
    )


if __name__ == "__main__":
    main()
