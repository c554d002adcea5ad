//! Canonical JSON: the one spelling of an item's content that its hash covers.
//!
//! Keys of every object sorted by their bytes, no white space, strings and numbers as
//! `serde_json` writes them (shortest form that reads back as the same number). The bytes are
//! stored as they are and verified as they are; nothing is ever spelled a second time in order to
//! check a hash.

use serde_json::Value;

use super::Content;
use crate::error::EngineError;
use crate::ids::Digest;

/// Canonical bytes and their SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// The JSON, on one line.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub hash: Digest,
}

/// Spells `content` canonically.
///
/// Fails with [`EngineError::Invalid`] when a number in it is not finite, since JSON has no
/// spelling for those and the content would read back as another.
pub fn encode(content: &Content) -> Result<Canonical, EngineError> {
    if content.ttl_days.is_some_and(|days| !days.is_finite()) {
        return Err(EngineError::invalid("ttlDays", "must be a finite number of days"));
    }
    let value = serde_json::to_value(content).map_err(|error| EngineError::Internal {
        context: "spell the content of an item",
        message: error.to_string(),
    })?;
    let mut bytes = Vec::with_capacity(256 + content.text.len() + content.code.len());
    write_sorted(&value, &mut bytes);
    let hash = Digest::of(&bytes);
    Ok(Canonical { bytes, hash })
}

/// Reads content back from its canonical bytes. The caller has checked their hash.
///
/// Fails with [`EngineError::Corrupt`] when they are not the JSON of a content.
pub fn decode(bytes: &[u8]) -> Result<Content, EngineError> {
    serde_json::from_slice(bytes).map_err(|error| EngineError::Corrupt {
        what: "item content".to_owned(),
        reason: error.to_string(),
    })
}

/// Appends `value` to `out` with sorted keys and without white space.
pub fn write_sorted(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            // Sorted here and not left to the map: another crate of the build may ask serde_json
            // to keep insertion order instead.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (n, (key, value)) in entries.into_iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_scalar(key, out);
                out.push(b':');
                write_sorted(value, out);
            }
            out.push(b'}');
        }
        Value::Array(values) => {
            out.push(b'[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_sorted(value, out);
            }
            out.push(b']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            write_scalar(value, out);
        }
    }
}

/// Appends the JSON of a string, number, bool or null.
pub(crate) fn write_scalar<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        // Writing a scalar to memory cannot fail; should it ever, leave valid JSON behind.
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn spell(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        write_sorted(value, &mut out);
        out
    }

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value: Value =
            serde_json::from_str(r#"{"b":[{"z":1,"a":2}],"a":{"d":null,"c":1.5},"B":"\n"}"#)
                .unwrap();
        assert_eq!(
            String::from_utf8(spell(&value)).unwrap(),
            r#"{"B":"\n","a":{"c":1.5,"d":null},"b":[{"a":2,"z":1}]}"#
        );
    }

    proptest! {
        #[test]
        fn what_was_spelled_reads_back_and_spells_the_same(value in arbitrary_json()) {
            let bytes = spell(&value);
            prop_assert!(!bytes.contains(&b'\n'));
            let back: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(spell(&back), bytes);
        }
    }
}
