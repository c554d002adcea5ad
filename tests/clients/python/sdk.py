"""The Python SDK against a server. Arguments: URL, mode (legacy: sessions, auto: the newest)."""

import json
import re
import sys

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def call(client, name, **arguments):
    result = await client.call_tool(name, arguments)
    assert not result.is_error, (name, result.content)
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def text(client, uri):
    return json.loads((await client.read_resource(uri)).contents[0].text)


async def exercise(client, label):
    tools = (await client.list_tools()).tools
    for tool in tools:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name), tool.name
        assert tool.annotations.read_only_hint is not None, tool.name
    assert {"memory_upsert", "memory_query"} <= {tool.name for tool in tools}

    title = f"A note of {label}"
    written = await call(
        client, "memory_upsert", type="fact", scope="local", title=title,
        text="The lazy dog sleeps.", tags=[label],
    )
    item_id = written["id"]
    found = await call(
        client, "memory_query", q="lazy dog", scope="local", explain=True,
        filters={"tags": [label]},
    )
    assert [hit["id"] for hit in found["items"]] == [item_id], found
    item = await call(client, "memory_get", id=item_id)
    assert item["title"] == title
    assert (await call(client, "memory.get", id=item_id))["hash"] == item["hash"]

    missing = await client.call_tool("memory_get", {"id": "nothing"})
    assert missing.is_error and "nothing" in missing.content[0].text

    assert any(str(one.uri) == "kb://health" for one in (await client.list_resources()).resources)
    assert (await text(client, "kb://health"))["name"] == "llm-memory"
    recent = (await text(client, "kb://project/info"))["recent"]
    assert any(summary["id"] == item_id for summary in recent)

    prompt = await client.get_prompt("check-memory", {"task": "wake the lazy dog"})
    assert title in prompt.messages[0].content.text

    history = await call(client, "memory_history", id=item_id)
    assert history["total"] >= 1
    assert (await call(client, "memory_delete", id=item_id))["changed"]


async def main():
    url, mode = sys.argv[1:]
    async with httpx2.AsyncClient(headers={"llm-memory-project": f"python-{mode}"}) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode) as client:
            expected = {"legacy": "2025-11-25", "auto": "2026-07-28"}[mode]
            assert client.protocol_version == expected, client.protocol_version
            assert client.server_info.name == "llm-memory"
            await exercise(client, f"python-{mode}")
            if mode != "legacy":
                await watch(client)
    print("ok")


async def watch(client):
    """A listener learns of a change to the item that it watches."""
    written = await call(client, "memory_upsert", type="note", scope="local", title="Watched")
    uri = f"kb://item/{written['id']}"
    with anyio.fail_after(20):
        async with client.listen(resource_subscriptions=[uri]) as subscription:
            await call(client, "memory_pin", id=written["id"])
            async for event in subscription:
                assert str(event.uri) == uri, event
                break


anyio.run(main)
