#!/usr/bin/env python3
"""Ansible's dynamic inventory from Fettle: hosts with their labels, states and policies as groups.

    FETTLE_SERVER=http://127.0.0.1:8440 FETTLE_TOKEN_FILE=/etc/fettle/ansible.token \
        ansible-inventory -i fettle_inventory.py --graph

A viewer's token is enough: `fettle operator add ansible --role viewer --expires 90d`. Only Python's own library is needed.
Groups: label_KEY_VALUE, state_STATE, policy_NAME. FETTLE_VIEW names a saved view, for only its hosts.
"""
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

SERVER = os.environ.get("FETTLE_SERVER", "http://127.0.0.1:8440").rstrip("/")
TOKEN_FILE = os.environ.get("FETTLE_TOKEN_FILE", "/var/lib/fettle/operator.token")
VIEW = os.environ.get("FETTLE_VIEW", "")
PART = 1000


def get(path):
    with open(TOKEN_FILE, encoding="ascii") as file:
        token = file.read().strip()
    request = urllib.request.Request(SERVER + "/api/v1" + path)
    request.add_header("Authorization", "Bearer " + token)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def query():
    if not VIEW:
        return ""
    for view in get("/views")["items"]:
        if view["name"] == VIEW:
            return "&" + view["query"]
    sys.exit(f"fettle_inventory.py: you see no saved view `{VIEW}`: fettle view list")


def rows():
    more, offset = query(), 0
    while True:
        page = get(f"/hosts?limit={PART}&offset={offset}{more}")
        yield from page["items"]
        offset += PART
        if offset >= page["total"]:
            return


def group(*words):
    return "_".join(re.sub(r"[^A-Za-z0-9_]", "_", word) for word in words)


def main():
    if "--host" in sys.argv[1:]:
        # All of it is in _meta.
        print("{}")
        return
    variables, groups = {}, {}
    for row in rows():
        name = row["name"]
        labels = row.get("labels", {})
        variables[name] = {
            "fettle_id": row["id"],
            "fettle_state": row["state"],
            "fettle_policy": row.get("policy"),
            "fettle_labels": labels,
        }
        of = [group("label", key, value) for key, value in labels.items()]
        of.append(group("state", row["state"]))
        if row.get("policy"):
            of.append(group("policy", row["policy"]))
        for one in of:
            groups.setdefault(one, []).append(name)
    out = {one: {"hosts": sorted(names)} for one, names in sorted(groups.items())}
    out["all"] = {"hosts": sorted(variables)}
    out["_meta"] = {"hostvars": variables}
    print(json.dumps(out, indent=2, sort_keys=True))


try:
    main()
except urllib.error.HTTPError as error:
    said = json.loads(error.read() or b"{}")
    sys.exit(f"fettle_inventory.py: {said.get('message', error)}; {said.get('hint', '')}")
except (OSError, ValueError) as error:
    sys.exit(f"fettle_inventory.py: {SERVER}: {error}")
