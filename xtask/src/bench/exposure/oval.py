"""The tracker's JSON as OVAL 5.11 definitions of dpkginfo, for the packages of a dpkg status file, so that oscap runs beside
on the same data, without network.

Format: OVAL Language 5.11, linux-definitions-schema. Names stand as they are: openscap 1.3 looks them up exactly."""

import collections
import json
import re
import sys
from xml.sax.saxutils import escape

tracker, status, out, release = sys.argv[1:]
with open(tracker, encoding="utf-8") as file:
    sources = json.load(file)
binaries = collections.defaultdict(set)
with open(status, encoding="utf-8", errors="replace") as file:
    for paragraph in file.read().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Source|Status):\s*(.*)$", paragraph, re.M))
        if fields.get("Status") == "install ok installed":
            binaries[fields.get("Source", fields["Package"]).split(" ")[0]].add(fields["Package"])

parts = collections.defaultdict(list)
numbers = collections.defaultdict(dict)


def reference(kind, key, make):
    """Each object, state and test once, by what it says."""
    known = numbers[kind]
    if key not in known:
        known[key] = f"oval:bench:{kind}:{len(known) + 1}"
        parts[kind].append(make(known[key]))
    return known[key]


def test(name, fixed):
    found = reference("obj", name, lambda i: f'<linux:dpkginfo_object id="{i}" version="1"><linux:name>{escape(name)}</linux:name></linux:dpkginfo_object>')
    state = ""
    if fixed:
        its = reference(
            "ste",
            fixed,
            lambda i: f'<linux:dpkginfo_state id="{i}" version="1"><linux:evr datatype="debian_evr_string" operation="less than">{escape(fixed)}</linux:evr></linux:dpkginfo_state>',
        )
        state = f'<linux:state state_ref="{its}"/>'
    return reference(
        "tst",
        (name, fixed),
        lambda i: f'<linux:dpkginfo_test id="{i}" version="1" check="all" check_existence="at_least_one_exists" comment="{escape(name)}"><linux:object object_ref="{found}"/>{state}</linux:dpkginfo_test>',
    )


for source, names in sorted(binaries.items()):
    for cve, entry in sources.get(source, {}).items():
        said = entry["releases"].get(release)
        if said is None or said.get("fixed_version") == "0":
            continue
        fixed = said.get("fixed_version", "")
        if fixed and ":" not in fixed:
            fixed = "0:" + fixed
        criteria = "".join(f'<criterion test_ref="{test(name, fixed)}"/>' for name in sorted(names))
        reference(
            "def",
            (cve, source),
            lambda i: f'<definition id="{i}" version="1" class="vulnerability"><metadata><title>{escape(cve)} {escape(source)}</title><affected family="unix"/><reference source="CVE" ref_id="{escape(cve)}"/><description>{escape(source)}</description></metadata><criteria operator="OR">{criteria}</criteria></definition>',
        )

name = "http://oval.mitre.org/XMLSchema/oval-"
with open(out, "w", encoding="utf-8") as file:
    file.write(
        f'<?xml version="1.0"?><oval_definitions xmlns="{name}definitions-5" xmlns:oval="{name}common-5" xmlns:linux="{name}definitions-5#linux">'
        "<generator><oval:schema_version>5.11.1</oval:schema_version><oval:timestamp>2026-01-01T00:00:00</oval:timestamp></generator>"
    )
    for tag, kind in (("definitions", "def"), ("tests", "tst"), ("objects", "obj"), ("states", "ste")):
        file.write(f"<{tag}>{''.join(parts[kind])}</{tag}>")
    file.write("</oval_definitions>")
