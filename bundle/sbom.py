"""The bill of materials of a bundle, as CycloneDX 1.5 JSON (ECMA-424): what is in it, its licences, who needs what."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "ems-agent.bundle")


@dataclass(frozen=True, slots=True)
class Component:
    """One package with its wheels (file name to SHA-256)."""

    name: str
    version: str
    license: str | None
    wheels: Mapping[str, str]
    needs: Sequence[str]

    @property
    def purl(self) -> str:
        """The package's address in the common form (package-url)."""
        return f"pkg:pypi/{self.name}@{self.version}"


def bill_of_materials(agent: Component, packages: Sequence[Component]) -> bytes:
    """The document; the same components give the same bytes, its serial number included."""
    known = {part.name: part.purl for part in (agent, *packages)}
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _component(agent, "application")},
        "components": [_component(part, "library") for part in packages],
        "dependencies": [
            {"ref": part.purl, "dependsOn": sorted(known[name] for name in part.needs)} for part in (agent, *packages)
        ],
    }
    body = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(NAMESPACE, body)}"
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _component(part: Component, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": kind,
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "components": [
            {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": sha256}]}
            for name, sha256 in sorted(part.wheels.items())
        ],
    }
    if part.license is not None:
        # A text of the package's own, which need not be an SPDX name.
        found["licenses"] = [{"license": {"name": part.license}}]
    return found
