//! Writes that the committed index does not hold yet, searchable at once: a small inverted index
//! in memory. The same structure holds the old versions that an `asOf` search lays over the
//! present.
//!
//! An entry shadows everything older of the same id, in older tails and in the committed index; a
//! removal is an entry without a document.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::ids::{ItemId, Seq};

use super::bm25::TermScoring;
use super::document::{Change, IndexDoc, PerField, TextField, id_hash, title_key};
use super::filter::Filter;
use super::query::{ParsedQuery, Phrase};
use super::tokenizer::with_tokens;

/// A document analysed outside of any lock.
#[derive(Debug)]
pub(crate) struct Prepared {
    doc: Arc<IndexDoc>,
    id_hash: u64,
    title_key: u64,
    lengths: PerField<u32>,
    /// Terms of all fields, one after the other, in `terms`.
    buffer: String,
    terms: Vec<PreparedTerm>,
}

#[derive(Debug, Clone, Copy)]
struct PreparedTerm {
    field: TextField,
    start: usize,
    end: usize,
    frequency: u32,
}

impl Prepared {
    /// Changes what is not a word in the document.
    pub(crate) fn settle(&mut self, change: impl FnOnce(&mut IndexDoc)) {
        change(Arc::make_mut(&mut self.doc));
    }

    pub(crate) fn new(doc: Box<IndexDoc>) -> Self {
        let mut prepared = Self {
            id_hash: id_hash(&doc.id),
            title_key: title_key(&doc.title),
            doc: Arc::from(doc),
            lengths: [0; 6],
            buffer: String::new(),
            terms: Vec::new(),
        };
        let doc = Arc::clone(&prepared.doc);
        for (field, length) in TextField::ALL.into_iter().zip(&mut prepared.lengths) {
            let first = prepared.terms.len();
            for value in doc.values(field) {
                with_tokens(value, field.mode(), |tokens| {
                    *length =
                        length.saturating_add(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
                    for token in tokens.iter() {
                        let start = prepared.buffer.len();
                        prepared.buffer.push_str(token.term);
                        let end = prepared.buffer.len();
                        prepared.terms.push(PreparedTerm { field, start, end, frequency: 1 });
                    }
                });
            }
            let buffer = &prepared.buffer;
            let text = |term: &PreparedTerm| buffer.get(term.start..term.end).unwrap_or_default();
            if let Some(terms) = prepared.terms.get_mut(first..) {
                terms.sort_unstable_by(|a, b| text(a).cmp(text(b)));
            }
            let mut kept = first;
            for at in first..prepared.terms.len() {
                let Some(&term) = prepared.terms.get(at) else { break };
                let last = kept.checked_sub(1).filter(|last| *last >= first);
                match last.and_then(|last| prepared.terms.get_mut(last)) {
                    Some(previous) if text(previous) == text(&term) => previous.frequency += 1,
                    _ => {
                        if let Some(slot) = prepared.terms.get_mut(kept) {
                            *slot = term;
                        }
                        kept += 1;
                    }
                }
            }
            prepared.terms.truncate(kept);
        }
        prepared
    }
}

/// A change made ready to be applied.
#[derive(Debug)]
pub(crate) enum PreparedChange {
    Put(Seq, Prepared),
    Remove(Seq, ItemId),
    Advance(Seq),
}

impl From<Change> for PreparedChange {
    fn from(change: Change) -> Self {
        match change {
            Change::Put { seq, doc } => Self::Put(seq, Prepared::new(doc)),
            Change::Remove { seq, id } => Self::Remove(seq, id),
            Change::Advance { seq } => Self::Advance(seq),
        }
    }
}

#[derive(Debug)]
struct TailDoc {
    doc: Arc<IndexDoc>,
    id_hash: u64,
    title_key: u64,
    lengths: PerField<u32>,
    alive: bool,
}

#[derive(Debug, Clone, Copy)]
struct Posting {
    doc: u32,
    frequency: u32,
}

/// A document found in a tail.
#[derive(Debug, Clone)]
pub(crate) struct TailHit {
    pub(crate) doc: Arc<IndexDoc>,
    pub(crate) id_hash: u64,
    pub(crate) title_key: u64,
    pub(crate) score: f32,
}

/// One generation of uncommitted writes.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    docs: Vec<TailDoc>,
    entries: HashMap<ItemId, Option<u32>>,
    /// Hashes of the ids in `entries`; shared with running searches, hence copied on write.
    hashes: Arc<HashSet<u64>>,
    postings: PerField<HashMap<Box<str>, Vec<Posting>>>,
    tokens: PerField<u64>,
    bytes: usize,
    last_seq: Seq,
}

impl Tail {
    /// An empty tail after `seq`.
    pub(crate) fn after(seq: Seq) -> Self {
        Self { last_seq: seq, ..Self::default() }
    }

    pub(crate) fn last_seq(&self) -> Seq {
        self.last_seq
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Documents and removals.
    pub(crate) fn len(&self) -> usize {
        self.docs.len().max(self.entries.len())
    }

    /// Bytes held, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn hashes(&self) -> Arc<HashSet<u64>> {
        Arc::clone(&self.hashes)
    }

    /// Every id that has an entry, with its document unless it was removed: documents in the
    /// order of their arrival, then removals.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&ItemId, Option<&IndexDoc>)> {
        let docs = self.docs.iter().filter(|entry| entry.alive);
        let removed = self.entries.iter().filter(|(_, at)| at.is_none());
        docs.map(|entry| (&entry.doc.id, Some(&*entry.doc)))
            .chain(removed.map(|(id, _)| (id, None)))
    }

    pub(crate) fn apply(&mut self, change: PreparedChange) {
        let seq = match change {
            PreparedChange::Put(seq, prepared) => {
                self.put(prepared);
                seq
            }
            PreparedChange::Remove(seq, id) => {
                let hash = id_hash(&id);
                self.set_entry(id, hash, None);
                seq
            }
            PreparedChange::Advance(seq) => seq,
        };
        self.last_seq = self.last_seq.max(seq);
    }

    fn put(&mut self, prepared: Prepared) {
        let Ok(number) = u32::try_from(self.docs.len()) else { return };
        for term in &prepared.terms {
            let Some(text) = prepared.buffer.get(term.start..term.end) else { continue };
            let Some(field) = self.postings.get_mut(term.field.index()) else { continue };
            let posting = Posting { doc: number, frequency: term.frequency };
            self.bytes += std::mem::size_of::<Posting>();
            if let Some(list) = field.get_mut(text) {
                list.push(posting);
            } else {
                self.bytes += text.len() + 64;
                field.insert(text.into(), vec![posting]);
            }
        }
        for (sum, length) in self.tokens.iter_mut().zip(prepared.lengths) {
            *sum += u64::from(length);
        }
        self.bytes += prepared.doc.bytes() + 64;
        let id = prepared.doc.id.clone();
        let hash = prepared.id_hash;
        self.docs.push(TailDoc {
            doc: prepared.doc,
            id_hash: hash,
            title_key: prepared.title_key,
            lengths: prepared.lengths,
            alive: true,
        });
        self.set_entry(id, hash, Some(number));
    }

    fn set_entry(&mut self, id: ItemId, hash: u64, number: Option<u32>) {
        if !self.hashes.contains(&hash) {
            Arc::make_mut(&mut self.hashes).insert(hash);
        }
        self.bytes += id.as_str().len() + 48;
        if let Some(Some(old)) = self.entries.insert(id, number)
            && let Some(old) = self.docs.get_mut(old as usize)
        {
            old.alive = false;
        }
    }

    /// Documents counted by BM25, overwritten ones included.
    pub(crate) fn documents(&self) -> u64 {
        self.docs.len() as u64
    }

    pub(crate) fn tokens(&self) -> PerField<u64> {
        self.tokens
    }

    pub(crate) fn frequency(&self, field: TextField, term: &str) -> u64 {
        self.list(field, term).len() as u64
    }

    fn list(&self, field: TextField, term: &str) -> &[Posting] {
        let list = self.postings.get(field.index()).and_then(|terms| terms.get(term));
        list.map_or(&[], Vec::as_slice)
    }

    /// Every document that matches and that no newer tail shadows, unordered. `scoring` is
    /// parallel to the terms of the query.
    pub(crate) fn search(
        &self,
        query: &ParsedQuery,
        scoring: &[TermScoring],
        filter: &Filter,
        shadowed: &dyn Fn(u64) -> bool,
    ) -> Vec<TailHit> {
        if self.docs.is_empty() {
            return Vec::new();
        }
        let mut scores = vec![0.0_f32; self.docs.len()];
        let mut touched: Vec<u32> = Vec::new();
        if query.is_empty() {
            touched = (0..u32::try_from(self.docs.len()).unwrap_or(u32::MAX)).collect();
        }
        for (term, scoring) in query.terms.iter().zip(scoring) {
            for posting in self.list(term.field, &term.term) {
                let doc = posting.doc as usize;
                let (Some(score), Some(entry)) = (scores.get_mut(doc), self.docs.get(doc)) else {
                    continue;
                };
                if *score == 0.0 {
                    touched.push(posting.doc);
                }
                let length = entry.lengths.get(term.field.index()).copied().unwrap_or(0);
                // At least the smallest number, so that 0 goes on meaning "not yet touched".
                *score += scoring.score(posting.frequency, length).max(f32::MIN_POSITIVE);
            }
        }
        let required: Vec<HashSet<u32>> =
            query.required.iter().map(|phrase| self.with_phrase(phrase)).collect();
        let excluded: Vec<HashSet<u32>> =
            query.excluded.iter().map(|phrase| self.with_phrase(phrase)).collect();
        let mut hits = Vec::new();
        for number in touched {
            let Some(entry) = self.docs.get(number as usize) else { continue };
            if entry.alive
                && required.iter().all(|set| set.contains(&number))
                && !excluded.iter().any(|set| set.contains(&number))
                && filter.matches(&entry.doc)
                && !shadowed(entry.id_hash)
            {
                let score = scores.get(number as usize).copied().unwrap_or(0.0);
                hits.push(TailHit {
                    doc: Arc::clone(&entry.doc),
                    id_hash: entry.id_hash,
                    title_key: entry.title_key,
                    score,
                });
            }
        }
        hits
    }

    /// Documents that contain a phrase in some field.
    fn with_phrase(&self, phrase: &Phrase) -> HashSet<u32> {
        let mut found = HashSet::new();
        for field in TextField::ALL {
            let parts = phrase.parts(field);
            let mut common: Option<HashSet<u32>> = None;
            for part in parts {
                let docs = self.list(field, part).iter().map(|posting| posting.doc);
                common = Some(match common {
                    None => docs.collect(),
                    Some(so_far) => docs.filter(|doc| so_far.contains(doc)).collect(),
                });
            }
            let mut common: Vec<u32> = common.unwrap_or_default().into_iter().collect();
            common.sort_unstable();
            for number in common {
                let Some(entry) = self.docs.get(number as usize) else { continue };
                if contains_phrase(&entry.doc, field, parts) {
                    found.insert(number);
                }
            }
        }
        found
    }
}

/// Whether a field of `doc` contains `parts` at consecutive positions, as the committed index
/// finds them: a part may be a whole of the text (`github` in `GitHub`).
pub(crate) fn contains_phrase(doc: &IndexDoc, field: TextField, parts: &[String]) -> bool {
    !parts.is_empty()
        && doc.values(field).any(|value| {
            with_tokens(value, field.mode(), |tokens| {
                let mut begun: Vec<u32> = Vec::new();
                for (offset, part) in (0_u32..).zip(parts) {
                    let here = tokens.iter().filter(|token| token.term == part);
                    let starts = here.filter_map(|token| token.position.checked_sub(offset));
                    begun = if offset == 0 {
                        starts.collect()
                    } else {
                        starts.filter(|start| begun.contains(start)).collect()
                    };
                    if begun.is_empty() {
                        return false;
                    }
                }
                true
            })
        })
}

/// Occurrences of `term` in a field of `doc`, and the length of the field.
pub(crate) fn occurrences(doc: &IndexDoc, field: TextField, term: &str) -> (u32, u32) {
    let mut found = 0;
    let mut length = 0_u32;
    for value in doc.values(field) {
        with_tokens(value, field.mode(), |tokens| {
            found += u32::try_from(tokens.iter().filter(|token| token.term == term).count())
                .unwrap_or(u32::MAX);
            length = length.saturating_add(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        });
    }
    (found, length)
}
