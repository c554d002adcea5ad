//! The `memory_*` tools: what agents work with.

use std::sync::Arc;

use llm_memory_engine::api::{
    AppendRequest, DeleteRequest, FeedbackRequest, GetRequest, GraphRequest, GraphResult,
    HistoryRequest, HistoryResult, ItemRequest, LinkRequest, ListRequest, ListResult, MergeRequest,
    PatchRequest, QueryRequest, QueryResult, RenewRequest, TagRequest, UpsertRequest, WriteResult,
};
use llm_memory_engine::config::ScopeConfig;
use llm_memory_engine::ids::{ItemId, Scope, ScopeSelector};
use llm_memory_engine::item::Item;
use llm_memory_engine::pack::{self, Pack, PackRequest};
use serde_json::{Map, Value};

use super::{Tool, ToolContext, ToolError, reply, schema};
use crate::access::Role;

const AGENT: &[Role] = &[Role::Agent];

/// One tool whose request goes to the engine as it is.
macro_rules! tool {
    (
        $name:literal, $dotted:literal, $title:literal, [$($flag:ident)*],
        $request:ty => $result:ty, $method:ident, $description:expr
    ) => {{
        let mut tool = Tool {
            name: $name,
            dotted: $dotted,
            title: $title,
            description: $description,
            roles: AGENT,
            core: false,
            read_only: false,
            destructive: false,
            idempotent: false,
            input_schema: schema::input::<$request>,
            output_schema: schema::output::<$result>,
            run: |context, arguments| {
                let request: $request = reply::parse(arguments)?;
                reply::value(context.engine.$method(context.caller, request)?)
            },
        };
        $(tool.$flag = true;)*
        tool
    }};
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        tool!(
            "memory_query", "memory.query", "Search memories", [core read_only idempotent],
            QueryRequest => QueryResult, query,
            "Find what is remembered about something. Give the words you would expect in the \
             memory (names, file paths and identifiers work well; camelCase and snake_case are \
             split), quotes for an exact phrase, -word to exclude. Ask before you start work and \
             whenever something seems familiar. Use return=summary for a cheap overview, then \
             memory_get. Without q the newest memories are returned."
        ),
        tool!(
            "memory_upsert", "memory.upsert", "Store a memory", [core destructive],
            UpsertRequest => WriteResult, upsert,
            "Store something worth remembering: one thought an item, with a title somebody would \
             search for. Without id a new item is made; with the id of a stored item that item is \
             replaced whole (to change a part use memory_patch or memory_append). The reply is \
             given once the memory is durable; nearDuplicates names stored items that say nearly \
             the same, which you may want to merge. Never store passwords or keys; those that are \
             recognised are taken out."
        ),
        tool!(
            "memory_get", "memory.get", "Read one memory", [core read_only idempotent],
            GetRequest => Item, get,
            "Read one item whole by its id, as it is or as it was (asOf, version)."
        ),
        tool!(
            "memory_list", "memory.list", "List memories", [core read_only idempotent],
            ListRequest => ListResult, list,
            "List items, newest first, as summaries, with filters and paging. To look for \
             something use memory_query."
        ),
        Tool {
            name: "memory_context_pack",
            dotted: "memory.contextPack",
            title: "Digest of what is known",
            description: "A digest of the memories that matter for a question, arranged for \
                reading within a budget of characters or tokens: code, facts, settings and \
                patterns, each with the item it comes from. Cheaper than reading the hits of \
                memory_query one by one. Equal digests mean an equal pack.",
            roles: AGENT,
            core: true,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<PackRequest>,
            output_schema: schema::output::<Pack>,
            run: context_pack,
        },
        tool!(
            "memory_patch", "memory.patch", "Change a part of a memory", [core destructive],
            PatchRequest => WriteResult, patch,
            "Replace pieces of an item's title, text or code. Each operation replaces the first \
             occurrence of old by new; if one is not found nothing is changed and the error names \
             it. ifVersion guards against changes made by others since you read the item."
        ),
        tool!(
            "memory_append", "memory.append", "Add to a memory", [core],
            AppendRequest => WriteResult, append,
            "Add to the end of an item's text or code, after a blank line unless separator says \
             otherwise."
        ),
        tool!(
            "memory_delete", "memory.delete", "Delete a memory", [core destructive],
            DeleteRequest => WriteResult, delete,
            "Delete an item. Its history stays readable with asOf unless erase is set, which \
             removes the content for good and keeps only hashes as proof."
        ),
        tool!(
            "memory_tag", "memory.tag", "Tag a memory", [core destructive idempotent],
            TagRequest => WriteResult, tag,
            "Add and remove tags of an item."
        ),
        tool!(
            "memory_link", "memory.link", "Link two memories", [core destructive idempotent],
            LinkRequest => WriteResult, link,
            "Link one item to another of the same scope: refines, duplicates, depends, fixes or \
             relates. remove takes the link away."
        ),
        tool!(
            "memory_use", "memory.use", "Note that a memory was used", [core],
            ItemRequest => WriteResult, record_use,
            "Say that an item was of use in your work, so that it ranks higher later."
        ),
        tool!(
            "memory_feedback", "memory.feedback", "Rate a memory", [core],
            FeedbackRequest => WriteResult, feedback,
            "Say whether an item helped (helpful=true) or misled (helpful=false). Votes change \
             its confidence and with it its rank."
        ),
        tool!(
            "memory_graph", "memory.graph", "Walk links", [read_only idempotent],
            GraphRequest => GraphResult, graph,
            "Follow links from an item, along or against them, some steps far."
        ),
        tool!(
            "memory_history", "memory.history", "History of a memory", [read_only idempotent],
            HistoryRequest => HistoryResult, history,
            "Every change of an item, newest first: version, time, operation and who made it; \
             with content=true what it said."
        ),
        tool!(
            "memory_pin", "memory.pin", "Pin a memory", [idempotent],
            ItemRequest => WriteResult, pin,
            "Pin an item: it ranks first among equals and keeps a high confidence."
        ),
        tool!(
            "memory_unpin", "memory.unpin", "Unpin a memory", [destructive idempotent],
            ItemRequest => WriteResult, unpin,
            "Take the pin off an item."
        ),
        tool!(
            "memory_merge", "memory.merge", "Merge memories", [destructive],
            MergeRequest => WriteResult, merge,
            "Join several items of one scope into one; with deleteSource the others are deleted \
             in the same step."
        ),
        tool!(
            "memory_renew", "memory.renew", "Renew a memory", [destructive],
            RenewRequest => WriteResult, renew,
            "Start an item's time to live again, or give it one: ttlDays from now, by default \
             its own, or 30."
        ),
    ]
}

fn context_pack(
    context: &ToolContext<'_>,
    arguments: Map<String, Value>,
) -> Result<Value, ToolError> {
    let request: PackRequest = reply::parse(arguments)?;
    request.validate()?;
    let found = context.engine.query(context.caller, request.to_query())?;
    let notice = request.notice(&found);
    let items = reply::whole_items(found);
    let config = governing_config(context, request.scope)?;
    // Titles of linked items that the caller may not see, or that are gone, are left out.
    let title_of = |id: &ItemId, scope: Scope| {
        let asked =
            GetRequest { id: id.clone(), scope: Some(scope), as_of: request.as_of, version: None };
        context.engine.get(context.caller, asked).ok().map(|item| item.title)
    };
    let packed = pack::build(&request, &items, &config.pack, &title_of);
    reply::value(Pack { notice, ..packed })
}

/// The configuration that governs what spans several scopes: that of the first one in lookup
/// order that the caller may read.
pub(crate) fn governing_config(
    context: &ToolContext<'_>,
    selector: ScopeSelector,
) -> Result<Arc<ScopeConfig>, ToolError> {
    let caller = context.caller;
    let readable = |scope: &Scope| {
        caller.read.contains(*scope) && (*scope == Scope::Global || caller.project.is_some())
    };
    match selector.scopes().iter().copied().find(readable) {
        Some(scope) => Ok(context.engine.scope_config(caller, scope)?),
        None => Ok(Arc::default()),
    }
}
