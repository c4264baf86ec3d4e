"""What the tests of whole runs agree on."""

from __future__ import annotations

from quantize.model import Signature
from tests.quantize.image_samples import CLASSES

COUNT = 160
EXTENT = 8
SIGNATURE = Signature("image", (None, 3, EXTENT, EXTENT), "NCHW", "scores", CLASSES, False, 13)
