//! Compactions that a crash interrupted: which generation of a segment is still needed.

use redb::Durability;

use super::Options;
use super::replay::Source;
use super::scope::Views;
use crate::catalog::{Blob, Tables, failure};
use crate::error::Result;
use crate::ids::Seq;
use crate::journal::Journal;

/// Finishes compactions that a crash interrupted between putting a rewritten segment in place and
/// noting in the catalog where its bodies went.
pub(super) fn reconcile(
    views: &Views,
    source: &Source<'_>,
    journal: &mut Journal,
    options: &Options,
) -> Result<()> {
    let leftovers = source.journal.superseded();
    if leftovers.is_empty() || options.safe_mode {
        return Ok(());
    }
    for segment in source.journal.segments() {
        let mut older = leftovers.iter().filter(|(first, _)| *first == segment.first).peekable();
        if older.peek().is_none() {
            continue;
        }
        if !relocate(views, source, segment.first, segment.last)? {
            tracing::warn!(
                segment = %segment.first,
                "older generations are kept: they alone hold bodies that no block gives back"
            );
            continue;
        }
        for (first, generation) in older {
            journal.retire_generation(*first, *generation)?;
        }
    }
    Ok(())
}

/// Notes in the catalog, durably, where the bodies of records `first..=last` lie now. Whether all
/// are found; the catalog goes on pointing to those that are not.
fn relocate(views: &Views, source: &Source<'_>, first: Seq, last: Seq) -> Result<bool> {
    let mut all = true;
    let txn = views.catalog.begin_write(Durability::Immediate)?;
    {
        let mut tables = Tables::open(&txn)?;
        for line in source.journal.lines(first)?.until(last) {
            let line = line?;
            let hash = line.record.hash;
            let known = tables.blob(hash)?;
            match known {
                Some(Blob::Journal { segment, .. }) if segment == first.0 => {}
                Some(Blob::Block | Blob::Missing) => {}
                _ => continue,
            }
            let blob = match line.body {
                Some(_) if known == Some(Blob::Block) => continue,
                Some((at, _)) => Blob::from(at),
                None if !line.record.op.carries_content() => continue,
                None if source.blocks.holds(&hash) => Blob::Block,
                None => {
                    all = false;
                    continue;
                }
            };
            tables.set_blob(hash, blob)?;
        }
    }
    txn.commit().map_err(|error| failure("relocate bodies in the catalog", error))?;
    Ok(all)
}
