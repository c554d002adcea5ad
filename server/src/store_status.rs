//! The status page: what an operator of many stores asks each of them. Made from the last snapshot
//! and from what is noted as it happens, so that asking often costs nothing.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use llm_memory_disk::Disk;
use llm_memory_engine::api::ScopeStatus;
use llm_memory_engine::ids::{Scope, TenantId};
use serde_json::{Value, json};

use crate::access::Principal;
use crate::config::Video;
use crate::doctor::EncoderChoice;
use crate::doctor::encoder_choice;
use crate::jobs::JobQueue;
use crate::maintained::{Last, Maintained};
use crate::status::{Board, Phase, Snapshot};

/// Folder of the scopes of tenants.
const TENANTS: &str = "tenants";
const SCOPES: [Scope; 3] = [Scope::Global, Scope::Local, Scope::Committed];

/// Makes the page.
#[derive(Debug)]
pub struct StatusPage {
    board: Arc<Board>,
    maintained: Arc<Maintained>,
    jobs: Arc<JobQueue>,
    video: Video,
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Looked at once: devices and programs do not come and go under a running server.
    encoder: OnceLock<EncoderChoice>,
}

impl StatusPage {
    /// The page of the store in the data folder `root`, which `board` is about.
    pub const fn new(
        board: Arc<Board>,
        maintained: Arc<Maintained>,
        jobs: Arc<JobQueue>,
        video: Video,
        disk: Arc<dyn Disk>,
        root: PathBuf,
    ) -> Self {
        Self { board, maintained, jobs, video, disk, root, encoder: OnceLock::new() }
    }

    /// The document for `principal`; blocks. Scopes of other tenants and projects are left out.
    pub fn document(&self, principal: &Principal) -> Value {
        let snapshot = self.board.snapshot();
        let scopes: Vec<&ScopeStatus> =
            snapshot.scopes.iter().filter(|scope| is_seen(principal, &scope.scope)).collect();
        let total = |of: fn(&ScopeStatus) -> u64| -> u64 { scopes.iter().map(|s| of(s)).sum() };
        let whole = principal.tenant.is_none()
            && principal.projects.is_none()
            && SCOPES.into_iter().all(|scope| principal.read.contains(scope))
            && !principal.own_only
            && (principal.every_tenant || !self.has_tenants());
        // What maintenance found is told of the whole store, to whoever may see all of it.
        let last = if whole { self.maintained.last() } else { Last::default() };
        let used = snapshot.used.filter(|_| whole);
        let watermarks: serde_json::Map<String, Value> = scopes
            .iter()
            .map(|scope| {
                let member = json!({
                    "items": scope.items,
                    "journalBytes": scope.journal_bytes,
                    "headSeq": scope.head_seq,
                    "watermarks": scope.watermarks,
                    "readOnly": scope.read_only,
                    "writeFailure": scope.write_failure,
                });
                (scope.scope.clone(), member)
            })
            .collect();
        let encoder = self.encoder.get_or_init(|| encoder_choice::choose(&*self.disk, &self.video));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "phase": self.board.phase(),
            "ready": self.board.phase() == Phase::Ready,
            "safeMode": self.board.safe_mode(),
            "startedAt": self.board.started_at(),
            "asOf": snapshot.at,
            "items": total(|scope| scope.items),
            "versions": total(|scope| scope.versions),
            "journalBytes": total(|scope| scope.journal_bytes),
            "usedBytes": used,
            "volume": snapshot.disk.map(|disk| {
                json!({ "totalBytes": disk.total, "availableBytes": disk.available })
            }),
            "scopes": watermarks,
            "encoder": encoder,
            "lastVerification": last.verification,
            "lastCompaction": last.compaction,
            "jobs": self.jobs.figures_for(principal),
            "problems": if whole { self.problems(&snapshot) } else { Vec::new() },
        })
    }

    fn problems(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut problems = snapshot.problems.clone();
        problems.extend(self.board.file_problems());
        problems
    }

    /// Whether somebody has memories apart from the rest; where that cannot be told, they may.
    fn has_tenants(&self) -> bool {
        self.disk.exists(&self.root.join(TENANTS)).unwrap_or(true)
    }
}

/// Whether the scope named `tenant:local/project` is one of those of `principal`.
fn is_seen(principal: &Principal, name: &str) -> bool {
    let (tenant, rest) = match name.split_once(':') {
        Some((tenant, rest)) => (Some(tenant), rest),
        None => (None, name),
    };
    let own = principal.every_tenant || principal.tenant.as_ref().map(TenantId::as_str) == tenant;
    let allowed = match (rest.split_once('/'), &principal.projects) {
        (Some((_, project)), Some(allowed)) => {
            allowed.iter().any(|known| known.as_str() == project)
        }
        (Some(_) | None, _) => true,
    };
    let (scope, _) = rest.split_once('/').unwrap_or((rest, ""));
    own && allowed && scope.parse().is_ok_and(|scope| principal.read.contains(scope))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use llm_memory_disk::OsDisk;
    use llm_memory_engine::api::ScopeSet;
    use llm_memory_engine::ids::ProjectId;
    use llm_memory_engine::ids::Timestamp;

    use super::*;
    use crate::config::{Sources, load};
    use crate::jobs::Limits;
    use crate::mcp::observe::Asked;
    use crate::status::fixtures;

    #[test]
    fn what_is_wrong_somewhere_is_told_to_those_who_may_read_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let limits = Limits { max_pending: 1 };
        let jobs = JobQueue::open(Arc::clone(&disk), folder.path(), limits, false).unwrap();
        let board = fixtures::fresh_board();
        board.note_file("tokens", vec!["entry 1 admits nobody: name is empty".to_owned()]);
        board.note_file("identities", vec!["mended meanwhile".to_owned()]);
        board.note_file("identities", Vec::new());
        let maintained = Arc::new(Maintained::default());
        let asked = Asked { scope: Some("all".to_owned()), ..Asked::default() };
        let now = Timestamp::from_millis(1);
        maintained.note("journal.verify", &asked, None, Some(&json!({})), now);
        let video = load(&OsDisk, &Sources::default()).unwrap().config.video;
        let root = folder.path().to_path_buf();
        let page = StatusPage::new(board, maintained, Arc::new(jobs), video, disk, root);
        let owner = Principal::local_owner();
        let told = page.document(&owner);
        assert_eq!(told["problems"], json!(["tokens: entry 1 admits nobody: name is empty"]));
        assert!(told["lastVerification"].is_object());
        let global = Principal { read: ScopeSet::of([Scope::Global]), ..owner.clone() };
        for part in [global, Principal { own_only: true, ..owner }] {
            let told = page.document(&part);
            assert_eq!(told["problems"], json!([]));
            assert!(told["lastVerification"].is_null());
        }
    }

    #[test]
    fn scopes_of_others_are_left_out() {
        let owner = Principal { every_tenant: false, ..Principal::local_owner() };
        let acme = Principal { tenant: Some(TenantId::new("acme").unwrap()), ..owner.clone() };
        let web = BTreeSet::from([ProjectId::new("web").unwrap()]);
        let web = Principal { projects: Some(web), ..owner.clone() };
        assert!(is_seen(&owner, "global") && is_seen(&owner, "local/web"));
        assert!(!is_seen(&owner, "acme:global") && is_seen(&acme, "acme:local/web"));
        assert!(is_seen(&Principal { every_tenant: true, ..owner.clone() }, "acme:global"));
        assert!(!is_seen(&acme, "global"));
        assert!(is_seen(&web, "local/web") && !is_seen(&web, "local/app"));
    }
}
