//! Reading a sample of what is stored, to see that it can be read and how long that takes.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use super::Engine;
use super::routing::Access;
use super::scope::ScopeState;
use crate::api::{Caller, CorruptItem, SampleRequest, SampleResult, ScopeRequest};
use crate::blocks::Afresh;
use crate::catalog::{Blob, ReadView};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, ItemId, Seq, Version};

impl Engine {
    /// `segments.verify`: reads a share of the stored bodies from journal and blocks, past every
    /// cache, and checks their hashes, by scope. Other bodies each time, and one at least.
    pub fn verify_sample(
        &self,
        caller: &Caller,
        request: SampleRequest,
    ) -> Result<BTreeMap<String, SampleResult>> {
        let share = request.sample.unwrap_or(0.1);
        if !(share > 0.0 && share <= 1.0) {
            return Err(EngineError::invalid(
                "sample",
                format!("{share} is not a share: use more than 0 and at most 1"),
            ));
        }
        let scopes = ScopeRequest { scope: request.scope };
        // Below what a JSON number holds exactly.
        let seed = request.seed.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or_default())
        });
        self.each(caller, scopes, Access::Read, |scope| sample(&scope.state, share, seed))
    }
}

fn sample(state: &ScopeState, share: f64, seed: u64) -> Result<SampleResult> {
    let view = state.read()?;
    let blocks = state.blocks.afresh();
    let mut sample = Sample::new(seed);
    // What is looked at when nothing else is.
    let mut nearest: Option<(f64, Body)> = None;
    for entry in view.all_versions()? {
        let (id, seq, version) = entry?;
        if version.deleted {
            continue;
        }
        sample.result.stored += 1;
        let hash = Digest::from(version.hash);
        let die = throw(hash, seed);
        let closest = nearest.as_ref().is_none_or(|(lowest, ..)| die < *lowest);
        let chosen = die < share;
        if !chosen && (sample.result.checked > 0 || !closest) {
            continue;
        }
        let Some(blob) = view.blob(hash)?.filter(|blob| *blob != Blob::Erased) else { continue };
        let body = Body { id, seq, version: version.version, hash, blob };
        if chosen {
            sample.read(state, &view, &blocks, body);
        } else {
            nearest = Some((die, body));
        }
    }
    if let Some((_, body)) = nearest.filter(|_| sample.result.checked == 0) {
        sample.read(state, &view, &blocks, body);
    }
    Ok(sample.finish())
}

/// A stored body.
struct Body {
    id: ItemId,
    seq: Seq,
    version: Version,
    hash: Digest,
    blob: Blob,
}

/// What reading a sample has found so far.
struct Sample {
    result: SampleResult,
    spent: f64,
    longest: f64,
}

impl Sample {
    fn new(seed: u64) -> Self {
        let result = SampleResult {
            seed,
            stored: 0,
            checked: 0,
            in_blocks: 0,
            corrupted_items: Vec::new(),
            mean_access_ms: None,
            max_access_ms: None,
        };
        Self { result, spent: 0.0, longest: 0.0 }
    }

    fn read(&mut self, state: &ScopeState, view: &ReadView, blocks: &Afresh<'_>, body: Body) {
        let Body { id, seq, version, hash, blob } = body;
        let begun = Instant::now();
        let outcome = state.body_on_disk(view, hash, blocks);
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        self.spent += millis;
        self.longest = self.longest.max(millis);
        self.result.checked += 1;
        self.result.in_blocks += u64::from(blob == Blob::Block);
        if let Err(error) = outcome {
            self.result.corrupted_items.push(CorruptItem {
                id: Some(id),
                version: Some(version),
                seq: Some(seq),
                file: if blob == Blob::Block { "blocks" } else { "journal" }.to_owned(),
                issue: error.to_string(),
            });
        }
    }

    fn finish(self) -> SampleResult {
        let mut result = self.result;
        if result.checked > 0 {
            result.mean_access_ms = Some(self.spent / result.checked as f64);
            result.max_access_ms = Some(self.longest);
        }
        result
    }
}

/// From 0 up to 1: the number that decides about a body.
fn throw(hash: Digest, seed: u64) -> f64 {
    let mixed = Digest::of(&[seed.to_le_bytes().as_slice(), &hash.0].concat());
    let first: u32 = mixed.0.iter().take(4).fold(0, |value, byte| value << 8 | u32::from(*byte));
    f64::from(first) / (f64::from(u32::MAX) + 1.0)
}
