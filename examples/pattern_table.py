"""The papers' table of prediction patterns as a figure: python examples/pattern_table.py FILE.

Seven typical shapes of a candidate's patch probabilities, and what entropy, diversity and their sum
make of them, with and without majority selection.
"""

import sys

from aift_sklearn.study.report.pattern_table import plot_pattern_table

if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else "patterns.png"
    plot_pattern_table().savefig(out, dpi=110)
    print(out)
