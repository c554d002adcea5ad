//! What the store must hold: every acknowledged write, and for each write that was lost in a
//! crash either its effect or none, but nothing in between.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// An item as its only writer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// Version, when the server has told it.
    pub(super) version: Option<u64>,
    /// Text.
    pub(super) text: String,
    /// Tags.
    pub(super) tags: BTreeSet<String>,
    /// Pinned.
    pub(super) pinned: bool,
}

impl Expected {
    /// Says how `item` (as `memory.get` answers it) differs.
    pub(super) fn check(&self, item: &Value) -> Result<()> {
        let found = Self::of(item)?;
        ensure!(
            self.version.is_none() || self.version == found.version,
            "version {:?} became {:?}",
            self.version,
            found.version
        );
        ensure!(self.text == found.text, "text {:?} became {:?}", self.text, found.text);
        ensure!(self.tags == found.tags, "tags {:?} became {:?}", self.tags, found.tags);
        ensure!(self.pinned == found.pinned, "pinned {} became {}", self.pinned, found.pinned);
        Ok(())
    }

    /// Reads it from an answer of `memory.get`.
    pub(super) fn of(item: &Value) -> Result<Self> {
        let tags = item.pointer("/facets/tags").and_then(Value::as_array).context("no tags")?;
        Ok(Self {
            version: Some(item.get("version").and_then(Value::as_u64).context("no version")?),
            text: item.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
            tags: tags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            pinned: item.pointer("/quality/pinned").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

/// One item that one writer owns.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// State after the last acknowledged write; `None`: the item does not exist.
    pub(super) sure: Option<Expected>,
    /// States after writes that were lost: at most one, since a writer ends with it.
    pub(super) maybe: Vec<Option<Expected>>,
}

impl Slot {
    /// Compares with what the store answers (`None`: not found) and takes that as the truth.
    pub(super) fn settle(&mut self, found: Option<&Value>) -> Result<()> {
        let candidates = std::iter::once(&self.sure).chain(&self.maybe);
        let mut differences = Vec::new();
        for candidate in candidates {
            match (candidate, found) {
                (None, None) => {
                    *self = Self::default();
                    return Ok(());
                }
                (Some(expected), Some(item)) => match expected.check(item) {
                    Ok(()) => {
                        *self = Self { sure: Some(Expected::of(item)?), maybe: Vec::new() };
                        return Ok(());
                    }
                    Err(difference) => differences.push(difference.to_string()),
                },
                (None, Some(item)) => {
                    differences.push(format!("absent became version {}", item["version"]));
                }
                (Some(expected), None) => {
                    differences.push(format!("version {:?} is gone", expected.version));
                }
            }
        }
        anyhow::bail!("{}", differences.join("; and not the lost write either: "))
    }
}

/// An item that every writer adds words to, each on the version it read.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    /// Words whose write was acknowledged.
    pub(super) sure: BTreeSet<String>,
    /// Words whose write was lost.
    pub(super) maybe: BTreeSet<String>,
    /// Acknowledged uses.
    pub(super) uses: u64,
    /// Lost uses.
    pub(super) maybe_uses: u64,
}

impl Shared {
    /// As [`Slot::settle`].
    pub(super) fn settle(&mut self, found: Option<&Value>) -> Result<()> {
        let Some(item) = found else {
            ensure!(self.sure.is_empty(), "the item with {} words is gone", self.sure.len());
            *self = Self::default();
            return Ok(());
        };
        let text = item.get("text").and_then(Value::as_str).unwrap_or_default();
        let mut counts = BTreeMap::<&str, usize>::new();
        for word in text.split_whitespace() {
            *counts.entry(word).or_default() += 1;
        }
        for (word, count) in &counts {
            ensure!(*count == 1, "{word} is there {count} times");
            ensure!(
                self.sure.contains(*word) || self.maybe.contains(*word),
                "{word} was never written"
            );
        }
        if let Some(word) = self.sure.iter().find(|word| !counts.contains_key(word.as_str())) {
            anyhow::bail!("the acknowledged word {word} is lost");
        }
        let version = item.get("version").and_then(Value::as_u64).context("no version")?;
        ensure!(
            version == counts.len() as u64,
            "{} words after {version} versions: an update was lost",
            counts.len()
        );
        let uses = item.pointer("/quality/reuseCount").and_then(Value::as_u64).unwrap_or(0);
        ensure!(
            (self.uses..=self.uses + self.maybe_uses).contains(&uses),
            "{} acknowledged and {} lost uses, but {uses} counted",
            self.uses,
            self.maybe_uses
        );
        let sure = counts.keys().map(|word| (*word).to_owned()).collect();
        *self = Self { sure, maybe: BTreeSet::new(), uses, maybe_uses: 0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(version: u64, text: &str, uses: u64) -> Value {
        json!({
            "version": version, "text": text, "facets": { "tags": [] },
            "quality": { "pinned": false, "reuseCount": uses },
        })
    }

    fn expected(version: u64, text: &str) -> Expected {
        let tags = BTreeSet::new();
        Expected { version: Some(version), text: text.to_owned(), tags, pinned: false }
    }

    #[test]
    fn a_lost_write_may_have_happened_or_not_but_an_acknowledged_one_must_have() {
        let slot = Slot { sure: Some(expected(1, "a")), maybe: vec![Some(expected(2, "b"))] };
        for found in [item(1, "a", 0), item(2, "b", 0)] {
            slot.clone().settle(Some(&found)).unwrap();
        }
        for found in [item(1, "b", 0), item(2, "a", 0), item(2, "", 0), item(3, "b", 0)] {
            slot.clone().settle(Some(&found)).unwrap_err();
        }
        slot.clone().settle(None).unwrap_err();
    }

    #[test]
    fn a_deleted_item_must_not_come_back_unless_its_creation_was_lost() {
        Slot::default().settle(Some(&item(1, "a", 0))).unwrap_err();
        let mut slot = Slot { sure: None, maybe: vec![Some(expected(1, "a"))] };
        slot.settle(Some(&item(1, "a", 0))).unwrap();
        assert_eq!(slot.sure, Some(expected(1, "a")));
    }

    #[test]
    fn an_overwritten_word_or_a_miscounted_use_is_found() {
        let word = |text: &str| BTreeSet::from([text.to_owned()]);
        let shared = Shared { sure: word("a"), maybe: word("b"), uses: 2, maybe_uses: 1 };
        for found in [item(1, "a", 2), item(2, "a b", 3), item(2, "b a", 2)] {
            shared.clone().settle(Some(&found)).unwrap();
        }
        for found in [
            item(1, "b", 2),
            item(2, "a", 2),
            item(2, "a a", 2),
            item(3, "a b c", 2),
            item(1, "a", 1),
            item(1, "a", 4),
        ] {
            shared.clone().settle(Some(&found)).unwrap_err();
        }
        shared.clone().settle(None).unwrap_err();
    }
}
