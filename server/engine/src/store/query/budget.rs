//! Keeping a reply within the length asked for. Counted is all of an item that can be long; what
//! has much the same length in every item is bounded by their number.

use crate::api::QueryRequest;
use crate::item::{Facets, Item, Summary};

/// Longest reply when the caller does not say, in characters.
const DEFAULT_CHARS: usize = 40_000;
/// Longest reply that a caller may ask for, and longest one of what takes no budget, in characters.
pub(crate) const MAX_CHARS: usize = 1_000_000;
/// Characters of one token, as the reference system counts.
const CHARS_PER_TOKEN: usize = 4;
/// Characters of a hash.
const HASH_CHARS: usize = 64;
/// An item is not cut to less than this; rather it is left for the next page.
const SMALLEST_CUT: usize = 200;

/// Characters that a reply may still have.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    left: usize,
    used: bool,
    cut: bool,
}

impl Budget {
    pub(crate) fn new(request: &QueryRequest) -> Self {
        let limit = match (request.token_budget, request.max_chars) {
            (Some(tokens), _) => tokens.saturating_mul(CHARS_PER_TOKEN),
            (None, Some(chars)) => chars,
            (None, None) => DEFAULT_CHARS,
        };
        Self::of(limit)
    }

    /// A budget of `limit` characters.
    pub(crate) const fn of(limit: usize) -> Self {
        Self { limit, left: limit, used: false, cut: false }
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether any item was cut.
    pub(crate) const fn has_cut(&self) -> bool {
        self.cut
    }

    /// Takes `chars`; `false` when they do not fit (the first always do).
    pub(crate) fn take(&mut self, chars: usize) -> bool {
        if chars > self.left && self.used {
            return false;
        }
        self.used = true;
        self.left = self.left.saturating_sub(chars);
        true
    }

    /// Takes an item, cutting its text and then its code where it must; answers whether it was
    /// cut, or `None` when too little is left.
    pub(crate) fn take_item(&mut self, item: &mut Item) -> Option<bool> {
        let text = item.text.chars().count();
        let code = item.code.chars().count();
        let labels = labels_chars(item);
        let whole = item_chars(item);
        if whole <= self.left {
            self.used = true;
            self.left -= whole;
            return Some(false);
        }
        if self.used && self.left.saturating_sub(labels) < SMALLEST_CUT {
            return None;
        }
        let room = self.left.saturating_sub(whole - text - code);
        // Labels alone may be more; of the first something is to be read all the same.
        let room = if self.used { room } else { room.max(SMALLEST_CUT) };
        // Both are kept in part: code gets what text leaves, and at least half.
        let for_text = text.min(room.saturating_sub(code.min(room / 2)));
        cut(&mut item.text, for_text);
        cut(&mut item.code, room - for_text);
        self.used = true;
        self.left = 0;
        let cut = text + code > room;
        self.cut |= cut;
        Some(cut)
    }
}

/// Characters of a whole item.
pub(crate) fn item_chars(item: &Item) -> usize {
    let texts = [&item.title, &item.text, &item.code].into_iter();
    labels_chars(item) + texts.map(|text| text.chars().count()).sum::<usize>()
}

/// Characters of what an item has beside title, text and code.
fn labels_chars(item: &Item) -> usize {
    let Facets { tags, files, symbols } = &item.facets;
    let links = item.links.iter().map(|link| link.to.as_str());
    let lists = words_chars([tags, files, symbols]);
    let others = item.context.texts().chain(links).chain(item.language.as_deref());
    let hashes = item.security.secret_hash_refs.len() * HASH_CHARS;
    lists + others.map(|text| text.chars().count()).sum::<usize>() + hashes
}

/// Characters of a summary.
pub(crate) fn summary_chars(summary: &Summary) -> usize {
    let lists = words_chars([&summary.tags, &summary.files, &summary.symbols]);
    summary.title.chars().count() + lists
}

fn words_chars(lists: [&Vec<String>; 3]) -> usize {
    lists.into_iter().flatten().map(|word| word.chars().count()).sum()
}

fn cut(text: &mut String, chars: usize) {
    if let Some((at, _)) = text.char_indices().nth(chars) {
        text.truncate(at);
    }
}
