// What every client does with the server, whichever SDK and protocol revision it speaks. `client`
// hides how the two SDKs spell the calls.

import assert from "node:assert/strict";

export async function exercise(client, label) {
  const { tools } = await client.listTools();
  const names = tools.map((tool) => tool.name);
  assert.ok(names.includes("memory_upsert") && names.includes("memory_query"), String(names));
  for (const tool of tools) {
    assert.match(tool.name, /^[a-zA-Z0-9_-]{1,64}$/);
    assert.equal(typeof tool.annotations.readOnlyHint, "boolean", tool.name);
    assert.equal(tool.outputSchema.type, "object", tool.name);
  }

  // An acknowledged write is seen by the search that follows. The SDK checks each structured
  // result against the tool's output schema.
  const title = `A note of ${label}`;
  const written = await call(client, "memory_upsert", {
    type: "note", scope: "local", title, text: "The quick brown fox.", tags: [label],
    code: "fn main() {}", language: "rust",
  });
  assert.equal(written.created, true);
  const { id } = written;
  const found = await call(client, "memory_query", {
    q: "quick fox", scope: "local", explain: true, facets: true, filters: { tags: [label] },
  });
  assert.deepEqual(found.items.map((hit) => hit.id), [id]);
  assert.ok(found.items[0].explanation.bm25.length > 0);
  for (const detail of ["summary", "snippet"]) {
    const hits = await call(client, "memory_query", { q: "fox", return: detail });
    assert.ok(hits.items.some((hit) => hit.id === id), detail);
  }
  const item = await call(client, "memory_get", { id });
  assert.equal(item.title, title);

  // The reference system's spelling is accepted; the answer is the same.
  const dotted = await call(client, "memory.get", { id });
  assert.equal(dotted.hash, item.hash);

  await call(client, "memory_append", { id, field: "text", content: "It jumps." });
  await call(client, "memory_patch", { id, operations: [{ field: "text", old: "quick", new: "swift" }] });
  await call(client, "memory_use", { id });
  await call(client, "memory_feedback", { id, helpful: true });
  const listed = await call(client, "memory_list", { scope: "local", filters: { tags: [label] } });
  assert.equal(listed.total, 1);

  // Failures are results that the agent can read.
  const missing = await client.callTool({ name: "memory_get", arguments: { id: "nothing" } });
  assert.equal(missing.isError, true);
  assert.match(missing.content[0].text, /nothing/);
  const wrong = await client.callTool({ name: "memory_query", arguments: { k: 0 } });
  assert.equal(wrong.isError, true);
  assert.match(wrong.content[0].text, /^k: /);

  const { resources } = await client.listResources();
  assert.ok(resources.some((resource) => resource.uri === "kb://project/info"));
  const { resourceTemplates } = await client.listResourceTemplates();
  assert.ok(resourceTemplates.some((one) => one.uriTemplate.startsWith("kb://context/pack")));
  const info = JSON.parse(await client.readText("kb://project/info"));
  assert.ok(info.recent.some((summary) => summary.id === id));
  const health = JSON.parse(await client.readText("kb://health"));
  assert.equal(health.name, "llm-memory");
  const pack = JSON.parse(await client.readText("kb://context/pack?q=swift%20fox&scope=local"));
  assert.ok(pack.source.ids.includes(id), JSON.stringify(pack));

  const { prompts } = await client.listPrompts();
  assert.ok(prompts.some((prompt) => prompt.name === "check-memory"));
  const prompt = await client.getPrompt({
    name: "check-memory", arguments: { task: "find the swift fox" },
  });
  assert.match(prompt.messages[0].content.text, new RegExp(title));

  // Somebody who watches an item learns of its next change.
  const changed = await client.watch(`kb://item/${id}`);
  await call(client, "memory_tag", { id, add: ["seen"] });
  assert.equal(await changed(), `kb://item/${id}`);

  const gone = await call(client, "memory_delete", { id });
  assert.equal(gone.changed, true);
}

export async function call(client, name, args) {
  const result = await client.callTool({ name, arguments: args });
  assert.notEqual(result.isError, true, `${name}: ${result.content?.[0]?.text}`);
  assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
  return result.structuredContent;
}

// A promise that fails rather than hangs.
export function soon(promise, what) {
  const limit = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`timed out: ${what}`)), 20_000).unref();
  });
  return Promise.race([promise, limit]);
}
