"""The configuration: Neural Compressor's 1.x YAML, validated, frozen, and resolved to what is needed.

`Config` is what the pipeline uses, `load_config` reads one, `find_config` says which file a name means.
"""

from __future__ import annotations

from quantize.config.config import Config
from quantize.config.load import SHIPPED_FOLDER, find_config, load_config
from quantize.config.resolved import Format
from quantize.config.source import DataSource
from quantize.criterion import Criterion

__all__ = ["SHIPPED_FOLDER", "Config", "Criterion", "DataSource", "Format", "find_config", "load_config"]
