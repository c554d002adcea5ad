//! Keeping a reply within the length asked for.

use crate::api::QueryRequest;
use crate::item::Item;

/// Longest reply when the caller does not say, in characters of item text.
const DEFAULT_CHARS: usize = 40_000;
/// Characters of one token, as the reference system counts.
const CHARS_PER_TOKEN: usize = 4;
/// An item is not cut to less than this; rather it is left for the next page.
const SMALLEST_CUT: usize = 200;

/// Characters that a reply may still have.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    left: usize,
    used: bool,
    cut: bool,
}

impl Budget {
    pub(super) fn new(request: &QueryRequest) -> Self {
        let limit = match (request.token_budget, request.max_chars) {
            (Some(tokens), _) => tokens.saturating_mul(CHARS_PER_TOKEN),
            (None, Some(chars)) => chars,
            (None, None) => DEFAULT_CHARS,
        };
        Self { limit, left: limit, used: false, cut: false }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether any item was cut.
    pub(super) const fn has_cut(&self) -> bool {
        self.cut
    }

    /// Takes `chars`; `false` when they do not fit (the first always do).
    pub(super) fn take(&mut self, chars: usize) -> bool {
        if chars > self.left && self.used {
            return false;
        }
        self.used = true;
        self.left = self.left.saturating_sub(chars);
        true
    }

    /// Takes an item, cutting its text and then its code where it must; answers whether it was
    /// cut, or `None` when too little is left.
    pub(super) fn take_item(&mut self, item: &mut Item) -> Option<bool> {
        let title = item.title.chars().count();
        let text = item.text.chars().count();
        let code = item.code.chars().count();
        let whole = title + text + code;
        if whole <= self.left {
            self.used = true;
            self.left -= whole;
            return Some(false);
        }
        if self.used && self.left < SMALLEST_CUT {
            return None;
        }
        let room = self.left.saturating_sub(title);
        // Both are kept in part: code gets what text leaves, and at least half.
        let for_text = text.min(room.saturating_sub(code.min(room / 2)));
        cut(&mut item.text, for_text);
        cut(&mut item.code, room - for_text);
        self.used = true;
        self.cut = true;
        self.left = 0;
        Some(true)
    }
}

fn cut(text: &mut String, chars: usize) {
    if let Some((at, _)) = text.char_indices().nth(chars) {
        text.truncate(at);
    }
}
