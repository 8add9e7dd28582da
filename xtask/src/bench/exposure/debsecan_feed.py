"""The tracker's JSON as debsecan's own feed, so that it runs beside on the same data, without network.

Format: debsecan's source, class Feed ("VERSION 1", then vulnerabilities, packages, source to binary packages,
each list ended by an empty line, all of it packed by zlib)."""

import json
import os
import sys
import zlib

tracker, release, out = sys.argv[1:]
with open(tracker, encoding="utf-8") as file:
    sources = json.load(file)
places, vulnerabilities, packages = {}, [], []
for source, entries in sources.items():
    for name, entry in entries.items():
        said = entry["releases"].get(release)
        if said is None:
            continue
        if name not in places:
            places[name] = len(vulnerabilities)
            vulnerabilities.append(f"{name},,")
        fixed = said.get("fixed_version", "")
        if fixed == "0":
            continue
        urgency = {"low": "L", "medium": "M", "high": "H"}.get(said.get("urgency"), " ")
        packages.append(f"{source},{places[name]},S{urgency}?{'F' if fixed else ' '},{fixed},")
lists = ["\n".join(vulnerabilities), "\n".join(packages), "\n".join(f"{s},{s}" for s in sorted(sources))]
os.makedirs(out, exist_ok=True)
with open(os.path.join(out, release), "wb") as file:
    file.write(zlib.compress(("VERSION 1\n" + "\n\n".join(lists) + "\n\n").encode()))
