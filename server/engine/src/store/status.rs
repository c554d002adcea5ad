//! What the store holds and how well it does, for health, metrics and reports.

use std::collections::BTreeMap;
use std::path::Path;

use llm_memory_disk::{Disk, Space};

use super::Engine;
use super::routing::{Access, administers};
use super::scope::ScopeState;
use crate::api::{Caller, ScopeStatus};
use crate::catalog::ReadView;
use crate::error::{EngineError, Result};
use crate::ids::Seq;
use crate::lookups::CacheUse;

/// How much use the caches are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheReport {
    /// Decoded items.
    pub payload: CacheUse,
    /// Query results.
    pub query: CacheUse,
    /// Decoded blocks.
    pub frame: CacheUse,
}

impl Engine {
    /// What each open scope holds. One that cannot say so has nothing but the reason, as
    /// `read_only`.
    pub fn status(&self) -> Result<Vec<ScopeStatus>> {
        let scopes = self.open_scopes()?;
        Ok(scopes
            .iter()
            .map(|scope| {
                scope
                    .watch(status(&scope.state))
                    .unwrap_or_else(|error| unknown(&scope.state, &error))
            })
            .collect())
    }

    /// What each open scope holds that `caller` may look at: of its tenant, projects and scopes.
    pub fn status_for(&self, caller: &Caller) -> Result<Vec<ScopeStatus>> {
        let open = self.open_scopes()?;
        let seen = open.iter().filter(|scope| administers(caller, &scope.state.key, Access::Read));
        seen.map(|scope| status(&scope.state)).collect()
    }

    /// Space on the data volume.
    pub fn space(&self) -> Result<Space> {
        Ok(self.disk.space(&self.root)?)
    }

    /// Use of the caches since the start.
    pub fn caches(&self) -> CacheReport {
        CacheReport {
            payload: self.payloads.usage(),
            query: self.queries.usage(),
            frame: self.frames.usage(),
        }
    }
}

fn status(state: &ScopeState) -> Result<ScopeStatus> {
    let views = state.views.load_full();
    let view = views.catalog.read()?;
    let totals = view.totals()?;
    let dir = state.views_dir(views.generation);
    let catalog = dir.join("catalog.redb");
    let catalog_bytes = state
        .disk
        .list(&dir)?
        .into_iter()
        .find(|entry| catalog.ends_with(&entry.name))
        .map_or(0, |entry| entry.len);
    Ok(ScopeStatus {
        scope: state.key.to_string(),
        items: totals.items,
        versions: totals.versions,
        journal_entries: state.journal.head().seq.0,
        journal_bytes: state.journal.segments().iter().map(|segment| segment.bytes).sum(),
        catalog_bytes,
        index_bytes: views.text.bytes()?,
        block_bytes: state.blocks.bytes(),
        content_bytes: totals.content_bytes,
        archived_bytes: state.blocks.body_bytes(),
        watermarks: watermarks(state, &view)?,
        head_seq: state.journal.head().seq,
        read_only: state.refusal().or_else(|| views.text.overfull()),
        write_failure: state.write_failure.lock().clone(),
        recovered: state.recovered.lock().clone(),
    })
}

fn unknown(state: &ScopeState, error: &EngineError) -> ScopeStatus {
    ScopeStatus {
        scope: state.key.to_string(),
        items: 0,
        versions: 0,
        journal_entries: state.journal.head().seq.0,
        journal_bytes: state.journal.segments().iter().map(|segment| segment.bytes).sum(),
        catalog_bytes: 0,
        index_bytes: 0,
        block_bytes: state.blocks.bytes(),
        content_bytes: 0,
        archived_bytes: state.blocks.body_bytes(),
        watermarks: BTreeMap::new(),
        head_seq: state.journal.head().seq,
        read_only: Some(state.refusal().unwrap_or_else(|| error.to_string())),
        write_failure: state.write_failure.lock().clone(),
        recovered: state.recovered.lock().clone(),
    }
}

/// How far each view is.
pub(crate) fn watermarks(state: &ScopeState, view: &ReadView) -> Result<BTreeMap<String, Seq>> {
    Ok(BTreeMap::from([
        ("catalog".to_owned(), Seq(view.totals()?.seq)),
        ("text".to_owned(), state.views.load().text.watermark()),
    ]))
}

/// Bytes of all files in a folder and below.
pub(crate) fn folder_bytes(disk: &dyn Disk, folder: &Path) -> Result<u64> {
    if !disk.exists(folder)? {
        return Ok(0);
    }
    let mut bytes = 0;
    for entry in disk.list(folder)? {
        bytes +=
            if entry.is_dir { folder_bytes(disk, &folder.join(&entry.name))? } else { entry.len };
    }
    Ok(bytes)
}
