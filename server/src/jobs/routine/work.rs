//! What the steps of a round do. Each calls the tools that an operator would.

use serde_json::{Map, Value, json};

use super::step::{Done, Step};
use crate::exit::Exit;
use crate::jobs::call::Calls;
use crate::jobs::verify::{ScopeVerdict, Verification, verify};
use crate::reports::by_scope::{arguments, count, documents, entries};
use crate::reports::verdict::worst;
use crate::tools::ToolError;

/// Sound records over checked ones, below which the views of a scope are derived again.
const MIN_INTEGRITY: f64 = 0.98;

/// A kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Removes what interrupted work left behind.
    Cleanup,
    /// Compacts scopes whose journal has grown.
    CompactGrown,
    /// Deletes expired memories.
    Prune,
    /// Verifies everything, and rebuilds what needs it.
    Verify,
    /// Compacts every scope.
    CompactAll,
    /// Rebuilds every view and compares it with the one before.
    RebuildVerify,
    /// Collects what there is to know about the store.
    Statistics,
}

impl Work {
    /// Does the step; verification may need further ones.
    pub(super) fn run(self, calls: &Calls<'_>, compact_over: u64) -> Vec<Step> {
        match self {
            Self::Cleanup => vec![Step::of("cleanup", || cleanup(calls))],
            Self::CompactGrown => {
                vec![Step::of("compact grown journals", || compact_grown(calls, compact_over))]
            }
            Self::Prune => vec![Step::of("prune", || prune(calls))],
            Self::Verify => verify_and_mend(calls),
            Self::CompactAll => vec![Step::of("compact", || compact_all(calls))],
            Self::RebuildVerify => {
                vec![Step::of("rebuild and compare", || rebuild_and_compare(calls))]
            }
            Self::Statistics => vec![Step::of("statistics", || statistics(calls))],
        }
    }
}

fn scope<'a>(calls: &Calls<'a>) -> &'a str {
    calls.job.arguments.scope.as_str()
}

fn everything(calls: &Calls<'_>) -> Value {
    json!({ "scope": calls.job.arguments.scope })
}

fn cleanup(calls: &Calls<'_>) -> Result<Done, ToolError> {
    let result = calls.call("cleanup", "maintenance.cleanup", everything(calls))?;
    let scopes = documents(&result, scope(calls), "removed");
    let removed = scopes.iter().map(|(_, document)| entries(document, "removed")).sum();
    let bytes = scopes.iter().map(|(_, document)| count(document, "bytes")).sum();
    let told = format!("{removed} leftovers removed, {bytes} bytes");
    Ok(Done::with(worst(&result), result).count("removed", removed).freed(bytes).told(told))
}

fn prune(calls: &Calls<'_>) -> Result<Done, ToolError> {
    let result = calls.call("prune", "maintenance.prune", everything(calls))?;
    let (expired, kept) = (count(&result, "totalExpired"), count(&result, "totalKept"));
    let told = format!("{expired} expired memories deleted, {kept} kept");
    Ok(Done::with(worst(&result), result).count("expired", expired).count("kept", kept).told(told))
}

fn compact_grown(calls: &Calls<'_>, over: u64) -> Result<Done, ToolError> {
    let stats = calls.call("measure the journals", "journal.stats", everything(calls))?;
    let scopes = documents(&stats, scope(calls), "headSeq");
    let looked_at = scopes.len() as u64;
    let grown: Vec<String> = scopes
        .into_iter()
        .filter(|(_, document)| journal_bytes(document) > over)
        .map(|(scope, _)| scope)
        .collect();
    let mut results = Map::new();
    let mut failures = Vec::new();
    for name in &grown {
        let step = format!("compact {name}");
        match calls.call(&step, "maintenance.compact", arguments(name)) {
            Ok(result) => {
                let compacted = documents(&result, name, "bytesBefore");
                results.extend(compacted.into_iter().map(|(_, done)| (name.clone(), done.clone())));
            }
            Err(error) => failures.push((name.as_str(), error)),
        }
    }
    Ok(compacted(Value::Object(results), "all")
        .but(&failures)
        .count("scopes", looked_at)
        .count("grown", grown.len() as u64))
}

fn compact_all(calls: &Calls<'_>) -> Result<Done, ToolError> {
    let result = calls.call("compact", "maintenance.compact", everything(calls))?;
    Ok(compacted(result, scope(calls)))
}

fn compacted(result: Value, asked: &str) -> Done {
    let scopes = documents(&result, asked, "bytesBefore");
    let sum = |key: &str| -> u64 { scopes.iter().map(|(_, document)| count(document, key)).sum() };
    let (before, after, bodies) = (sum("bytesBefore"), sum("bytesAfter"), sum("deleted"));
    let number = scopes.len() as u64;
    let told = format!("{number} scopes compacted, {before} bytes before, {after} after");
    Done::with(worst(&result), result)
        .count("compacted", number)
        .count("bodies", bodies)
        .freed(before.saturating_sub(after))
        .told(told)
}

fn journal_bytes(stats: &Value) -> u64 {
    let size = |kind: &str| stats.get(kind).map_or(0, |size| count(size, "sizeBytes"));
    size("legacy").saturating_add(size("optimized"))
}

/// Verifies everything. Scopes below the least integrity, and those whose views disagree, are
/// rebuilt and verified once more.
fn verify_and_mend(calls: &Calls<'_>) -> Vec<Step> {
    let mut due: Vec<String> = Vec::new();
    let first = Step::of("verify", || {
        let found = verify(calls, scope(calls), &everything(calls))?;
        let needs = |scope: &&ScopeVerdict| scope.integrity < MIN_INTEGRITY || !scope.views_agree;
        due.extend(found.scopes.iter().filter(needs).map(|scope| scope.scope.clone()));
        Ok(verified(found))
    });
    let mut steps = vec![first];
    if due.is_empty() {
        return steps;
    }
    steps.push(Step::of("rebuild", || {
        let mut results = Map::new();
        let mut failures = Vec::new();
        for name in &due {
            let step = format!("rebuild {name}");
            match calls.call(&step, "maintenance.rebuild", arguments(name)) {
                Ok(result) => drop(results.insert(name.clone(), result)),
                Err(error) => failures.push((name.as_str(), error)),
            }
        }
        let rebuilt: Vec<&str> = results.keys().map(String::as_str).collect();
        let told = format!("views of {} derived again", rebuilt.join(", "));
        let number = results.len() as u64;
        Ok(Done::with(Exit::Done, Value::Object(results))
            .but(&failures)
            .count("rebuilt", number)
            .told(told))
    }));
    steps.extend(due.iter().map(|name| {
        Step::of("verify again", || Ok(verified(verify(calls, name, &arguments(name))?)))
    }));
    steps
}

fn verified(found: Verification) -> Done {
    let (exit, told) = (found.exit(), found.summary());
    let (scopes, checked, unsound) = (found.scopes.len() as u64, found.checked, found.unsound);
    Done::with(exit, serde_json::to_value(found).unwrap_or_default())
        .count("scopes", scopes)
        .count("checked", checked)
        .count("unsound", unsound)
        .told(told)
}

/// Derives every view again and compares its content with that of the view before.
fn rebuild_and_compare(calls: &Calls<'_>) -> Result<Done, ToolError> {
    let before = calls.call("compare the views", "maintenance.verify", everything(calls))?;
    let rebuilt = calls.call("rebuild", "maintenance.rebuild", everything(calls))?;
    let after = calls.call("compare the views", "maintenance.verify", everything(calls))?;
    let asked = scope(calls);
    let earlier = documents(&before, asked, "watermarks");
    let mut comparison = Map::new();
    let (mut changed, mut written) = (0_u64, 0_u64);
    for (name, document) in documents(&after, asked, "watermarks") {
        let old = earlier.iter().find(|(known, _)| *known == name).map(|(_, old)| *old);
        let member = |of: Option<&Value>, key: &str| of.and_then(|of| of.get(key)).cloned();
        let same = member(old, "checksum") == member(Some(document), "checksum");
        // A write in between changes the content for a good reason.
        let moved = position(old) != position(Some(document));
        changed += u64::from(!same && !moved);
        written += u64::from(moved);
        let compared = json!({
            "ok": document.get("ok"), "same": same, "writtenMeanwhile": moved,
            "checksumBefore": member(old, "checksum"), "checksumAfter": document.get("checksum"),
        });
        comparison.insert(name, compared);
    }
    let scopes = comparison.len() as u64;
    let disagree =
        comparison.values().filter(|compared| compared.get("ok") == Some(&false.into())).count();
    let freed: u64 = documents(&rebuilt, asked, "bytesBefore")
        .iter()
        .map(|(_, scope)| count(scope, "bytesBefore").saturating_sub(count(scope, "bytesAfter")))
        .sum();
    let told = format!(
        "views of {scopes} scopes derived again, {changed} were different before, {disagree} \
         disagree with the journal"
    );
    let result = json!({ "comparison": comparison, "rebuilt": rebuilt });
    let exit = if changed > 0 || disagree > 0 { Exit::Finding } else { worst(&rebuilt) };
    Ok(Done::with(exit, result)
        .count("scopes", scopes)
        .count("changed", changed)
        .count("writtenMeanwhile", written)
        .freed(freed)
        .told(told))
}

/// The journal position of the catalog.
fn position(document: Option<&Value>) -> Option<&Value> {
    document?.get("watermarks")?.get("catalog")
}

fn statistics(calls: &Calls<'_>) -> Result<Done, ToolError> {
    let journals = calls.call("statistics", "journal.stats", everything(calls))?;
    let caller = calls
        .principal
        .caller(calls.job.project.clone())
        .map_err(|reason| ToolError::from(llm_memory_engine::EngineError::Forbidden { reason }))?;
    let scopes = calls.engine.status_for(&caller)?;
    let space = calls.engine.space()?;
    let total = |of: fn(&llm_memory_engine::api::ScopeStatus) -> u64| -> u64 {
        scopes.iter().map(of).sum()
    };
    let items = total(|scope| scope.items);
    let versions = total(|scope| scope.versions);
    let journal = total(|scope| scope.journal_bytes);
    let stored = journal
        + total(|scope| scope.catalog_bytes)
        + total(|scope| scope.index_bytes)
        + total(|scope| scope.block_bytes);
    let content = total(|scope| scope.content_bytes);
    let number = scopes.len() as u64;
    let result = json!({
        "items": items,
        "versions": versions,
        "contentBytes": content,
        "storedBytes": stored,
        "volume": { "totalBytes": space.total, "availableBytes": space.available },
        "jobs": calls.queue.figures_for(calls.principal),
        "scopes": scopes,
        "journals": journals,
    });
    let told = format!(
        "{number} scopes with {items} items in {versions} versions; {content} bytes of content \
         take {stored} bytes"
    );
    Ok(Done::with(Exit::Done, result)
        .count("scopes", number)
        .count("items", items)
        .count("versions", versions)
        .count("storedBytes", stored)
        .told(told))
}
