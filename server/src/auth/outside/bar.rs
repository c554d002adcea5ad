//! Whom a rule may have been for that cannot be used. What it says readably counts, and what it
//! does not say is anybody, so that whoever it was to hold to little gets no more from a later one.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::identities::{ANY, RULE, has_value, is_name};
use super::identity::Identity;

/// Keeps callers from every later rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar(Vec<Whom>);

/// Callers; what is `None` is any.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Anybody,
    Accounts {
        namespace: Option<String>,
        name: Option<String>,
        audience: Option<String>,
    },
    People {
        issuer: Option<String>,
        subject: Option<String>,
        /// A claim and its value.
        claim: Option<(String, String)>,
    },
}

impl Bar {
    /// Whom `rule` may be for.
    pub(super) fn of(rule: &RawValue) -> Self {
        let read = serde_json::from_str(rule.get()).ok().filter(|_| !has_a_field_twice(rule));
        let Some(Value::Object(rule)) = read else { return Self(vec![Whom::Anybody]) };
        let whom: Vec<Whom> = rule.iter().filter_map(|(key, value)| Whom::of(key, value)).collect();
        Self(if whom.is_empty() { vec![Whom::Anybody] } else { whom })
    }

    /// Whether it keeps `identity` out.
    pub(super) fn matches(&self, identity: &Identity) -> bool {
        self.0.iter().any(|whom| whom.matches(identity))
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, whom) in self.0.iter().enumerate() {
            let or = if index > 0 { " or " } else { "" };
            write!(f, "{or}{whom}")?;
        }
        Ok(())
    }
}

impl Whom {
    /// Whom the field `key` of a rule names; `None` when it is about something else.
    fn of(key: &str, value: &Value) -> Option<Self> {
        let nothing = Map::new();
        let fields = value.as_object().unwrap_or(&nothing);
        // A field under a name that nobody knows may be one of the two, misspelled.
        let odd = !RULE.contains(&key);
        let text = |key: &str| {
            let text = fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let named = |key: &str| text(key).filter(|name| name != ANY && is_name(name));
        if value.is_null() {
            None
        } else if key == "serviceAccount" || (odd && fields.contains_key("namespace")) {
            let (namespace, name) = (named("namespace"), named("name"));
            Some(Self::Accounts { namespace, name, audience: text("audience") })
        } else if key == "oidc" || (odd && fields.contains_key("issuer")) {
            let (subject, claim, value) = (text("subject"), text("claim"), text("value"));
            let (subject, claim) = match (subject, claim.zip(value)) {
                (Some(subject), None) if !fields.contains_key("claim") => (Some(subject), None),
                (None, claim) if !fields.contains_key("subject") => (None, claim),
                // Both, or neither whole.
                _ => (None, None),
            };
            Some(Self::People { issuer: text("issuer"), subject, claim })
        } else {
            None
        }
    }

    fn matches(&self, identity: &Identity) -> bool {
        let fits = |wanted: &Option<String>, is: &String| wanted.as_ref().is_none_or(|w| w == is);
        match (self, identity) {
            (Self::Anybody, _) => true,
            (
                Self::Accounts { namespace, name, audience },
                Identity::ServiceAccount { namespace: its, name: own, audiences },
            ) => {
                let heard = audience.as_ref().is_none_or(|audience| audiences.contains(audience));
                fits(namespace, its) && fits(name, own) && heard
            }
            (
                Self::People { issuer, subject, claim },
                Identity::Oidc { issuer: its, subject: own, claims },
            ) => {
                let claimed =
                    claim.as_ref().is_none_or(|(claim, value)| has_value(claims.get(claim), value));
                fits(issuer, its) && fits(subject, own) && claimed
            }
            (Self::Accounts { .. } | Self::People { .. }, _) => false,
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = |text: &Option<String>| text.clone().unwrap_or_else(|| ANY.to_owned());
        match self {
            Self::Anybody => f.write_str("anybody"),
            Self::Accounts { namespace, name, .. } => {
                write!(f, "service account {}/{}", any(namespace), any(name))
            }
            Self::People { issuer, subject, claim: None } => {
                write!(f, "{} of {}", any(subject), any(issuer))
            }
            Self::People { issuer, claim: Some((claim, value)), .. } => {
                write!(f, "{claim} {value} of {}", any(issuer))
            }
        }
    }
}

/// The fields of an object as they are written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Whether it says something twice: then there is no telling what it means.
fn has_a_field_twice(object: &RawValue) -> bool {
    let Ok(Fields(fields)) = serde_json::from_str(object.get()) else { return false };
    let mut names = BTreeSet::new();
    fields.iter().any(|(name, value)| !names.insert(name) || has_a_field_twice(value))
}
