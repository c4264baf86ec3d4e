"""Writes the bill of materials of this environment as CycloneDX 1.6 JSON, checked against its schema.

Usage: PYTHON scripts/sbom.py [--output FILE] [--extra NAME]... (standard output without a FILE)

Listed is what `quantize-pipeline` needs to run, with what that needs, as it is installed here: name, version,
package URL, licence, what depends on what, and whether `requirements.lock` pins that version. The same
environment gives the same bytes: the serial number is derived from the content, and the time is
SOURCE_DATE_EPOCH's where that is set, and left out where it is not.

Exit codes: 0 written; 2 a package that is needed is not installed, or the extra `supply` is not.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
ROOT = "quantize-pipeline"
LOCK = PROJECT / "requirements.lock"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)

# Makes the serial number of a content that of no other kind of document (RFC 9562, version 5).
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:quantize-pipeline:bill-of-materials")


class BillError(Exception):
    """There is no bill; the message says why."""


def normal(name: str) -> str:
    """A name as all its spellings have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(name: str) -> metadata.Distribution:
    """The distribution of a name.

    Raises:
        BillError: it is not installed.
    """
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise BillError(
            f"{name} is needed and not installed: run `bash run_tests.sh --version` first"
        ) from error


def needs(distribution: metadata.Distribution, extras: Iterable[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Name and extras of everything that a distribution needs here."""
    from packaging.requirements import Requirement

    for line in distribution.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield normal(requirement.name), frozenset(requirement.extras)


def closure(extras: Iterable[str]) -> dict[str, set[str]]:
    """Every distribution that the project needs, and what each of them needs, by normal name."""
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(ROOT, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        direct = list(needs(installed(name), wanted))
        found.setdefault(name, set()).update(other for other, _ in direct)
        waiting += direct
    return {name: found[name] - {name} for name in sorted(found)}


def pinned() -> dict[str, set[str]]:
    """Normal name -> the versions that the lock allows, one for each range of Pythons."""
    pins: dict[str, set[str]] = {}
    for name, version in _PIN.findall(LOCK.read_text(encoding="utf-8")):
        pins.setdefault(normal(name), set()).add(version)
    return pins


def licences(distribution: metadata.Distribution) -> list[Any]:
    """What a distribution says of its licence: one expression, or the names of its classifiers."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression

    about = distribution.metadata
    expression = about.get("License-Expression")
    if expression:
        return [LicenseExpression(value=expression)]
    names = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or []
        if line.startswith("License :: ") and line.count(" :: ") > 1
    ]
    # Some put the whole text there.
    short = (about.get("License") or "").strip()
    if not names and short and "\n" not in short and len(short) < 100:
        names = [short]
    return [DisjunctiveLicense(name=name) for name in sorted(set(names))]


def component(name: str, pins: dict[str, set[str]]) -> Any:
    """The entry of one distribution."""
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    distribution = installed(name)
    version = distribution.version
    address = PackageURL("pypi", name=name, version=version)
    properties = []
    if name != ROOT:
        properties.append(
            Property(name="quantize-pipeline:pinned", value=str(version in pins.get(name, ())).lower())
        )
    return Component(
        type=ComponentType.APPLICATION if name == ROOT else ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=address,
        bom_ref=str(address),
        licenses=licences(distribution),
        description=distribution.metadata.get("Summary"),
        properties=properties,
    )


def bill(extras: Iterable[str]) -> str:
    """The text of the bill.

    Raises:
        BillError: a package that is needed is not installed.
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    needed, pins = closure(extras), pinned()
    components = {name: component(name, pins) for name in needed}
    result = Bom(components=[one for name, one in components.items() if name != ROOT])
    result.metadata.component = components[ROOT]
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    result.metadata.properties.add(Property(name="quantize-pipeline:lock-sha256", value=digest))
    for name, others in needed.items():
        result.register_dependency(components[name], [components[other] for other in sorted(others)])
    content = json.loads(JsonV1Dot6(result).output_as_string())
    return finished(content)


def finished(content: dict[str, Any]) -> str:
    """Replaces what is drawn or clocked by what depends on nothing but the content, and spells it."""
    del content["serialNumber"]
    del content["metadata"]["timestamp"]
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None:
        try:
            time = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        except (ValueError, OverflowError, OSError) as error:
            raise BillError(f"SOURCE_DATE_EPOCH={epoch!r} is no number of seconds since 1970") from error
        content["metadata"]["timestamp"] = time.isoformat().replace("+00:00", "Z")
    text = json.dumps(content, sort_keys=True)
    content["serialNumber"] = uuid.uuid5(_NAMESPACE, text).urn
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def check(text: str) -> None:
    """Holds the bill to CycloneDX's own schema.

    Raises:
        BillError: it does not fit, which would be a mistake of this script.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise BillError(f"the bill does not fit CycloneDX's schema: {problem}")


def main(arguments: Sequence[str]) -> int:
    """Carries out the command line that the module describes; returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes the bill of materials of this environment.")
    parser.add_argument("--output", type=Path, help="the file; standard output without it")
    parser.add_argument(
        "--extra", action="append", default=[], help="an optional group of pyproject.toml as well"
    )
    options = parser.parse_args(arguments)
    try:
        text = bill(options.extra)
        check(text)
    except ImportError as error:
        print(f"error: {error}: install the extra `supply`", file=sys.stderr)
        return 2
    except BillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.output is None:
        sys.stdout.write(text)
        return 0
    sys.path.insert(0, str(PROJECT))
    from quantize.errors import PipelineError
    from quantize.files import atomic_write_text

    try:
        atomic_write_text(options.output, text)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
