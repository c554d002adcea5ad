//! Where the next page of a query begins.
//!
//! A cursor holds the last hit of the page before, so that hits that came or went meanwhile shift
//! nothing, and the moment of the first page, so that recency and confidence do not drift between
//! pages. It is bound to its query by a checksum over the query's fingerprint; what a caller makes
//! of it himself is refused.

use super::rank::{Ranking, Scored};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Timestamp};

/// A place between two hits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cursor {
    /// Moment of the first page.
    pub(super) now: Timestamp,
    /// Hits before it.
    pub(super) offset: usize,
    /// What the last hit was ordered by.
    order: f64,
    /// When it was written.
    updated_at: Timestamp,
    /// Number of the last hit's scope, its journal position, and the hash of its id.
    source: usize,
    seq: u64,
    id_hash: u64,
}

const VERSION: &str = "q2";
const CHECK_CHARS: usize = 16;

impl Cursor {
    pub(super) fn after(last: &Scored, offset: usize, now: Timestamp) -> Self {
        Self {
            now,
            offset,
            order: last.order,
            updated_at: last.updated_at,
            source: last.source,
            seq: last.seq.0,
            id_hash: last.id_hash,
        }
    }

    pub(super) fn encode(&self, fingerprint: Digest) -> String {
        let body = format!(
            "{VERSION}.{:x}.{:x}.{:x}.{:x}.{:x}.{:x}.{:x}",
            self.now.as_millis(),
            self.offset,
            self.order.to_bits(),
            self.updated_at.as_millis(),
            self.source,
            self.seq,
            self.id_hash,
        );
        let check = check(&body, fingerprint);
        format!("{body}.{check}")
    }

    pub(super) fn decode(text: &str, fingerprint: Digest) -> Result<Self> {
        let refused = || {
            EngineError::invalid(
                "cursor",
                "it does not belong to this query: pass nextCursor of the page before with the \
                 same arguments, or none for the first page",
            )
        };
        let (body, found) = text.rsplit_once('.').ok_or_else(refused)?;
        if check(body, fingerprint) != found {
            return Err(refused());
        }
        let mut parts = body.split('.');
        if parts.next() != Some(VERSION) {
            return Err(refused());
        }
        let mut number = || {
            let part = parts.next().ok_or_else(refused)?;
            u64::from_str_radix(part, 16).map_err(|_| refused())
        };
        let cursor = Self {
            now: Timestamp::from_millis(number()?.cast_signed()),
            offset: usize::try_from(number()?).map_err(|_| refused())?,
            order: f64::from_bits(number()?),
            updated_at: Timestamp::from_millis(number()?.cast_signed()),
            source: usize::try_from(number()?).map_err(|_| refused())?,
            seq: number()?,
            id_hash: number()?,
        };
        Ok(cursor)
    }

    /// Index of the first hit behind this place in a ranking made now.
    pub(super) fn resume(&self, ranking: &Ranking) -> usize {
        let same = |hit: &Scored| hit.source == self.source && hit.id_hash == self.id_hash;
        // As hits are ordered: by score, and where that is equal by time, scope and position.
        let after = |hit: &Scored| {
            self.order
                .total_cmp(&hit.order)
                .then_with(|| self.updated_at.cmp(&hit.updated_at))
                .then_with(|| hit.source.cmp(&self.source))
                .then_with(|| self.seq.cmp(&hit.seq.0))
                .is_gt()
        };
        let place = ranking.hits.iter().position(|hit| same(hit) && hit.seq.0 == self.seq);
        match place {
            Some(at) => at + 1,
            // It was rewritten or is gone: go on with what ranks below where it was.
            None => ranking.hits.iter().position(after).unwrap_or(ranking.hits.len()),
        }
    }
}

fn check(body: &str, fingerprint: Digest) -> String {
    let mut digest = Digest::of(format!("{body}\n{fingerprint}").as_bytes()).to_hex();
    digest.truncate(CHECK_CHARS);
    digest
}
