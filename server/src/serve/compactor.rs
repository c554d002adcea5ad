//! Optional background compaction: a scope whose journal has grown over the limit is compacted,
//! one scope at a time. Off by default; in Kubernetes a CronJob asks for it instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use llm_memory_engine::Engine;
use llm_memory_engine::api::{Caller, ScopeRequest, ScopeStatus};
use llm_memory_engine::ids::{ProjectId, Scope, TenantId, Timestamp};
use llm_memory_engine::progress::NoProgress;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::maintained::Maintained;
use crate::mcp::observe::Asked;
use crate::status::Board;

const EVERY: Duration = Duration::from_secs(60);

/// Journal bytes of each scope after its last compaction.
type After = BTreeMap<String, u64>;

/// Looks every minute whether a scope needs compaction, until `cancel`; one that has begun by
/// then is waited for.
pub(super) async fn run(
    engine: Arc<Engine>,
    board: Arc<Board>,
    maintained: Arc<Maintained>,
    config: Arc<ArcSwap<Config>>,
    cancel: CancellationToken,
) {
    let mut after = After::new();
    loop {
        tokio::select! {
            // Both may be due: none begins while the server drains.
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let maintenance = config.load().maintenance.clone();
        if !maintenance.auto_compact {
            continue;
        }
        let limit = maintenance.auto_compact_mb << 20;
        let due =
            board.snapshot().scopes.iter().find(|scope| is_due(scope, &after, limit)).cloned();
        let Some(scope) = due else { continue };
        let Some((caller, which)) = parse(&scope.scope) else { continue };
        let engine = Arc::clone(&engine);
        let work = tokio::task::spawn_blocking(move || {
            let request = ScopeRequest { scope: which.into() };
            engine.compact(&caller, request, &NoProgress)
        });
        match work.await {
            Ok(Ok(results)) => {
                let result = serde_json::to_value(results).unwrap_or_default();
                let asked = Asked::default();
                let now = Timestamp::now();
                maintained.note("maintenance.compact", &asked, None, Some(&result), now);
                tracing::info!(scope = scope.scope, "compacted in the background");
            }
            Ok(Err(error)) => {
                tracing::warn!(scope = scope.scope, %error, "background compaction failed");
            }
            Err(error) => tracing::error!(%error, "background compaction ended early"),
        }
        // Also after a failure: trying the same again every minute would mend nothing.
        let bytes = board
            .snapshot()
            .scopes
            .iter()
            .find(|s| s.scope == scope.scope)
            .map_or(scope.journal_bytes, |now| now.journal_bytes.min(scope.journal_bytes));
        after.insert(scope.scope, bytes);
    }
}

/// Over the limit, and grown by half the limit since the last time: what compaction leaves behind
/// (hashes, recent records) may itself be over the limit.
fn is_due(scope: &ScopeStatus, after: &After, limit: u64) -> bool {
    let grown = after
        .get(&scope.scope)
        .is_none_or(|last| scope.journal_bytes > last.saturating_add(limit / 2));
    scope.read_only.is_none() && scope.journal_bytes > limit && grown
}

/// The caller and scope behind a name such as `tenant:local/project`.
fn parse(name: &str) -> Option<(Caller, Scope)> {
    let (tenant, rest) = match name.split_once(':') {
        Some((tenant, rest)) => (Some(TenantId::new(tenant).ok()?), rest),
        None => (None, name),
    };
    let (scope, project) = match rest.split_once('/') {
        Some((scope, project)) => (scope, Some(ProjectId::new(project).ok()?)),
        None => (rest, None),
    };
    let caller = Caller { tenant, ..Caller::unrestricted("maintenance", project) };
    Some((caller, scope.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use llm_memory_engine::ids::ScopeKey;

    use super::*;
    use crate::status::fixtures;

    #[test]
    fn a_scope_is_named_back_from_its_status() {
        for key in [
            ScopeKey { tenant: None, scope: Scope::Global, project: None },
            ScopeKey {
                tenant: Some(TenantId::new("acme").unwrap()),
                scope: Scope::Local,
                project: Some(ProjectId::new("web").unwrap()),
            },
        ] {
            let (caller, scope) = parse(&key.to_string()).unwrap();
            assert_eq!(
                (caller.tenant, scope, caller.project),
                (key.tenant, key.scope, key.project)
            );
        }
    }

    #[test]
    fn what_compaction_leaves_behind_does_not_start_another() {
        let mut scope = fixtures::busy_snapshot().scopes.remove(0);
        scope.journal_bytes = 150;
        assert!(is_due(&scope, &After::new(), 100));
        assert!(!is_due(&scope, &After::new(), 150));
        let after = After::from([(scope.scope.clone(), 140)]);
        assert!(!is_due(&scope, &after, 100));
        scope.journal_bytes = 191;
        assert!(is_due(&scope, &after, 100));
    }
}
