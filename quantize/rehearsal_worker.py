"""The child of `quantize.loading.rehearsal`: loads the model on its standard input, if it can."""

from __future__ import annotations

import contextlib
import resource
import sys

import onnx

from quantize.loading.growth import check_growth
from quantize.session import make_session


def main() -> int:
    """Does to a model what the parent will do; whatever is wrong with it, the parent will say."""
    # A dump would be as large as the model, and of no use.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content = sys.stdin.buffer.read()
    with contextlib.suppress(Exception):
        model = onnx.ModelProto.FromString(content)
        check_growth(model)
        with contextlib.suppress(Exception):
            onnx.checker.check_model(model)
        make_session(content, threads=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
