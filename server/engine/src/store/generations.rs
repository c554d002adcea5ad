//! Compactions that were interrupted: which generation of a segment is still needed.

use std::fmt;

use redb::Durability;

use super::Options;
use super::replay::Source;
use super::scope::Views;
use crate::catalog::{Blob, Tables, failure};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Seq};
use crate::journal::{Journal, Location};

/// Finishes compactions that a crash, or the disk, interrupted between putting a rewritten segment
/// in place and removing the generation before. Answers why segments keep older generations, which
/// may hold erased bodies, with the error where there is one.
pub(super) fn reconcile(
    views: &Views,
    source: &Source<'_>,
    journal: &mut Journal,
    options: &Options,
) -> Vec<Kept> {
    let leftovers = source.journal.superseded();
    let mut kept = Vec::new();
    if leftovers.is_empty() || options.safe_mode {
        return kept;
    }
    for segment in source.journal.segments() {
        let of_segment = leftovers.iter().filter(|(first, _)| *first == segment.first);
        let older: Vec<u32> = of_segment.map(|(_, generation)| *generation).collect();
        if older.is_empty() {
            continue;
        }
        let segment = (segment.first, segment.last);
        match retire(views, source, journal, segment, &older) {
            Ok(true) => {}
            Ok(false) => kept.push(Kept { segment: segment.0, error: None }),
            Err(error) => kept.push(Kept { segment: segment.0, error: Some(error) }),
        }
    }
    kept
}

/// A segment whose older generations could not be removed.
pub(super) struct Kept {
    segment: Seq,
    /// `None` when they alone hold bodies that no block gives back.
    pub(super) error: Option<EngineError>,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}: older generations are kept: ", self.segment)?;
        match &self.error {
            Some(error) => error.fmt(f),
            None => f.write_str("they alone hold bodies that no block gives back"),
        }
    }
}

/// Removes the `older` generations of a segment; `false` when they are still needed.
fn retire(
    views: &Views,
    source: &Source<'_>,
    journal: &mut Journal,
    (first, last): (Seq, Seq),
    older: &[u32],
) -> Result<bool> {
    if !relocate(views, source, first, last)? {
        return Ok(false);
    }
    for generation in older {
        journal.retire_generation(first, *generation)?;
    }
    Ok(true)
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
                None => match line.damaged {
                    // It was damaged already when it was carried over.
                    Some(at) if !is_sound(source, known, hash) => Blob::from(at),
                    _ => {
                        all = false;
                        continue;
                    }
                },
            };
            tables.set_blob(hash, blob)?;
        }
    }
    txn.commit().map_err(|error| failure("relocate bodies in the catalog", error))?;
    Ok(all)
}

/// Whether the journal has the body where the catalog says.
fn is_sound(source: &Source<'_>, known: Option<Blob>, hash: Digest) -> bool {
    let Some(Blob::Journal { segment, generation, offset, len }) = known else { return false };
    let at = Location { segment: Seq(segment), generation, offset, len };
    source.journal.body(at).is_ok_and(|body| Digest::of(&body) == hash)
}
