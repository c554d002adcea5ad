//! Identifiers and positions. Each is a type of its own, so that a sequence number cannot be
//! passed where a version is meant.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// An identifier or position that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct InvalidId {
    /// Which identifier was malformed, as the caller named it (`id`, `project`, `tenant`).
    pub field: &'static str,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize,
            Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The position after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

position! {
    /// Position of a record in the journal of one scope. The first record has 1; 0 means "before
    /// everything".
    Seq
}
position! {
    /// Version of one item: 1 when created, one more with each write that changes its content.
    Version
}

/// SHA-256, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What the first record of a journal has as `prev`.
    pub const ZERO: Self = Self([0; 32]);

    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
            }
        }
        out
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let malformed = || InvalidId {
            field: "hash",
            reason: format!("expected 64 hexadecimal digits, found {} bytes", text.len()),
        };
        if text.len() != 64 || !text.is_ascii() {
            return Err(malformed());
        }
        let mut out = [0_u8; 32];
        for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| malformed())?;
            *slot = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
    }
}

/// Longest item id, in bytes.
pub const MAX_ITEM_ID_BYTES: usize = 256;

fn check_item_id(text: &str) -> Result<(), InvalidId> {
    let reason = if text.is_empty() {
        "must not be empty".to_owned()
    } else if text.len() > MAX_ITEM_ID_BYTES {
        format!("has {} bytes; at most {MAX_ITEM_ID_BYTES} are allowed", text.len())
    } else if text.chars().any(char::is_control) {
        "must not contain control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(InvalidId { field: "id", reason })
}

fn check_name(field: &'static str, text: &str) -> Result<(), InvalidId> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 64 || text.starts_with('.') || !text.chars().all(allowed) {
        return Err(InvalidId {
            field,
            reason: format!(
                "{text:?} is not valid: use 1 to 64 of the characters A-Z a-z 0-9 . _ - and do \
                 not begin with a dot"
            ),
        });
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the form of `text` and takes it.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                ($check)(&text)?;
                Ok(Self(text.into_boxed_str()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

name_type! {
    /// Name of an item: a ULID when the server chooses it, otherwise any text of 1 to 256 bytes
    /// without control characters. It never becomes a file name.
    ItemId, check_item_id, {"type": "string", "minLength": 1, "maxLength": 256}
}
name_type! {
    /// Name of a project: becomes a folder name, hence the narrow alphabet.
    ProjectId, |text: &str| check_name("project", text),
    {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"}
}
name_type! {
    /// Name of a tenant: comes from the token alone and becomes a folder name.
    TenantId, |text: &str| check_name("tenant", text),
    {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"}
}

impl ItemId {
    /// A fresh ULID.
    #[must_use]
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate().to_string().into_boxed_str())
    }
}

/// Where memories live. Each scope (of each project, where it has one) has a journal, a catalog,
/// an index and a configuration of its own.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// One for the whole tenant.
    Global,
    /// One for each project, not shared.
    Local,
    /// One for each project, shared by its team.
    Committed,
}

impl Scope {
    /// All scopes, in the order in which an id without a scope is looked up.
    pub const LOOKUP_ORDER: [Self; 3] = [Self::Committed, Self::Local, Self::Global];

    /// The word used in arguments, paths and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Local => "local",
            Self::Committed => "committed",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "global" => Ok(Self::Global),
            "local" => Ok(Self::Local),
            "committed" => Ok(Self::Committed),
            other => Err(InvalidId {
                field: "scope",
                reason: format!("{other:?} is not a scope: use global, local or committed"),
            }),
        }
    }
}

/// One scope or a union of scopes, as a read names it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ScopeSelector {
    /// The global scope.
    Global,
    /// The project's local scope.
    Local,
    /// The project's committed scope.
    Committed,
    /// Committed and local of the project.
    #[default]
    Project,
    /// Committed, local and global.
    All,
}

impl ScopeSelector {
    /// The scopes meant, in lookup order.
    #[must_use]
    pub const fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Global => &[Scope::Global],
            Self::Local => &[Scope::Local],
            Self::Committed => &[Scope::Committed],
            Self::Project => &[Scope::Committed, Scope::Local],
            Self::All => &Scope::LOOKUP_ORDER,
        }
    }

    /// The word used in arguments.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Local => "local",
            Self::Committed => "committed",
            Self::Project => "project",
            Self::All => "all",
        }
    }
}

impl fmt::Display for ScopeSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Scope> for ScopeSelector {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Global => Self::Global,
            Scope::Local => Self::Local,
            Scope::Committed => Self::Committed,
        }
    }
}

impl FromStr for ScopeSelector {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "project" => Ok(Self::Project),
            "all" => Ok(Self::All),
            other => other.parse::<Scope>().map(Self::from).map_err(|_| InvalidId {
                field: "scope",
                reason: format!(
                    "{other:?} is not a scope: use global, local, committed, project or all"
                ),
            }),
        }
    }
}

/// Names one journal: a tenant's scope, and the project where the scope has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey {
    /// The tenant; `None` is the store's own.
    pub tenant: Option<TenantId>,
    /// The scope.
    pub scope: Scope,
    /// The project; `None` exactly for [`Scope::Global`].
    pub project: Option<ProjectId>,
}

impl fmt::Display for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tenant) = &self.tenant {
            write!(f, "{tenant}:")?;
        }
        f.write_str(self.scope.as_str())?;
        if let Some(project) = &self.project {
            write!(f, "/{project}")?;
        }
        Ok(())
    }
}

/// A moment, in milliseconds since 1970-01-01T00:00:00Z; written as RFC 3339 in UTC with
/// milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The system clock.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// From milliseconds since the epoch; clamped to the years -9999 to 9999.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(
            millis.clamp(
                jiff::Timestamp::MIN.as_millisecond(),
                jiff::Timestamp::MAX.as_millisecond(),
            ),
        )
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment moved by `days` (which may be negative or a fraction).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, then is clamped")]
    pub fn plus_days(self, days: f64) -> Self {
        Self::from_millis(self.0.saturating_add((days * Self::MILLIS_PER_DAY) as i64))
    }

    /// Days from `earlier` to this moment; negative when `earlier` is later.
    #[must_use]
    pub fn days_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / Self::MILLIS_PER_DAY
    }

    const MILLIS_PER_DAY: f64 = 86_400_000.0;
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment =
            jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{moment:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse::<jiff::Timestamp>().map(|moment| Self(moment.as_millisecond())).map_err(|_| {
            InvalidId {
                field: "timestamp",
                reason: format!(
                    "{text:?} is not an RFC 3339 moment: write it like 2026-11-22T01:00:00Z"
                ),
            }
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_round_trips_through_hex() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_hex().parse::<Digest>().unwrap(), digest);
        assert!("xyz".parse::<Digest>().is_err());
    }

    #[test]
    fn project_names_cannot_leave_their_folder() {
        for bad in ["", "..", ".hidden", "a/b", "a\\b", "a\0", &"x".repeat(65)] {
            assert!(ProjectId::new(bad).is_err(), "{bad:?}");
        }
        assert!(ProjectId::new("my-app_1.2").is_ok());
    }

    #[test]
    fn timestamps_are_written_with_milliseconds_in_utc() {
        let moment: Timestamp = "2026-11-22T02:00:00.5+01:00".parse().unwrap();
        assert_eq!(moment.to_string(), "2026-11-22T01:00:00.500Z");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
