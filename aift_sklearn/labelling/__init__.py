"""Rounds by way of a CSV file: what is to be labelled next, and what people typed into it."""

from .labels_file import LabelsFile
from .rounds import Asked, Learnt, ask_next, learn_labels

__all__ = ["Asked", "LabelsFile", "Learnt", "ask_next", "learn_labels"]
