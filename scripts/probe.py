"""Tells what an interpreter is good for, as one line; runs under any Python that may be found, however old.

Usage: PYTHON probe.py PROJECT EXTRA, where EXTRA is `run` or `dev`. The line has three fields:

1. the version, as in `3.11`;
2. `project` when this very checkout is installed there with all that EXTRA needs, else `venv` when a virtual
   environment can be made from it, else `bare`;
3. the path of the interpreter below it: itself, or what its virtual environment was made from.
"""

from __future__ import print_function

import os
import sys

DISTRIBUTION = "quantize-pipeline"


def is_satisfied(requirement, extra, version):
    """Tells whether one line of metadata is met; exact pins are compared, ranges are left to the installer.

    Args:
        requirement: such as `neural-compressor==3.7.1` or `ruff>=0.12; extra == "dev"`.
        extra: `run` or `dev`.
        version: maps the name of a distribution to its version, and raises ImportError where there is none.
    """
    text, _, marker = requirement.partition(";")
    if marker and not (extra == "dev" and "dev" in marker):
        return True
    name = text.strip()
    for i, letter in enumerate(name):
        if not (letter.isalnum() or letter in "-_."):
            name, text = name[:i], name[i:].strip()
            break
    found = version(name)
    return text[2:] == found if text.startswith("==") else True


def has_project(project, extra):
    """Tells whether `project` is what `import quantize` finds here, with every distribution it declares."""
    from importlib import metadata, util

    try:
        requirements = metadata.requires(DISTRIBUTION) or []
        spec = util.find_spec("quantize")
        inside = os.path.join(os.path.realpath(project), "quantize", "")
        if spec is None or not os.path.realpath(spec.origin or "").startswith(inside):
            return False
        return all(is_satisfied(line, extra, metadata.version) for line in requirements)
    except ImportError:
        return False


def main(arguments):
    """Prints the line that the module describes."""
    project, extra = arguments
    kind = "bare"
    if sys.version_info >= (3, 8) and has_project(project, extra):
        kind = "project"
    elif sys.version_info >= (3, 8):
        from importlib import util

        # Debian ships both in a package of their own.
        if util.find_spec("venv") and util.find_spec("ensurepip"):
            kind = "venv"
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    print("%d.%d" % sys.version_info[:2], kind, base)


if __name__ == "__main__":
    main(sys.argv[1:])
