"""Writes JSON schemas for kubeconform: schemas.py OUT SWAGGER CRD...

SWAGGER is the OpenAPI document (version 2) of Kubernetes, or `-` for none; each CRD is a manifest
of a CustomResourceDefinition. Each kind and version becomes OUT/<kind>-<group>-<version>.json, or
OUT/<kind>-<version>.json in the core group. Fields that a schema does not list are refused.
"""

import json
import pathlib
import sys

import yaml

PREFIX = "#/definitions/"
# Types that are written as a text or a number, whatever their schema says.
SCALARS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["integer", "string"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["integer", "number", "string"]},
}
# Kinds whose schema contains itself; nothing here uses them.
RECURSIVE = "io.k8s.apiextensions-apiserver"


def inline(schema, definitions):
    """The schema without references, and closed wherever it lists its fields."""
    if isinstance(schema, list):
        return [inline(entry, definitions) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref", "")
    if reference.startswith(PREFIX):
        name = reference[len(PREFIX) :]
        return SCALARS.get(name) or inline(definitions[name], definitions)
    return closed({key: inline(value, definitions) for key, value in schema.items()})


def closed(schema):
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "number", "string"]}
    if isinstance(schema.get("properties"), dict):
        schema = dict(schema)
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if schema.get("nullable"):
            schema["type"] = [schema.get("type", "object"), "null"]
    return schema


def close_custom(schema):
    if isinstance(schema, list):
        return [close_custom(entry) for entry in schema]
    if isinstance(schema, dict):
        return closed({key: close_custom(value) for key, value in schema.items()})
    return schema


def write(out, kind, group, version, schema):
    parts = [kind.lower(), group.lower(), version] if group else [kind.lower(), version]
    (out / ("-".join(parts) + ".json")).write_text(json.dumps(schema))


def builtin(out, swagger):
    definitions = json.loads(pathlib.Path(swagger).read_text())["definitions"]
    for name, definition in definitions.items():
        if name.startswith(RECURSIVE):
            continue
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        # What every API group has (ListOptions, Status, ...) is no kind of a manifest.
        if len(kinds) == 1:
            kind = kinds[0]
            write(out, kind["kind"], kind["group"], kind["version"], inline(definition, definitions))


def custom(out, path):
    spec = yaml.safe_load(pathlib.Path(path).read_text())["spec"]
    for version in spec["versions"]:
        schema = close_custom(version["schema"]["openAPIV3Schema"])
        fields = schema.setdefault("properties", {})
        for name in ("apiVersion", "kind"):
            fields[name] = {"type": "string"}
        fields["metadata"] = {"type": "object"}
        write(out, spec["names"]["kind"], spec["group"], version["name"], schema)


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    if sys.argv[2] != "-":
        builtin(out, sys.argv[2])
    for path in sys.argv[3:]:
        custom(out, path)


main()
