//! Reading a sample of what is stored, to see that it can be read and how long that takes.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Engine;
use super::routing::Access;
use super::scope::ScopeState;
use crate::api::{Caller, CorruptItem, SampleRequest, SampleResult, ScopeRequest};
use crate::catalog::Blob;
use crate::error::{EngineError, Result};
use crate::ids::Digest;

impl Engine {
    /// `segments.verify`: reads a share of the stored bodies from journal and blocks, past every
    /// cache of items, and checks their hashes, by scope.
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
        self.each(caller, scopes, Access::Read, |scope| sample(&scope.state, share))
    }
}

fn sample(state: &ScopeState, share: f64) -> Result<SampleResult> {
    let view = state.read()?;
    let mut result = SampleResult {
        stored: 0,
        checked: 0,
        in_blocks: 0,
        corrupted_items: Vec::new(),
        mean_access_ms: None,
        max_access_ms: None,
    };
    let (mut spent, mut longest) = (0.0_f64, 0.0_f64);
    for entry in view.all_versions()? {
        let (id, seq, version) = entry?;
        let hash = Digest::from(version.hash);
        if version.deleted || !chosen(hash, share) {
            result.stored += u64::from(!version.deleted);
            continue;
        }
        result.stored += 1;
        let blob = view.blob(hash)?;
        if blob == Some(Blob::Erased) {
            continue;
        }
        let begun = Instant::now();
        let outcome = state.body(&view, hash);
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        spent += millis;
        longest = longest.max(millis);
        result.checked += 1;
        result.in_blocks += u64::from(blob == Some(Blob::Block));
        if let Err(error) = outcome {
            result.corrupted_items.push(CorruptItem {
                id: Some(id),
                version: Some(version.version),
                seq: Some(seq),
                file: if blob == Some(Blob::Block) { "blocks" } else { "journal" }.to_owned(),
                issue: error.to_string(),
            });
        }
    }
    if result.checked > 0 {
        result.mean_access_ms = Some(spent / result.checked as f64);
        result.max_access_ms = Some(longest);
    }
    Ok(result)
}

/// Whether a body belongs to the sample. Hashes are evenly spread, so their first bytes are as
/// good as a die, and the same body is chosen every time.
fn chosen(hash: Digest, share: f64) -> bool {
    let first: u32 = hash.0.iter().take(4).fold(0, |value, byte| value << 8 | u32::from(*byte));
    f64::from(first) < share * (f64::from(u32::MAX) + 1.0)
}
