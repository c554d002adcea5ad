"""Checks that a dashboard and the page of metrics agree: dashboard.py DASHBOARD METRICS.

Every metric of the server in a query is on the page, and every metric on the page is in a query;
queries over the server's metrics are limited to the namespaces and stores that were chosen.
"""

import json
import re
import sys

# Not worth a panel: nobody acts on them.
WITHOUT_PANEL = {
    "process_virtual_memory_bytes",
    "process_threads",
    "process_start_time_seconds",
}
SELECTOR = 'namespace=~"$namespace",service=~"$store"'


def main():
    dashboard = json.load(open(sys.argv[1]))
    page = set(re.findall(r"^\| `(\w+)`", open(sys.argv[2]).read(), re.MULTILINE))
    queries = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", [])]
    used, problems = set(), []
    for query in queries:
        for name in re.findall(r"\b(?:llm_memory|process)_\w+", query):
            if name.startswith("llm_memory_operator_"):
                continue
            used.add(re.sub(r"_bucket$", "", name))
            if SELECTOR not in query:
                problems.append(f"not limited to what was chosen: {query}")
    problems += [f"no such metric: {name}" for name in sorted(used - page)]
    problems += [f"in no panel: {name}" for name in sorted(page - used - WITHOUT_PANEL)]
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        problems.append("two panels have the same id")
    for problem in problems:
        print(f"{sys.argv[1]}: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


main()
