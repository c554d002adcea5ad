"""An agent on the official SDK: stores a memory, finds it again and prints what it found.

Prints one JSON document. What a tool refuses is in it as `refused` (exit status 1); when the server
lets nobody in, `status` is that of HTTP and `message` is what the server said (exit status 2).
"""

import argparse
import json
import ssl
import sys

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("url", help="such as http://memory.team.svc:3000/mcp")
arguments.add_argument("token", nargs="?", help="file with the token; left out, none is shown")
arguments.add_argument("--ca", help="file with the authority of the server's certificate")
arguments.add_argument("--project", default="web")
arguments.add_argument("--scope", default="local")
arguments.add_argument("--text", default="the lighthouse is painted red", help="what is stored")
arguments.add_argument("--find", help="searches for this only, and stores nothing")


class Door(Exception):
    """The server did not let the agent in."""

    def __init__(self, response):
        super().__init__(response.text)
        self.status = response.status_code
        try:
            answer = response.json()
            self.message = answer.get("error_description") or answer["error"]["message"]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.message = response.text


async def call(client, name, **values):
    result = await client.call_tool(name, values)
    if result.is_error:
        return {"refused": result.content[0].text}
    return result.structured_content


async def work(client, options):
    if options.find:
        return {"found": await call(client, "memory_query", q=options.find, scope=options.scope)}
    stored = await call(
        client, "memory_upsert", type="fact", scope=options.scope,
        title=options.text, text=options.text,
    )
    found = await call(client, "memory_query", q=options.text, scope=options.scope)
    return {"stored": stored, "found": found}


async def visit(options):
    headers = {"llm-memory-project": options.project}
    if options.token:
        with open(options.token) as file:
            headers["authorization"] = f"Bearer {file.read().strip()}"
    refusals = []

    async def look(response):
        # Not every one is the end: a client that knows two protocols tries both.
        if response.status_code in (401, 403, 429, 503):
            await response.aread()
            refusals.append(Door(response))

    hooks = {"response": [look]}
    verify = ssl.create_default_context(cafile=options.ca) if options.ca else True
    try:
        async with httpx2.AsyncClient(
            headers=headers, event_hooks=hooks, verify=verify
        ) as http:
            transport = streamable_http_client(options.url, http_client=http)
            async with Client(transport) as client:
                return 0, await work(client, options)
    except Exception:
        if not refusals:
            raise
        return 2, {"status": refusals[-1].status, "message": refusals[-1].message}


status, answer = anyio.run(visit, arguments.parse_args())
if any("refused" in part for part in answer.values() if isinstance(part, dict)):
    status = 1
print(json.dumps(answer))
sys.exit(status)
