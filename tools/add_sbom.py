"""Put a list of what is in it (an SBOM, CycloneDX 1.6) into wheels of Atoll: add_sbom.py WHEEL...

It stands where PEP 770 has it, .dist-info/sboms, and is short: a wheel holds Atoll's own files and needs no others.
A wheel that has one already is left alone. The same wheel becomes the same bytes.
"""

import base64
import email.parser
import hashlib
import json
import sys
import zipfile
from pathlib import Path

NAME = "sboms/atoll.cdx.json"


def sbom(metadata: str) -> bytes:
    """The document for a distribution with this metadata."""
    fields = email.parser.Parser().parsestr(metadata, headersonly=True)
    name, version = fields["Name"], fields["Version"]
    reference = f"pkg:pypi/{name}@{version}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": reference,
                "name": name,
                "version": version,
                "description": fields["Summary"],
                "licenses": [{"license": {"id": fields["License-Expression"]}}],
                "purl": reference,
            }
        },
        "components": [],
        "dependencies": [{"ref": reference, "dependsOn": []}],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def add(wheel: Path) -> None:
    """Write the wheel anew, with the document and a line for it in RECORD."""
    with zipfile.ZipFile(wheel) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    record = next(info for info, _ in entries if info.filename.endswith(".dist-info/RECORD"))
    place = record.filename.removesuffix("RECORD")
    if any(info.filename == place + NAME for info, _ in entries):
        return
    document = sbom(next(data for info, data in entries if info.filename == place + "METADATA").decode())
    digest = base64.urlsafe_b64encode(hashlib.sha256(document).digest()).rstrip(b"=").decode()
    line = f"{place}{NAME},sha256={digest},{len(document)}\n"
    made = zipfile.ZipInfo(place + NAME, record.date_time)
    made.compress_type, made.external_attr = record.compress_type, record.external_attr
    beside = wheel.with_suffix(".new")
    with zipfile.ZipFile(beside, "w") as archive:
        for info, data in entries:
            if info is record:
                archive.writestr(made, document)
                archive.writestr(info, line.encode() + data)
            else:
                archive.writestr(info, data)
    beside.replace(wheel)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        add(Path(argument))
