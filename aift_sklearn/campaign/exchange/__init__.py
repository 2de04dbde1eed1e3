"""Labels and questions out of a campaign, and answers into it: CSV, Label Studio, COCO.

Nothing here knows a campaign: functions take asks, answers and settings, and return what is to be
stored. A file is read by `read_answers`, and `plan_import` tells what it would add.
"""

from .coco import export_coco
from .csv_files import export_consensus, export_csv
from .entries import Entry, Imported, Listed, Place, Reading
from .label_studio import export_label_studio, label_studio_config, save_pictures
from .planning import plan_import
from .reading import FORMATS, read_answers

__all__ = [
    "FORMATS",
    "Entry",
    "Imported",
    "Listed",
    "Place",
    "Reading",
    "export_coco",
    "export_consensus",
    "export_csv",
    "export_label_studio",
    "label_studio_config",
    "plan_import",
    "read_answers",
    "save_pictures",
]
