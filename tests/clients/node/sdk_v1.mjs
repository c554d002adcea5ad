// The TypeScript SDK of the session protocol (2025-11-25). Arguments: URL.

import assert from "node:assert/strict";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

import { exercise, soon } from "./exercise.mjs";

const url = new URL(process.argv[2]);
const headers = { "llm-memory-project": "sdk" };
const client = new Client({ name: "sdk-v1", version: "1.0.0" });
const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers } });
await client.connect(transport);
assert.equal(transport.protocolVersion, "2025-11-25");
assert.equal(client.getServerVersion().name, "llm-memory");
assert.ok(transport.sessionId);
await client.ping();

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
      client.setNotificationHandler(ResourceUpdatedNotificationSchema, (note) => {
        resolve(note.params.uri);
      });
    });
    await client.subscribeResource({ uri });
    return () => soon(told, "resources/updated");
  },
}, "sdk-v1");

await transport.terminateSession();
await client.close();
console.log("ok");
