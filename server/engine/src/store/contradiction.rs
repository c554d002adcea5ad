//! Views that know more than their journal.
//!
//! A view is made durable after the journal records it shows, so a view that is ahead of the
//! journal, or that holds another hash for one of its records, proves that the journal lost
//! records or that somebody changed them. The journal alone cannot tell: a file that is cut
//! between two lines is in order. Such views are kept as they are, since they alone still know
//! what was lost; writes are refused until somebody decides (`maintenance.recover`).

use super::scope::Views;
use crate::api::CorruptItem;
use crate::error::Result;
use crate::ids::{Digest, Seq};
use crate::journal::JournalReader;

/// Lost changes named one by one at most.
const LISTED: usize = 100;

/// What the views hold and what the journal has in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contradiction {
    /// As the views have it.
    pub(crate) expected: String,
    /// As the journal has it.
    pub(crate) found: String,
    /// The last record on which both agree, as far as that is known.
    agreed: Seq,
    /// The last record that the views show.
    known: Seq,
}

/// Compares the positions of `views` with the journal.
pub(crate) fn find(views: &Views, journal: &JournalReader) -> Result<Option<Contradiction>> {
    let totals = views.catalog.read()?.totals()?;
    let catalog = Seq(totals.seq);
    let known = catalog.max(views.text.watermark());
    // After the views were looked at: meanwhile the journal only grows.
    let head = journal.head();
    if known > head.seq {
        return Ok(Some(Contradiction {
            expected: format!("record {known}, which the views show"),
            found: format!("the end of the journal at record {}", head.seq),
            agreed: head.seq,
            known,
        }));
    }
    if catalog == Seq(0) {
        return Ok(None);
    }
    let found = if catalog == head.seq {
        Some(head.hash)
    } else {
        // Damage there is for verification to report.
        journal.lines(catalog.next())?.next().and_then(Result::ok).map(|line| line.record.prev)
    };
    let expected = Digest(totals.head);
    Ok(found.filter(|found| *found != expected).map(|found| Contradiction {
        expected: format!("record {catalog} with the head {expected}, as the catalog has it"),
        found: format!("a record with the head {found}"),
        agreed: Seq(catalog.0.saturating_sub(1)),
        known: catalog,
    }))
}

impl Contradiction {
    /// Records that are missing or changed, as far as that is known.
    pub(crate) fn records(&self) -> u64 {
        self.known.0.saturating_sub(self.agreed.0)
    }

    /// The changes that are not in the journal, as far as the catalog names them; the first
    /// [`LISTED`].
    pub(crate) fn lost(&self, views: &Views) -> Result<Vec<CorruptItem>> {
        let view = views.catalog.read()?;
        let changes = view.changes(self.agreed, self.known)?;
        changes
            .take(LISTED)
            .map(|change| {
                let (seq, _, id) = change?;
                let version = view.version_at(&id, seq)?.map(|(_, version)| version.version);
                Ok(CorruptItem {
                    id: Some(id),
                    version,
                    seq: Some(seq),
                    file: "journal.ndjson".to_owned(),
                    issue: format!("expected {}, found {}", self.expected, self.found),
                })
            })
            .collect()
    }
}
