//! The grammar of a record, both directions.
//!
//! ```text
//! line    = [" "] head-without-brace [",\"body\":" object] "}" LF
//! head    = {"seq":N,"ts":T,"op":O,"id":I,"version":N,"hash":H,"prev":H,"actor":A,"meta":{...}}
//! ```
//!
//! Keys come in this order, without white space. A line that begins with a space continues the
//! commit of the line before it; any other line was begun after everything before it had become
//! durable (recovery depends on that, see `recovery`). The space is not part of the head.
//!
//! Parsing accepts nothing else, and never spells anything a second time: the hash of a head is
//! taken over the bytes that are there, and so is the hash of a body.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, ItemId, Seq, Timestamp, Version};
use crate::item::canonical::write_scalar;

/// What a record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Wrote a whole item.
    Upsert,
    /// Deleted an item.
    Delete,
    /// Pinned it.
    Pin,
    /// Unpinned it.
    Unpin,
    /// Added or removed tags.
    Tag,
    /// Replaced pieces of text.
    Patch,
    /// Lengthened a field.
    Append,
    /// Joined items into one.
    Merge,
    /// Added or removed a link.
    Link,
    /// Started the time to live again.
    Renew,
    /// Counted a use.
    Use,
    /// Counted a vote.
    Feedback,
    /// Took an item over from another system.
    Import,
    /// Took an item over from another scope.
    Sync,
    /// Asked for the bodies of an item to be removed for good.
    Erase,
    /// Deleted an item that had expired.
    Prune,
    /// Changed the configuration of the scope.
    Config,
    /// Ran a maintenance operation.
    Maintenance,
}

impl Op {
    /// All operations.
    pub const ALL: [Self; 18] = [
        Self::Upsert,
        Self::Delete,
        Self::Pin,
        Self::Unpin,
        Self::Tag,
        Self::Patch,
        Self::Append,
        Self::Merge,
        Self::Link,
        Self::Renew,
        Self::Use,
        Self::Feedback,
        Self::Import,
        Self::Sync,
        Self::Erase,
        Self::Prune,
        Self::Config,
        Self::Maintenance,
    ];

    /// The word in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Delete => "delete",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Tag => "tag",
            Self::Patch => "patch",
            Self::Append => "append",
            Self::Merge => "merge",
            Self::Link => "link",
            Self::Renew => "renew",
            Self::Use => "use",
            Self::Feedback => "feedback",
            Self::Import => "import",
            Self::Sync => "sync",
            Self::Erase => "erase",
            Self::Prune => "prune",
            Self::Config => "config",
            Self::Maintenance => "maintenance",
        }
    }

    /// Whether a record of this kind makes a new version and is written with its body. Without
    /// one it has been compacted, and the body is to be found by its hash elsewhere.
    #[must_use]
    pub const fn carries_content(self) -> bool {
        match self {
            Self::Upsert
            | Self::Pin
            | Self::Unpin
            | Self::Tag
            | Self::Patch
            | Self::Append
            | Self::Merge
            | Self::Link
            | Self::Renew
            | Self::Import
            | Self::Sync => true,
            Self::Delete
            | Self::Use
            | Self::Feedback
            | Self::Erase
            | Self::Prune
            | Self::Config
            | Self::Maintenance => false,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Op {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        Self::ALL
            .into_iter()
            .find(|op| op.as_str() == text)
            .ok_or_else(|| LineError::new("a known operation", format!("{text:?}")))
    }
}

/// Key in `meta` of all but the last record of an operation that made several: how many more of
/// them follow. They are in one commit, and recovery keeps all of them or none.
pub const MORE_META: &str = "more";

/// A record to be staged. The journal adds `seq` and `prev`.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// When.
    pub ts: Timestamp,
    /// What.
    pub op: Op,
    /// Which item.
    pub id: &'a ItemId,
    /// Its version after the operation.
    pub version: Version,
    /// SHA-256 of its content after the operation (of the last content for a deletion).
    pub hash: Digest,
    /// Subject that asked for it.
    pub actor: &'a str,
    /// What a reader of the record alone needs to know: counters, reasons, scope.
    pub meta: Map<String, Value>,
    /// Canonical JSON of the content whose SHA-256 is `hash`; present when
    /// [`Op::carries_content`].
    pub body: Option<&'a [u8]>,
}

/// A record as stored, without its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Position, from 1.
    pub seq: Seq,
    /// When.
    pub ts: Timestamp,
    /// What.
    pub op: Op,
    /// Which item.
    pub id: ItemId,
    /// Its version after the operation.
    pub version: Version,
    /// SHA-256 of its content.
    pub hash: Digest,
    /// SHA-256 of the head of the line before; [`Digest::ZERO`] for the first.
    pub prev: Digest,
    /// Who.
    pub actor: String,
    /// Whatever the operation recorded beside.
    pub meta: Map<String, Value>,
}

impl Record {
    /// Records of the same operation that follow this one.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.meta.get(MORE_META).and_then(Value::as_u64).unwrap_or(0)
    }
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl LineError {
    pub(crate) fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { expected: expected.into(), found: found.into() }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for LineError {}

/// A line, parsed. Its body has not been hashed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedLine<'a> {
    /// The record.
    pub record: Record,
    /// Head bytes up to, but without, the closing brace.
    open_head: &'a [u8],
    /// SHA-256 of the head.
    pub head_hash: Digest,
    /// The body's bytes.
    pub body: Option<&'a [u8]>,
    /// Where the body begins in the line.
    pub body_offset: usize,
    /// Whether the line was written by the same commit as the line before it.
    pub continued: bool,
}

impl ParsedLine<'_> {
    /// The head's bytes.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.open_head.len() + 1);
        head.extend_from_slice(self.open_head);
        head.push(b'}');
        head
    }

    /// Checks that the body, if there is one, has the hash that the record names.
    pub fn check_body(&self) -> Result<(), LineError> {
        let Some(body) = self.body else { return Ok(()) };
        let found = Digest::of(body);
        if found == self.record.hash {
            Ok(())
        } else {
            Err(LineError::new(
                format!("a body with SHA-256 {}", self.record.hash),
                format!("one with {found}"),
            ))
        }
    }

    /// Checks that the record follows one at `last` whose head has hash `prev`.
    pub(crate) fn check_chain(&self, last: Seq, prev: &Digest) -> Result<(), LineError> {
        if self.record.seq != last.next() {
            return Err(LineError::new(
                format!("record {}", last.next()),
                format!("record {}", self.record.seq),
            ));
        }
        if self.record.prev != *prev {
            return Err(LineError::new(
                format!("prev {prev} (hash of record {last})"),
                self.record.prev.to_hex(),
            ));
        }
        Ok(())
    }
}

/// Parses one line, given without its line feed.
pub fn parse_line(line: &[u8]) -> Result<ParsedLine<'_>, LineError> {
    let continued = line.first() == Some(&b' ');
    let start = usize::from(continued);
    let mut cursor = Cursor { line, at: start };
    cursor.literal("{\"seq\":")?;
    let seq = Seq(cursor.number("seq")?);
    cursor.literal(",\"ts\":")?;
    let ts = cursor.string("ts")?;
    let ts = ts.parse().map_err(|_| LineError::new("an RFC 3339 moment as ts", excerpt(&ts)))?;
    cursor.literal(",\"op\":")?;
    let op = cursor.string("op")?.parse()?;
    cursor.literal(",\"id\":")?;
    let id = ItemId::new(cursor.string("id")?)
        .map_err(|error| LineError::new("an item id", error.reason))?;
    cursor.literal(",\"version\":")?;
    let version = Version(cursor.number("version")?);
    cursor.literal(",\"hash\":")?;
    let hash = cursor.digest("hash")?;
    cursor.literal(",\"prev\":")?;
    let prev = cursor.digest("prev")?;
    cursor.literal(",\"actor\":")?;
    let actor = cursor.string("actor")?.into_owned();
    cursor.literal(",\"meta\":")?;
    let meta = cursor.object("meta")?;

    let open_head = line.get(start..cursor.at).unwrap_or_default();
    let head_hash =
        Digest(Sha256::new().chain_update(open_head).chain_update(b"}").finalize().into());
    let record = Record { seq, ts, op, id, version, hash, prev, actor, meta };
    let rest = cursor.rest();
    if rest == b"}" {
        return Ok(ParsedLine {
            record,
            open_head,
            head_hash,
            body: None,
            body_offset: 0,
            continued,
        });
    }
    cursor.literal(BODY_KEY)?;
    let body_offset = cursor.at;
    match cursor.rest().strip_suffix(b"}") {
        Some(body) if body.first() == Some(&b'{') && body.last() == Some(&b'}') => Ok(ParsedLine {
            record,
            open_head,
            head_hash,
            body: Some(body),
            body_offset,
            continued,
        }),
        _ => Err(LineError::new("a body and the end of the record", excerpt_bytes(cursor.rest()))),
    }
}

const BODY_KEY: &str = ",\"body\":";

/// Where things lie in a line that [`write_line`] appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// SHA-256 of the head.
    pub(crate) head_hash: Digest,
    /// Offset of the body from the beginning of the line.
    pub(crate) body_offset: usize,
    /// Length of the line with its line feed.
    pub(crate) len: usize,
}

/// Appends the line of `draft` to `out`, line feed included.
pub(crate) fn write_line(
    out: &mut Vec<u8>,
    draft: &Draft<'_>,
    seq: Seq,
    prev: &Digest,
    continued: bool,
) -> Written {
    use std::io::Write as _;

    out.reserve(384 + draft.body.map_or(0, <[u8]>::len));
    let begin = out.len();
    if continued {
        out.push(b' ');
    }
    let head_begin = out.len();
    // Writing to a `Vec` cannot fail.
    let _ = write!(out, "{{\"seq\":{seq},\"ts\":\"{}\",\"op\":\"{}\",\"id\":", draft.ts, draft.op);
    write_scalar(draft.id.as_str(), out);
    let _ = write!(
        out,
        ",\"version\":{},\"hash\":\"{}\",\"prev\":\"{prev}\",\"actor\":",
        draft.version, draft.hash
    );
    write_scalar(draft.actor, out);
    out.extend_from_slice(b",\"meta\":");
    write_scalar(&draft.meta, out);
    let head = out.get(head_begin..).unwrap_or_default();
    let head_hash = Digest(Sha256::new().chain_update(head).chain_update(b"}").finalize().into());
    let mut body_offset = 0;
    if let Some(body) = draft.body {
        out.extend_from_slice(BODY_KEY.as_bytes());
        body_offset = out.len() - begin;
        out.extend_from_slice(body);
    }
    out.extend_from_slice(b"}\n");
    Written { head_hash, body_offset, len: out.len() - begin }
}

/// Appends the line of `parsed`, with or without its body, line feed included. The mark of a
/// continued commit is dropped: it matters only in the active segment.
pub(crate) fn rewrite_line(out: &mut Vec<u8>, parsed: &ParsedLine<'_>, keep_body: bool) -> Written {
    let begin = out.len();
    out.extend_from_slice(parsed.open_head);
    let mut body_offset = 0;
    if let (Some(body), true) = (parsed.body, keep_body) {
        out.extend_from_slice(BODY_KEY.as_bytes());
        body_offset = out.len() - begin;
        out.extend_from_slice(body);
    }
    out.extend_from_slice(b"}\n");
    Written { head_hash: parsed.head_hash, body_offset, len: out.len() - begin }
}

/// The item's name in a line that does not parse, if it can be made out.
pub(crate) fn salvage_id(line: &[u8]) -> Option<ItemId> {
    const KEY: &[u8] = b",\"id\":";
    let at = line.windows(KEY.len()).position(|window| window == KEY)?;
    let mut cursor = Cursor { line, at: at + KEY.len() };
    ItemId::new(cursor.string("id").ok()?).ok()
}

struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.line.get(self.at..).unwrap_or_default()
    }

    fn literal(&mut self, text: &str) -> Result<(), LineError> {
        if self.rest().starts_with(text.as_bytes()) {
            self.at += text.len();
            Ok(())
        } else {
            Err(self.unexpected(text))
        }
    }

    fn unexpected(&self, expected: &str) -> LineError {
        LineError::new(expected, format!("{} at column {}", excerpt_bytes(self.rest()), self.at))
    }

    /// Decimal digits without a leading zero.
    fn number(&mut self, key: &str) -> Result<u64, LineError> {
        let rest = self.rest();
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = rest.get(..len).unwrap_or_default();
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        match number {
            Some(number) if len == 1 || digits.first() != Some(&b'0') => {
                self.at += len;
                Ok(number)
            }
            _ => Err(self.unexpected(&format!("a number as {key}"))),
        }
    }

    /// A JSON string.
    fn string(&mut self, key: &str) -> Result<Cow<'a, str>, LineError> {
        let malformed = |this: &Self| this.unexpected(&format!("a string as {key}"));
        let rest = self.rest();
        if rest.first() != Some(&b'"') {
            return Err(malformed(self));
        }
        let (mut len, mut plain) = (1, true);
        loop {
            match rest.get(len) {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    len += 2;
                }
                Some(byte) if *byte >= 0x20 => len += 1,
                _ => return Err(malformed(self)),
            }
        }
        let quoted = rest.get(..=len).unwrap_or_default();
        let text = if plain {
            let inner = quoted.get(1..len).unwrap_or_default();
            std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| malformed(self))?
        } else {
            serde_json::from_slice(quoted).map(Cow::Owned).map_err(|_| malformed(self))?
        };
        self.at += len + 1;
        Ok(text)
    }

    /// 64 lower-case hexadecimal digits in quotes.
    fn digest(&mut self, key: &str) -> Result<Digest, LineError> {
        let parsed = match self.rest().get(..66) {
            Some([b'"', hex @ .., b'"']) => hex_digest(hex),
            _ => None,
        };
        let parsed = parsed.ok_or_else(|| {
            self.unexpected(&format!("64 lower-case hexadecimal digits as {key}"))
        })?;
        self.at += 66;
        Ok(parsed)
    }

    /// A JSON object.
    fn object(&mut self, key: &str) -> Result<Map<String, Value>, LineError> {
        let rest = self.rest();
        if rest.first() != Some(&b'{') {
            return Err(self.unexpected(&format!("an object as {key}")));
        }
        if rest.starts_with(b"{}") {
            self.at += 2;
            return Ok(Map::new());
        }
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter();
        match stream.next() {
            Some(Ok(map)) => {
                self.at += stream.byte_offset();
                Ok(map)
            }
            _ => Err(self.unexpected(&format!("an object as {key}"))),
        }
    }
}

/// Reads 64 lower-case hexadecimal digits.
pub(crate) fn hex_digest(hex: &[u8]) -> Option<Digest> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut out = [0_u8; 32];
    if hex.len() != 64 {
        return None;
    }
    for (slot, pair) in out.iter_mut().zip(hex.as_chunks::<2>().0) {
        let [high, low] = *pair;
        *slot = nibble(high)? << 4 | nibble(low)?;
    }
    Some(Digest(out))
}

fn excerpt(text: &str) -> String {
    excerpt_bytes(text.as_bytes())
}

/// The beginning of `bytes` for a message.
pub(crate) fn excerpt_bytes(bytes: &[u8]) -> String {
    const SHOWN: usize = 32;
    match bytes.get(..SHOWN) {
        None if bytes.is_empty() => "nothing".to_owned(),
        None => format!("{:?}", String::from_utf8_lossy(bytes)),
        Some(begin) => format!("{:?}...", String::from_utf8_lossy(begin)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines() -> (String, String) {
        let id = ItemId::new("item \"1\"").unwrap();
        let body = br#"{"id":"item \"1\"","text":"a memory"}"#;
        let mut draft = Draft {
            ts: Timestamp::from_millis(1_700_000_000_000),
            op: Op::Upsert,
            id: &id,
            version: Version(1),
            hash: Digest::of(body),
            actor: "agent-7",
            meta: Map::new(),
            body: Some(body),
        };
        let mut out = Vec::new();
        let first = write_line(&mut out, &draft, Seq(1), &Digest::ZERO, false);
        let split = out.len();
        assert_eq!(first.len, split);
        draft.op = Op::Use;
        draft.meta.insert("reuseCount".to_owned(), Value::from(1));
        draft.body = None;
        write_line(&mut out, &draft, Seq(2), &first.head_hash, true);
        let mut first = String::from_utf8(out).unwrap();
        let second = first.split_off(split);
        (first, second)
    }

    /// The format page shows these bytes, so neither can change alone.
    #[test]
    fn the_format_page_shows_lines_as_they_are_written() {
        const PAGE: &str = include_str!("../../FORMAT.md");
        let (first, second) = lines();
        assert!(PAGE.contains(&format!("\n{first}{second}")), "{first}{second}");
    }

    #[test]
    fn a_line_gives_back_record_head_and_body() {
        let (first, second) = lines();
        let one = parse_line(first.trim_end().as_bytes()).unwrap();
        assert_eq!(one.record.id.as_str(), "item \"1\"");
        assert_eq!(one.body, Some(br#"{"id":"item \"1\"","text":"a memory"}"#.as_slice()));
        assert!(!one.continued);
        one.check_body().unwrap();
        let head = String::from_utf8(one.head()).unwrap();
        assert!(head.starts_with("{\"seq\":1,") && head.ends_with(",\"meta\":{}}"));
        assert_eq!(one.head_hash, Digest::of(head.as_bytes()));

        let two = parse_line(second.trim_end().as_bytes()).unwrap();
        assert!(two.continued && second.starts_with(" {"));
        assert_eq!(two.record.prev, one.head_hash);
        assert_eq!((two.record.op, two.body), (Op::Use, None));
        assert_eq!(two.record.meta.get("reuseCount"), Some(&Value::from(1)));
        two.check_chain(Seq(1), &one.head_hash).unwrap();
        assert!(two.check_chain(Seq(2), &one.head_hash).is_err());
        assert!(two.check_chain(Seq(1), &Digest::ZERO).is_err());
    }

    #[test]
    fn only_the_one_spelling_is_accepted() {
        let (first, _) = lines();
        let line = first.trim_end();
        parse_line(line.as_bytes()).unwrap();
        for (part, instead) in [
            ("{\"seq\":1", "{\"seq\":01"),
            ("{\"seq\":1", "{\"seq\":-1"),
            ("{\"seq\":1", "{\"seq\":99999999999999999999"),
            ("{\"seq\":1", "{\"seq\":1,\"seq\":1"),
            ("{\"seq\":1", "{ \"seq\":1"),
            ("{\"seq\":1", "  {\"seq\":1"),
            ("\"op\":\"upsert\"", "\"op\":\"obliterate\""),
            ("\"op\":\"upsert\"", "\"op\": \"upsert\""),
            ("\"ts\":\"2023", "\"ts\":\"then"),
            ("\"version\":1", "\"version\":1.0"),
            ("\"actor\":\"agent-7\"", "\"actor\":7"),
            ("\"actor\":\"agent-7\"", "\"actor\":\"\t\""),
            ("\"meta\":{}", "\"meta\":[]"),
            ("\"meta\":{}", "\"meta\":{"),
            ("\"meta\":{}", "\"note\":{},\"meta\":{}"),
            ("\"meta\":{},\"body\"", "\"body\""),
            ("\"body\":{", "\"body\":[{"),
            ("memory\"}}", "memory\"}}}x"),
            ("memory\"}}", "memory\"}} "),
        ] {
            let changed = line.replacen(part, instead, 1);
            assert_ne!(changed, line, "{part}");
            assert!(parse_line(changed.as_bytes()).is_err(), "{changed}");
        }
        let upper = line.replacen(&Digest::ZERO.to_hex(), &"A".repeat(64), 1);
        assert!(parse_line(upper.as_bytes()).is_err());
        // A longer body is a body, with another hash.
        let longer = line.replacen("memory\"}}", "memory\"}}}", 1);
        assert!(parse_line(longer.as_bytes()).unwrap().check_body().is_err());
    }

    #[test]
    fn operations_read_back() {
        for op in Op::ALL {
            assert_eq!(op.as_str().parse::<Op>().unwrap(), op);
        }
        assert!("".parse::<Op>().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            at in any::<prop::sample::Index>(),
            garbage in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let (first, _) = lines();
            let mut line = first.trim_end().as_bytes().to_vec();
            let at = at.index(line.len());
            let end = (at + garbage.len()).min(line.len());
            line.splice(at..end, garbage);
            if let Ok(parsed) = parse_line(&line) {
                let head = parsed.head();
                prop_assert_eq!(parse_line(&head).unwrap().record, parsed.record);
            }
            let _ = salvage_id(&line);
        }
    }
}
