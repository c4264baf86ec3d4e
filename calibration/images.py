"""Finding and opening images: the names that the rest of the project uses."""

from __future__ import annotations

from calibration.decode import load_image
from calibration.folders import read_class_folders
from calibration.imageset import ImageSet
from calibration.listing import read_image_list

__all__ = ["ImageSet", "load_image", "read_class_folders", "read_image_list"]
