//! Checking every byte of every segment.

use std::collections::BTreeSet;

use llm_memory_disk::OpenMode;

use super::block::{End, Kind};
use super::container::Scanned;
use super::error::{BlockError, Damage, Result};
use super::index;
use super::names::Name;
use super::segment::{self, Segment};
use super::store::{BlockStore, Shared};
use crate::progress::Progress;

/// What [`BlockStore::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BlocksCheck {
    /// Segments read.
    pub(crate) segments: u64,
    /// Blocks of bodies read.
    pub(crate) blocks: u64,
    /// Bodies hashed.
    pub(crate) bodies: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// What is wrong, each with its file and block. Empty: everything is sound.
    pub(crate) problems: Vec<String>,
}

impl BlockStore {
    /// Reads every block from disk, past the cache, hashes every body, and compares with the
    /// indexes in both directions. Damage is counted, not an error, and so is what the disk refuses.
    pub(crate) fn verify(&self, progress: &dyn Progress) -> BlocksCheck {
        let segments = self.shared.segments();
        let total: u64 = segments.iter().map(|segment| segment.bytes()).sum();
        let mut check = BlocksCheck::default();
        for segment in segments.iter() {
            verify_index(&self.shared, segment, &mut check);
            verify_container(segment, &mut check, &mut |bytes| {
                progress.report(bytes, Some(total), "bytes of blocks");
            });
            check.segments += 1;
        }
        check.problems.extend(self.shared.unopened.iter().map(|(_, reason)| reason.clone()));
        check
    }
}

fn verify_index(shared: &Shared, segment: &Segment, check: &mut BlocksCheck) {
    check.bytes += segment.index.len();
    let name = Name::Index(segment.number);
    if !segment.index.is_mapped() {
        check.problems.push(format!("{name}: is not on disk"));
        return;
    }
    let file = shared.disk.open(&shared.path(name), OpenMode::Read).map_err(BlockError::from);
    if let Err(problem) = told(file.and_then(|file| index::check(file.as_ref()))) {
        check.problems.push(format!("{name}: {problem}"));
    }
}

fn verify_container(segment: &Segment, check: &mut BlocksCheck, report: &mut dyn FnMut(u64)) {
    let name = Name::Container(segment.number);
    let header = segment.container.check_header();
    if let Err(problem) = told(header) {
        check.problems.push(format!("{name}: {problem}"));
    }
    let mut seen = Seen::default();
    let mut scan = segment.container.scan();
    while let Some(scanned) = scan.next().transpose() {
        let added = scanned.map(|scanned| scanned.and_then(|scanned| seen.add(segment, &scanned)));
        match told(added) {
            Ok(len) => {
                check.bytes += len;
                report(check.bytes);
            }
            Err(problem) => check.problems.push(format!("{name}: {problem}")),
        }
    }
    check.blocks += seen.blocks.len() as u64;
    check.bodies += seen.bodies;
    let (bodies, expected) = (seen.bodies, segment.index.bodies() as u64);
    if bodies != expected {
        check.problems.push(format!("{name}: {bodies} sound bodies, its index has {expected}"));
    }
}

/// One error of what the disk refused and what is damaged.
fn told<T>(outcome: Result<Result<T, Damage>>) -> Result<T, String> {
    outcome.map_err(|error| error.to_string())?.map_err(|damage| damage.0)
}

/// What a walk over a container has met.
#[derive(Default)]
struct Seen {
    blocks: BTreeSet<u32>,
    bodies: u64,
}

impl Seen {
    /// Compares a block with the index; returns its length.
    fn add(&mut self, segment: &Segment, scanned: &Scanned) -> Result<u64, Damage> {
        let Scanned { place, header, content } = scanned;
        let at = |damage: Damage| Damage(format!("block {}: {}", header.number, damage.0));
        if header.kind == Kind::End {
            let end = End::decode(content).map_err(at)?;
            let found = (self.blocks.len(), self.bodies);
            return if (end.blocks as usize, end.bodies) == found {
                Ok(u64::from(place.len))
            } else {
                Err(Damage(format!(
                    "{} blocks and {} bodies, its end says {} and {}",
                    found.0, found.1, end.blocks, end.bodies
                )))
            };
        }
        if segment.index.place(header.number).map_err(at)? != *place {
            return Err(at(Damage("lies elsewhere than the index says".to_owned())));
        }
        let bodies = segment::entries_of(header.number, content).map_err(at)?;
        if !self.blocks.insert(header.number) {
            return Err(at(Damage("occurs twice".to_owned())));
        }
        for body in &bodies {
            if segment.index.find(&body.digest).map_err(at)? != Some(*body) {
                return Err(at(Damage(format!("body {} is not in the index", body.digest))));
            }
            self.bodies += 1;
        }
        Ok(u64::from(place.len))
    }
}
