//! What the index is told about items.

use crate::ids::{Digest, ItemId, Seq, Timestamp};
use crate::item::{ItemType, Sensitivity};
use crate::ranking::Known;

use super::tokenizer::{Mode, with_tokens};

/// A field in which words are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextField {
    /// One line that says what the item is.
    Title,
    /// Prose.
    Text,
    /// Code.
    Code,
    /// Labels.
    Tags,
    /// Names in code.
    Symbols,
    /// Paths.
    Files,
}

impl TextField {
    /// All fields, in the order of every per-field table.
    pub const ALL: [Self; 6] =
        [Self::Title, Self::Text, Self::Code, Self::Tags, Self::Symbols, Self::Files];

    /// Position in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name in the index and in explanations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Text => "text",
            Self::Code => "code",
            Self::Tags => "tags",
            Self::Symbols => "symbols",
            Self::Files => "files",
        }
    }

    /// How its words become terms.
    pub(crate) const fn mode(self) -> Mode {
        match self {
            Self::Title | Self::Text | Self::Tags => Mode::Prose,
            Self::Code | Self::Symbols | Self::Files => Mode::Code,
        }
    }
}

/// One value for each [`TextField`].
pub(crate) type PerField<T> = [T; 6];

/// One item as the index sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexDoc {
    /// Name.
    pub id: ItemId,
    /// Kind.
    pub item_type: ItemType,
    /// Title.
    pub title: String,
    /// Prose.
    pub text: String,
    /// Code.
    pub code: String,
    /// Language of the code.
    pub language: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Paths.
    pub files: Vec<String>,
    /// Names in code.
    pub symbols: Vec<String>,
    /// Who may see it.
    pub sensitivity: Sensitivity,
    /// Subject that created it.
    pub created_by: String,
    /// Pinned.
    pub pinned: bool,
    /// Life time, days; with `expires_at` it scales confidence.
    pub ttl_days: Option<f64>,
    /// End of life.
    pub expires_at: Option<Timestamp>,
    /// First version.
    pub created_at: Timestamp,
    /// This version.
    pub updated_at: Timestamp,
    /// Record that wrote this version.
    pub seq: Seq,
}

impl IndexDoc {
    /// The values of a field; several for tags, symbols and files.
    pub(crate) fn values(&self, field: TextField) -> impl Iterator<Item = &str> {
        let (one, many): (&str, &[String]) = match field {
            TextField::Title => (&self.title, &[]),
            TextField::Text => (&self.text, &[]),
            TextField::Code => (&self.code, &[]),
            TextField::Tags => ("", &self.tags),
            TextField::Symbols => ("", &self.symbols),
            TextField::Files => ("", &self.files),
        };
        let one = (!one.is_empty()).then_some(one);
        one.into_iter().chain(many.iter().map(String::as_str))
    }

    /// What is known of it besides its words.
    pub(crate) const fn known(&self, id_hash: u64) -> Known {
        Known {
            id_hash,
            updated_at: self.updated_at,
            created_at: self.created_at,
            pinned: self.pinned,
            ttl_days: self.ttl_days,
            expires_at: self.expires_at,
        }
    }

    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let lists = [&self.tags, &self.files, &self.symbols];
        let list_bytes: usize =
            lists.iter().flat_map(|list| list.iter()).map(|s| s.len() + 24).sum();
        std::mem::size_of::<Self>()
            + self.title.len()
            + self.text.len()
            + self.code.len()
            + list_bytes
    }
}

/// A change that the index follows. `seq` never falls from one change to the next.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The item is now so.
    Put {
        /// Journal record.
        seq: Seq,
        /// The item.
        doc: Box<IndexDoc>,
    },
    /// The item is gone.
    Remove {
        /// Journal record.
        seq: Seq,
        /// The item.
        id: ItemId,
    },
    /// A record that changes nothing the index knows.
    Advance {
        /// Journal record.
        seq: Seq,
    },
}

impl Change {
    /// Journal record.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        match self {
            Self::Put { seq, .. } | Self::Remove { seq, .. } | Self::Advance { seq } => *seq,
        }
    }
}

/// A number that stands for an id where an id would be too slow to read: the first eight bytes
/// of its SHA-256, so that nobody meets a collision by accident.
#[must_use]
pub fn id_hash(id: &ItemId) -> u64 {
    first_eight(Digest::of(id.as_str().as_bytes()))
}

/// A number for a whole title, equal for titles that differ in case, accents or punctuation
/// only; 0 for an empty one.
pub(crate) fn title_key(title: &str) -> u64 {
    let joined = with_tokens(title, Mode::Prose, |tokens| {
        let mut joined = String::with_capacity(title.len());
        for token in tokens.parts() {
            joined.push_str(token.term);
            joined.push('\n');
        }
        joined
    });
    if joined.is_empty() { 0 } else { first_eight(Digest::of(joined.as_bytes())) }
}

fn first_eight(digest: Digest) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(digest.0) {
        *to = from;
    }
    u64::from_le_bytes(bytes)
}
