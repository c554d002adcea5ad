//! Stores as they are read. One that cannot be understood is told of, and hides no other; nor does
//! one that was made to take the operator's memory: what the API server takes as a megabyte of
//! `{}` would become a hundred. `spec.podTemplate` and managed fields may be of any shape.

use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use llm_memory_crds::MemoryStore;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

/// What a store may hold. A value costs one, an object as many as it takes of their memory.
const MOST: usize = 1 << 17;
const OBJECT: usize = 16;
/// What `spec.podTemplate` may hold, in values: those of all stores are kept.
const MOST_OF_TEMPLATE: usize = 4096;
/// Deeper than every object of Kubernetes, and not as deep as readers of JSON give up.
const DEEPEST: usize = 64;

/// A store, or why it cannot be read.
#[derive(Debug, Clone)]
pub struct Guarded(pub Result<MemoryStore, InvalidObject>);

impl<'de> Deserialize<'de> for Guarded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bounds = Bounds { left: MOST, exceeded: false };
        let Value::Object(root) =
            Bounded { bounds: &mut bounds, depth: 0 }.deserialize(deserializer)?
        else {
            return Err(de::Error::custom("a MemoryStore is no object"));
        };
        let metadata = root.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        let template = root.get("spec").and_then(|spec| spec.get("podTemplate"));
        let excess = if bounds.exceeded {
            Some(format!(
                "it has more values than a store may ({MOST}, of which an object takes {OBJECT}), \
                 or is nested deeper than {DEEPEST} levels; remove what spec.podTemplate does not need"
            ))
        } else {
            let values = template.map_or(0, values);
            (values > MOST_OF_TEMPLATE).then(|| {
                format!(
                    "spec.podTemplate has {values} values; at most {MOST_OF_TEMPLATE} are read. \
                     Remove what it does not need"
                )
            })
        };
        let read = match excess {
            Some(error) => Err(error),
            None => serde_json::from_value(Value::Object(root)).map_err(|error| error.to_string()),
        };
        match read {
            Ok(store) => Ok(Self(Ok(store))),
            Err(error) => {
                let metadata = ObjectMeta::deserialize(metadata).map_err(de::Error::custom)?;
                Ok(Self(Err(InvalidObject { error, metadata })))
            }
        }
    }
}

impl Resource for Guarded {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        MemoryStore::kind(&())
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        MemoryStore::group(&())
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        MemoryStore::version(&())
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        MemoryStore::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, MemoryStore::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|invalid| &mut invalid.metadata, MemoryStore::meta_mut)
    }
}

/// Every value in `value`, itself included.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(values).sum(),
        Value::Array(list) => list.iter().map(values).sum(),
        _ => 0,
    }
}

/// What may still be read.
struct Bounds {
    left: usize,
    exceeded: bool,
}

impl Bounds {
    fn take(&mut self, cost: usize) -> bool {
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => self.exceeded = true,
        }
        !self.exceeded
    }
}

/// Reads a value; once the bounds are exceeded the rest is skipped.
struct Bounded<'a> {
    bounds: &'a mut Bounds,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        // Skipped, not read: a reader of JSON gives up a document that is nested too deeply, and
        // with it the list of all stores.
        if self.depth > DEEPEST || !self.bounds.take(1) {
            self.bounds.exceeded = true;
            return IgnoredAny::deserialize(deserializer).map(|_| Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        let bounds = self.bounds;
        let depth = self.depth + 1;
        while let Some(value) = list.next_element_seed(Bounded { bounds, depth })? {
            if !bounds.exceeded {
                read.push(value);
            }
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        let bounds = self.bounds;
        let depth = self.depth + 1;
        bounds.take(OBJECT);
        while let Some(name) = members.next_key::<String>()? {
            let value = if depth == 1 && name == "metadata" {
                members.next_value_seed(Metadata { bounds })?
            } else {
                members.next_value_seed(Bounded { bounds, depth })?
            };
            if !bounds.exceeded || depth == 1 {
                read.insert(name, value);
            }
        }
        Ok(Value::Object(read))
    }
}

/// Reads the metadata, by which the object is named whatever else it holds: each member has bounds
/// of its own.
struct Metadata<'a> {
    bounds: &'a mut Bounds,
}

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            // Who set which field is not looked at, and may be as large as all the rest.
            if name == "managedFields" {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let mut own = Bounds { left: MOST, exceeded: false };
            let value = members.next_value_seed(Bounded { bounds: &mut own, depth: 2 })?;
            if own.exceeded {
                self.bounds.exceeded = true;
            } else {
                read.insert(name, value);
            }
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    /// What is read of a list of two stores, of which the first has `spec`.
    fn listed(metadata: &str, spec: &str) -> (Guarded, Guarded) {
        let text = format!(
            r#"{{"apiVersion": "llm-memory.dev/v1alpha1", "kind": "MemoryStoreList", "metadata": {{}},
                "items": [
                    {{"metadata": {{{metadata} "name": "odd", "namespace": "team"}}, "spec": {spec}}},
                    {{"metadata": {{"name": "sound", "namespace": "team"}}, "spec": {{}}}}
                ]}}"#
        );
        let list: ObjectList<Guarded> = serde_json::from_str(&text).unwrap();
        let mut items = list.items.into_iter();
        (items.next().unwrap(), items.next().unwrap())
    }

    fn refused(metadata: &str, spec: &str) -> String {
        let (odd, sound) = listed(metadata, spec);
        assert_eq!(sound.name_any(), "sound");
        sound.0.unwrap();
        assert_eq!((odd.name_any().as_str(), odd.namespace().as_deref()), ("odd", Some("team")));
        odd.0.unwrap_err().error
    }

    #[test]
    fn a_store_is_read_as_it_is_but_for_who_set_its_fields() {
        let managed = r#""managedFields": [{"manager": "x"}], "labels": {"a": "b"}, "#;
        let spec = json!({
            "replicas": 0, "mcp": {"auth": {"tokens": [{"name": "ci", "projects": ["web"]}]}},
            "podTemplate": {"metadata": {"annotations": {"a": "b"}}, "x": [1, -1, 0.5, true, null]},
        });
        let (read, _) = listed(managed, &spec.to_string());
        let read = read.0.unwrap();
        assert_eq!(
            (read.metadata.managed_fields.as_ref(), read.labels()["a"].as_str()),
            (None, "b")
        );
        assert_eq!(read.spec, serde_json::from_value(spec).unwrap());
    }

    #[test]
    fn a_store_that_cannot_be_understood_hides_no_other() {
        let error = refused("", r#"{"replicas": "many"}"#);
        assert!(error.contains("many"), "{error}");
    }

    #[test]
    fn a_template_of_many_values_is_not_kept() {
        let template = |count: usize| {
            let list = vec!["1"; count].join(",");
            format!(r#"{{"podTemplate": {{"metadata": [{list}]}}}}"#)
        };
        listed("", &template(4000)).0.0.unwrap();
        let error = refused("", &template(5000));
        assert!(error.contains("spec.podTemplate has 5002 values; at most 4096"), "{error}");
    }

    #[test]
    fn what_is_small_as_text_and_large_in_memory_is_skipped() {
        for list in [vec![r#"{"":0}"#; 100_000].join(","), vec!["0"; 500_000].join(",")] {
            let error = refused("", &format!(r#"{{"podTemplate": {{"x": [{list}]}}}}"#));
            assert!(error.contains("more values than a store may"), "{error}");
        }
        let labels: Vec<_> = (0..200_000).map(|n| format!(r#""{n}": """#)).collect();
        let labels = format!(r#""labels": {{{}}}, "#, labels.join(","));
        assert!(refused(&labels, "{}").contains("more values than a store may"));
    }

    #[test]
    fn a_store_too_deep_for_a_reader_of_json_hides_no_other() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
        let error = refused("", &format!(r#"{{"podTemplate": {deep}}}"#));
        assert!(error.contains("nested deeper than 64"), "{error}");
        let managed = format!(r#""managedFields": [{{"fieldsV1": {deep}}}], "#);
        assert!(listed(&managed, "{}").0.0.is_ok());
    }
}
