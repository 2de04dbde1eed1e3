"""Graphs that were exported before, so that an export, which takes seconds, is not repeated."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ExportError

if TYPE_CHECKING:
    from .graph import NetworkGraph

__all__ = ["GraphShelf"]

# Sizes of patches that may take turns without an export each time.
_MOST = 4


class GraphShelf:
    """Keeps the graphs of a few networks and sizes of patches, the latest first.

    A graph serves the network that it was exported of, however its weights have changed, and other
    networks of the same built-in architecture.
    """

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._versions = itertools.count()

    def take(self, network: Any, shape: tuple[int, int, int]) -> tuple[NetworkGraph, int]:
        """Graph of a network for patches of a shape, with the network's present weights.

        Parameters
        ----------
        network : nn.Module
            In evaluation mode.
        shape : tuple of int
            C, h and w of the patches.

        Returns
        -------
        graph : NetworkGraph
            Exported where there is none yet.
        version : int
            Another one whenever the graph or its weights are others: sessions are to be opened
            again.

        Raises
        ------
        ExportError
            If the network cannot be exported.
        """
        for kept in list(self._kept):
            if kept.graph.shape == shape and _serves(kept.network, network):
                self._kept.remove(kept)
                if self._is_refreshed(kept, network):
                    break
        else:
            kept = _Kept(network, _export(network, shape), next(self._versions))
        self._kept = [kept, *self._kept[: _MOST - 1]]
        return kept.graph, kept.version

    def _is_refreshed(self, kept: _Kept, network: Any) -> bool:
        """Give a graph the present weights of a network; False where it is not of that any more."""
        kept.network = network
        try:
            if kept.graph.refresh(network):
                kept.version = next(self._versions)
        except ExportError:
            return False
        return True

    def drop(self, graph: NetworkGraph) -> None:
        """Forget a graph, so that its network is exported anew."""
        self._kept = [kept for kept in self._kept if kept.graph is not graph]


def _export(network: Any, shape: tuple[int, int, int]) -> NetworkGraph:
    # Only an export needs torch: files are served without it.
    from .graph import NetworkGraph

    return NetworkGraph(network, shape)


@dataclass(eq=False)
class _Kept:
    network: Any
    graph: NetworkGraph
    version: int


def _serves(known: Any, network: Any) -> bool:
    """Whether the graph of one network computes what another does, with the other's weights."""
    architecture = getattr(network, "architecture", None)
    return known is network or (
        architecture is not None and getattr(known, "architecture", None) == architecture
    )
