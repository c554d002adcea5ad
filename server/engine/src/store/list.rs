//! Lists of items, by last write.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::query::{Budget, MAX_CHARS, summary_chars};
use super::read::{Reader, Seen, limit, top};
use crate::api::{Filters, ListRequest, ListResult, TotalRelation};
use crate::error::Result;
use crate::ids::{Seq, Timestamp};
use crate::item::Summary;

/// Items in a list when the caller does not say.
const DEFAULT_LIST: usize = 50;
/// Most items in a list.
const MAX_LIST: usize = 1000;
/// Items looked at to count those that match, where nothing but a look at each can tell.
const COUNTED: u64 = 10_000;

/// `memory.list` over the readers of the scopes named, in lookup order.
pub(crate) fn list(readers: &[Reader<'_>], request: &ListRequest) -> Result<ListResult> {
    request.filters.check()?;
    let limit = limit("limit", request.limit, DEFAULT_LIST, MAX_LIST)?;
    let cursor = request.cursor.as_deref().map(|text| Cursor::parse(text, "list")).transpose()?;
    let mut page = Page { limit, cursor, items: BTreeMap::new(), chars: 0 };
    let (mut total, mut exact, mut looked) = (0, true, 0_u64);
    for (index, reader) in readers.iter().enumerate() {
        let mut from = page.cursor.map_or_else(top, |cursor| cursor.start(index));
        if let Some(known) = reader.known_total(&request.filters)? {
            total += known;
        } else {
            let mut stopped = None;
            reader.walk(top(), |(moment, seq), seen| {
                if let Some(seen) = seen.filter(|seen| reader.matches(&request.filters, seen)) {
                    total += 1;
                    page.offer(index, reader, &seen);
                }
                looked += 1;
                // What was known at a moment is not in order of time.
                if looked >= COUNTED && reader.at.is_none() {
                    stopped = Some((moment, Seq(seq.0.saturating_sub(1))));
                }
                Ok(stopped.is_none())
            })?;
            let Some(stopped) = stopped else { continue };
            exact = false;
            from = from.min(stopped);
        }
        reader.walk(from, |_, seen| {
            let seen = seen.filter(|seen| reader.matches(&request.filters, seen));
            Ok(seen.is_none_or(|seen| page.offer(index, reader, &seen)))
        })?;
    }
    let total_relation = if exact { TotalRelation::Eq } else { TotalRelation::Gte };
    let (items, next_cursor) = page.finish();
    let damaged = readers.iter().any(|reader| reader.damaged.get() > 0);
    let notice =
        damaged.then(|| "damaged items are left out: an operator should run journal.verify".into());
    Ok(ListResult { total, total_relation, items, next_cursor, notice })
}

/// The entries of a list after a cursor: one more than asked for, or than a reply holds, to know
/// whether there are more.
struct Page {
    limit: usize,
    cursor: Option<Cursor>,
    items: BTreeMap<(Timestamp, Reverse<usize>, Seq), Summary>,
    /// Of all `items`.
    chars: usize,
}

impl Page {
    /// Takes the item if it belongs here. False when no later item of the scope can.
    fn offer(&mut self, scope: usize, reader: &Reader<'_>, seen: &Seen) -> bool {
        let (moment, seq) = (seen.skeleton.updated_at, seen.seq);
        if self.cursor.is_some_and(|cursor| !cursor.is_before(moment, scope, seq)) {
            return true;
        }
        let key = (moment, Reverse(scope), seq);
        if self.is_full(self.items.len(), self.chars)
            && self.items.first_key_value().is_some_and(|(last, _)| key < *last)
        {
            return false;
        }
        let summary = reader.summary(seen);
        self.chars += summary_chars(&summary);
        self.items.insert(key, summary);
        while let Some(last) = self.items.first_entry() {
            let rest = self.chars.saturating_sub(summary_chars(last.get()));
            if !self.is_full(self.items.len() - 1, rest) {
                break;
            }
            self.items.pop_first();
            self.chars = rest;
        }
        true
    }

    /// Whether so many entries of so many characters are more than a reply holds. One always fits.
    fn is_full(&self, entries: usize, chars: usize) -> bool {
        entries > self.limit || (entries > 1 && chars > MAX_CHARS)
    }

    /// The page and where the next one begins.
    fn finish(self) -> (Vec<Summary>, Option<String>) {
        let mut budget = Budget::of(MAX_CHARS);
        let found = self.items.len();
        let page = self.items.into_iter().rev().take(self.limit);
        let page = page.take_while(|(_, summary)| budget.take(summary_chars(summary)));
        let (keys, items): (Vec<_>, Vec<_>) = page.unzip();
        let more = keys.len() < found;
        let next = keys.last().filter(|_| more).map(|(moment, Reverse(scope), seq)| {
            Cursor::new("list", *moment, *scope, *seq).to_string()
        });
        (items, next)
    }
}

impl Reader<'_> {
    /// Items that match `filters`, where that is known without a look at each.
    fn known_total(&self, filters: &Filters) -> Result<Option<u64>> {
        let all = *filters == Filters::default() && self.at.is_none() && self.visibility.sees_all();
        if !all {
            return Ok(None);
        }
        let mut total = self.view.totals()?.items;
        for expired in self.view.expired(self.now)? {
            expired?;
            total = total.saturating_sub(1);
        }
        Ok(Some(total))
    }
}
