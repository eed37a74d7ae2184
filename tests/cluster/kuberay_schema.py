"""KubeRay's custom resource definitions as strict JSON schemas, whole or reduced to the keys that are used here.

    python tests/cluster/kuberay_schema.py DIRECTORY_WITH_RAY_IO_RAYCLUSTERS_YAML     updates kuberay_schema.json

The definitions are megabytes large. kuberay_schema.json only has the properties that the manifests of cluster/kuberay
use, with the types, enumerations and requirements of the definitions. It rejects a key that is misspelled or in the
wrong place.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "cluster" / "kuberay"
SCHEMA_FILE = Path(__file__).with_suffix(".json")
VERSION = "ray.io/v1"

_KEPT = ("type", "enum", "required", "minimum", "maximum", "minLength", "maxLength", "pattern")


def manifests(kind: str) -> list[dict[str, Any]]:
    """All documents of a kind in cluster/kuberay."""
    documents = [entry for path in sorted(MANIFESTS.glob("*.yaml")) for entry in yaml.safe_load_all(path.read_text())]
    return [entry for entry in documents if entry["kind"] == kind]


def definitions(directory: Path) -> dict[str, dict[str, Any]]:
    """The strict schemas of the current version by kind, from a directory of CRD files."""
    found = {}
    for path in sorted(directory.glob("ray.io_*.yaml")):
        definition = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]
        for version in definition["versions"]:
            if f"{definition['group']}/{version['name']}" == VERSION:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # The definitions leave this part to Kubernetes.
                schema["properties"]["metadata"] = {"type": "object"}
                found[definition["names"]["kind"]] = schema
    return found


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema of Kubernetes as a JSON schema that allows no other keys."""
    result = {key: schema[key] for key in _KEPT if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    if "properties" in schema:
        result["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = strict(schema["items"])
    return result


def trimmed(schema: dict[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """The schema without the properties that none of the values has."""
    result = dict(schema)
    mappings = [value for value in values if isinstance(value, dict)]
    if "properties" in schema:
        used = {name for mapping in mappings for name in mapping} | set(schema.get("required", ()))
        result["properties"] = {
            name: trimmed(inner, [mapping[name] for mapping in mappings if name in mapping])
            for name, inner in schema["properties"].items()
            if name in used
        }
    if "items" in schema:
        entries = [entry for value in values if isinstance(value, list) for entry in value]
        result["items"] = trimmed(schema["items"], entries)
    return result


def main(directory: str) -> None:
    whole = definitions(Path(directory))
    small = {kind: trimmed(whole[kind], manifests(kind)) for kind in ("RayCluster", "RayJob")}
    SCHEMA_FILE.write_text(json.dumps(small, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
