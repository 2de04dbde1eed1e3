"""Studies as pictures, findings and a self-contained page."""

from .figures import plot_learning_curves
from .page import headline, write_report

__all__ = ["headline", "plot_learning_curves", "write_report"]
