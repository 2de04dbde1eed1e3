"""Save and load models as folders of plain data: nothing that is loaded can run code."""

from .folder import SaveMixin, load, package_versions, save

__all__ = ["SaveMixin", "load", "package_versions", "save"]
