"""The same scoring on Ray: pools and datasets past one machine.

Tasks read candidates, and actors score them, each with an ONNX Runtime session of its own. The
scores are those of one machine, whatever the number of blocks and workers. Ray does not keep the
order of rows, so that ids, or positions in the pool, travel with the candidates. Racing stays on
one machine, since each of its steps waits for the scores of all.
"""

from .datasets import score_dataset, top_dataset
from .pools import score_pool

__all__ = ["score_dataset", "score_pool", "top_dataset"]
