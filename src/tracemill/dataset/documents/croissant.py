"""The version as Croissant 1.0 (MLCommons): JSON-LD that names every file of rows with its SHA-256, and every field.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Of the recommended properties, those that say when and
where something was published are left out: a version does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracemill.core.examples import EXAMPLE_TYPES, DatasetFile, Manifest
from tracemill.dataset.documents.observe import Observed
from tracemill.dataset.documents.schema import TAG, field_types, meanings, summary

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_TYPES = {"str": "sc:Text", "bool": "sc:Boolean", "int": "sc:Integer", "float": "sc:Float"}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant_document(manifest: Manifest, observed: Mapping[str, Observed]) -> dict[str, Any]:
    """The document. A file of rows is a FileObject and a RecordSet of its plain fields: texts, numbers, flags, lists of ids.

    Croissant has no word for a field that is JSON of any shape, so messages and tools are in the files and described in
    ``schema.json`` only. Of the plain fields those stand there that a row of the file has: readers refuse a column without any.
    """
    files = {file.path: file for file in manifest.files}
    there = [
        (split, tag, files[f"{split}-{tag}.jsonl"])
        for split, types in manifest.examples.items()
        for tag in types
        if tag in EXAMPLE_TYPES and f"{split}-{tag}.jsonl" in files
    ]
    description = str(manifest.recipe.get("description", "")) or (
        f"Training examples made of {manifest.records_read:,} records of an application in production."
    )
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": manifest.name,
        "description": description,
        "url": f"urn:sha256:{manifest.records_digest}",
        "distribution": [_file(file) for _, _, file in there],
        "recordSet": [_columns(split, tag, file, observed[tag].written[split]) for split, tag, file in there],
        "rai:dataCollection": "Recorded while an application was used; people's feedback was joined to it.",
        "rai:personalSensitiveInformation": "May be there: what people wrote to an application.",
    }
    if license_name := str(manifest.recipe.get("license", "")):
        document["license"] = license_name
    if manifest.notes:
        document["rai:dataLimitation"] = manifest.notes
    return document


def _file(file: DatasetFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": "application/jsonlines",
        "sha256": file.sha256,
    }


def _columns(split: str, tag: str, file: DatasetFile, there: set[str]) -> dict[str, Any]:
    kind = EXAMPLE_TYPES[tag]
    described = meanings(kind)
    name = f"{split}-{tag}"
    fields = []
    for column, written in sorted(field_types(kind).items(), key=lambda item: (item[0] != TAG, item[0])):
        plain = written.partition(" (")[0].removesuffix(" | None")
        repeated = plain == "list[str]"
        if column not in there or not (repeated or plain in _TYPES):
            continue
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": described[column],
            "dataType": "sc:Text" if repeated else _TYPES[plain],
            "source": {"fileObject": {"@id": file.path}, "extract": {"column": column}},
        }
        fields.append(field | ({"repeated": True} if repeated else {}))
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{summary(kind)} Split: {split}. Messages and tools are described in schema.json.",
        "key": {"@id": f"{name}/id"},
        "field": fields,
    }
