//! Positions in lists, opaque to callers.

use std::fmt;

use crate::error::{EngineError, Result};
use crate::ids::{Seq, Timestamp};

/// Where a list stopped: the last entry shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    kind: &'static str,
    moment: Timestamp,
    scope: usize,
    seq: Seq,
}

impl Cursor {
    pub(crate) fn new(kind: &'static str, moment: Timestamp, scope: usize, seq: Seq) -> Self {
        Self { kind, moment, scope, seq }
    }

    /// Reads what [`fmt::Display`] wrote for a list of the same `kind`.
    pub(crate) fn parse(text: &str, kind: &'static str) -> Result<Self> {
        let malformed = || {
            EngineError::invalid(
                "cursor",
                format!(
                    "{text:?} is not a cursor of this list: pass nextCursor of the last reply, or \
                     leave it out to start again"
                ),
            )
        };
        let mut parts = text.split('.');
        if parts.next() != Some(kind) {
            return Err(malformed());
        }
        let mut number = || {
            parts.next().and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or_else(malformed)
        };
        let moment = number()?;
        let scope = usize::try_from(number()?).map_err(|_| malformed())?;
        let seq = Seq(number()?);
        if parts.next().is_some() {
            return Err(malformed());
        }
        let moment = Timestamp::from_millis(moment.cast_signed());
        Ok(Self { kind, moment, scope, seq })
    }

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// Where the entries of a scope that come after the cursor begin, or a little before.
    pub(crate) fn start(&self, scope: usize) -> (Timestamp, Seq) {
        (self.moment, if scope == self.scope { self.seq } else { Seq(u64::MAX) })
    }

    /// Whether an entry comes after the cursor in a list that runs from new to old.
    pub(crate) fn is_before(&self, moment: Timestamp, scope: usize, seq: Seq) -> bool {
        (std::cmp::Reverse(moment), scope, std::cmp::Reverse(seq))
            > (std::cmp::Reverse(self.moment), self.scope, std::cmp::Reverse(self.seq))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = self.moment.as_millis().cast_unsigned();
        write!(f, "{}.{moment:x}.{:x}.{:x}", self.kind, self.scope, self.seq.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_does() {
        let cursor = Cursor::new("list", Timestamp::from_millis(1_700_000_000_123), 1, Seq(77));
        assert_eq!(Cursor::parse(&cursor.to_string(), "list").unwrap(), cursor);
        for bad in ["", "list", "list.1.2", "list.x.y.z", "history.1.2.3", "list.1.2.3.4"] {
            assert!(Cursor::parse(bad, "list").is_err(), "{bad}");
        }
    }
}
