//! Comparing the views with the journal and with each other.

use crate::api::{SnapshotResult, ViewsVerifyResult};
use crate::catalog::ReadView;
use crate::error::Result;
use crate::ids::{Digest, Seq, Timestamp};
use crate::progress::Progress;
use crate::store::scope::ScopeState;
use crate::store::status::watermarks;
use crate::text::TextError;

/// SHA-256 over every item's id, version, hash, state and counters, by id.
pub(super) fn checksum(view: &ReadView, progress: &dyn Progress) -> Result<Digest> {
    use sha2::{Digest as _, Sha256};
    let mut hasher = Sha256::new();
    let total = view.item_rows()?;
    for (done, entry) in view.items()?.enumerate() {
        let (id, item) = entry?;
        hasher.update((id.as_str().len() as u64).to_le_bytes());
        hasher.update(id.as_str());
        hasher.update(item.version.0.to_le_bytes());
        hasher.update(item.hash().0);
        hasher.update([u8::from(item.deleted)]);
        let counters = item.counters();
        hasher.update(counters.reuse_count.to_le_bytes());
        hasher.update(counters.helpful_count.to_le_bytes());
        hasher.update(counters.not_helpful_count.to_le_bytes());
        hasher.update(counters.decayed_usage.to_le_bytes());
        if done % 10_000 == 0 {
            progress.report(done as u64, Some(total), "items summed");
        }
    }
    Ok(Digest(hasher.finalize().into()))
}

pub(super) fn verify_views(
    state: &ScopeState,
    progress: &dyn Progress,
) -> Result<ViewsVerifyResult> {
    let views = state.views.load_full();
    let view = views.catalog.read()?;
    let totals = view.totals()?;
    let mut issues = Vec::new();
    let mut live = 0_u64;
    let total = view.item_rows()?;
    let blocks = state.blocks.afresh();
    for (done, entry) in view.items()?.enumerate() {
        let (id, item) = entry?;
        if done % 1000 == 0 {
            progress.report(done as u64, Some(total), "items checked");
        }
        if item.deleted {
            continue;
        }
        live += 1;
        match state.body_on_disk(&view, item.hash(), &blocks) {
            Ok(Some(_)) => {}
            Ok(None) => issues.push(format!("item {id}: its content was erased but it is listed")),
            Err(error) => issues.push(format!("item {id}: {error}")),
        }
    }
    issues.extend(state.blocks.verify(progress).problems);
    if live != totals.items {
        issues.push(format!("catalog: counts {} items but lists {live}", totals.items));
    }
    let flushed = match views.text.flush() {
        // In safe mode what the index on disk lacks is in memory alone.
        Err(TextError::ReadOnly) => views.text.watermark() == Seq(totals.seq),
        flushed => flushed.map(|()| true)?,
    };
    issues.extend(views.text.verify()?);
    let indexed = views.text.committed_docs();
    // Writes go on while this runs; only a view at rest can be compared by count.
    if flushed && state.visible() == Seq(totals.seq) && indexed != live {
        issues.push(format!("text index: holds {indexed} items, the catalog {live}"));
    }
    let path = state.dir.join("snapshot.json");
    let snapshot: Option<SnapshotResult> = if state.disk.exists(&path)? {
        serde_json::from_slice(&state.disk.read(&path)?).ok()
    } else {
        None
    };
    let checksum = checksum(&view, progress)?;
    let snapshot_checksum =
        snapshot.filter(|snapshot| snapshot.seq.0 == totals.seq).map(|snapshot| snapshot.checksum);
    if snapshot_checksum.is_some_and(|expected| expected != checksum) {
        issues.push("catalog: differs from the snapshot of the same journal position".to_owned());
    }
    Ok(ViewsVerifyResult {
        ok: issues.is_empty(),
        checksum,
        snapshot_checksum,
        last_ts: (totals.seq > 0).then(|| Timestamp::from_millis(totals.ts)),
        watermarks: watermarks(state, &view)?,
        checked_items: live,
        issues,
    })
}
