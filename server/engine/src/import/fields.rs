//! Takes a JSON object apart so that nothing in it is dropped in silence: what was not asked for
//! is reported as unknown, what has the wrong type as an adjustment.

use serde_json::{Map, Value};

use crate::ids::Timestamp;

/// What was noticed while reading one item.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Paths of fields that are not part of the format.
    pub(super) unknown: Vec<String>,
    /// Fields that could not be kept as they were, and what was done.
    pub(super) adjusted: Vec<String>,
}

/// The fields of one object that have not been taken yet.
pub(super) struct Fields<'a> {
    path: &'static str,
    left: Map<String, Value>,
    notices: &'a mut Notices,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which stands at `path` (empty at the top). Something other than an
    /// object counts as an object without fields, and is noted unless it is absent.
    pub(super) fn of(path: &'static str, value: Option<Value>, notices: &'a mut Notices) -> Self {
        let left = match value {
            Some(Value::Object(object)) => object,
            None | Some(Value::Null) => Map::new(),
            Some(_) => {
                notices.adjusted.push(format!("{path} is not an object and was left out"));
                Map::new()
            }
        };
        Self { path, left, notices }
    }

    fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn adjusted(&mut self, key: &str, what: &str) {
        let note = format!("{} {what}", self.place(key));
        self.notices.adjusted.push(note);
    }

    /// Any value that is not null.
    pub(super) fn value(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let found = read(&value);
        if found.is_none() {
            self.adjusted(key, &format!("is not {expected} and was left out"));
        }
        found
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn number(&mut self, key: &str) -> Option<f64> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(super) fn count(&mut self, key: &str) -> Option<u64> {
        self.typed(key, "a whole number", Value::as_u64)
    }

    /// A moment: RFC 3339, or milliseconds since 1970.
    pub(super) fn moment(&mut self, key: &str) -> Option<Timestamp> {
        self.typed(key, "a moment", moment)
    }

    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Value::Array(values) = value else {
            self.adjusted(key, "is not a list and was left out");
            return Vec::new();
        };
        let total = values.len();
        let texts: Vec<String> = values
            .into_iter()
            .filter_map(|value| match value {
                Value::String(text) => Some(text),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => None,
            })
            .collect();
        if texts.len() < total {
            self.adjusted(key, "has entries that are not strings; they were left out");
        }
        texts
    }

    /// Takes fields that are known and not kept.
    pub(super) fn discard(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// Reports what nobody took.
    pub(super) fn finish(self) {
        for key in self.left.keys() {
            let place = self.place(key);
            self.notices.unknown.push(place);
        }
    }
}

/// Reads a moment, however it is written.
pub(super) fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().map(Timestamp::from_millis),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
