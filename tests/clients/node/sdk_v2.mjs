// The TypeScript SDK of the stateless protocol (2026-07-28). Arguments: URL.

import assert from "node:assert/strict";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

import { exercise, soon } from "./exercise.mjs";

const url = new URL(process.argv[2]);
const headers = { "llm-memory-project": "sdk" };
const client = new Client(
  { name: "sdk-v2", version: "1.0.0" },
  { versionNegotiation: { mode: { pin: "2026-07-28" } } },
);
await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
assert.equal(client.getNegotiatedProtocolVersion(), "2026-07-28");
assert.equal(client.getServerVersion().name, "llm-memory");

let subscription;
await exercise({
  listTools: () => client.listTools(),
  callTool: (params) => client.callTool(params),
  listResources: () => client.listResources(),
  listResourceTemplates: () => client.listResourceTemplates(),
  listPrompts: () => client.listPrompts(),
  getPrompt: (params) => client.getPrompt(params),
  readText: async (uri) => (await client.readResource({ uri })).contents[0].text,
  watch: async (uri) => {
    const told = new Promise((resolve) => {
      client.setNotificationHandler("notifications/resources/updated", (note) => {
        resolve(note.params.uri);
      });
    });
    subscription = await client.listen({ resourceSubscriptions: [uri] });
    assert.deepEqual(subscription.honoredFilter.resourceSubscriptions, [uri]);
    return () => soon(told, "resources/updated");
  },
}, "sdk-v2");

// An argument that is mirrored in a header: the SDK sends Mcp-Param-Project by the schema.
const elsewhere = await client.callTool({
  name: "memory_list", arguments: { scope: "local", project: "another" },
});
assert.notEqual(elsewhere.isError, true, elsewhere.content?.[0]?.text);
assert.equal(elsewhere.structuredContent.total, 0);

await subscription.close();
await client.close();
console.log("ok");
