//! The static tokens of a store: which there are to be, from which there are. Pure but for the
//! random numbers that its caller brings. Tokens that exist are never changed, only what they may
//! do; a rotation adds new ones and lets the former live for the overlap.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use llm_memory_crds::memory_store::{Access, AuthMode, AuthSpec, TokenSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::build::access_document;
use crate::hash;

/// Key of the token file in the Secret.
pub const FILE: &str = "tokens.json";

/// A Secret that cannot be carried on from.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokensError {
    /// The token file in it is not what the operator wrote.
    #[error(
        "the Secret's {FILE} cannot be read ({0}): delete the Secret to have all tokens made anew"
    )]
    Unreadable(String),
}

/// An entry of the token file, as far as the operator cares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    id: String,
    sha256: String,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    /// What it may do.
    #[serde(flatten)]
    access: Map<String, Value>,
}

/// What became of the tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Content of the Secret.
    pub data: BTreeMap<String, ByteString>,
    /// Names of tokens made now.
    pub made: Vec<String>,
    /// When a former token ends next, and the file can forget it.
    pub next_end: Option<Timestamp>,
}

/// The content of the Secret, from the content that it has. `None` when the operator makes no
/// tokens for this store.
pub fn plan(
    auth: &AuthSpec,
    existing: Option<&BTreeMap<String, ByteString>>,
    now: Timestamp,
    mut random: impl FnMut() -> [u8; 38],
) -> Result<Option<Planned>, TokensError> {
    if auth.mode == AuthMode::None || auth.secret_name.is_some() {
        return Ok(None);
    }
    let default =
        [TokenSpec { name: "default".to_owned(), access: Access::default(), expires_at: None }];
    let wanted: &[TokenSpec] = auth.tokens.as_deref().unwrap_or(&default);
    let mut known = read(existing)?;
    let rotate_before = auth.rotate_at.as_ref().map(|time| time.0).filter(|at| *at <= now);
    let overlap = SignedDuration::from_mins(i64::from(auth.rotate_overlap_minutes));
    let mut data = BTreeMap::new();
    let mut entries = Vec::new();
    let mut made = Vec::new();
    for token in wanted {
        let access = match access_document(&token.access) {
            Value::Object(access) => access,
            _ => Map::new(),
        };
        let secret = existing.and_then(|data| data.get(&token.name));
        let current = known.iter().position(|entry| {
            entry.name == token.name
                && secret.is_some_and(|secret| hash::hex(&secret.0) == entry.sha256)
        });
        let current = current.map(|index| known.remove(index));
        let expires = token.expires_at.as_ref().map(|time| time.0);
        match (current, secret) {
            (Some(entry), Some(secret)) if rotate_before.is_none_or(|at| entry.created >= at) => {
                data.insert(token.name.clone(), secret.clone());
                entries.push(Entry { expires, access, ..entry });
            }
            (former, _) => {
                if let Some(former) = former {
                    entries.push(retired(former, now, overlap));
                }
                let (secret, entry) = make(&token.name, access, now, random());
                data.insert(token.name.clone(), ByteString(secret.into_bytes()));
                entries.push(Entry { expires, ..entry });
                made.push(token.name.clone());
            }
        }
    }
    // Former tokens live out their time, even when the spec no longer names them. One that expired
    // by the spec stays, so that its holder is told so.
    entries.extend(known.into_iter().filter(|it| former_end(it).is_some_and(|end| end > now)));
    entries.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let next_end = entries.iter().filter_map(former_end).min();
    let file = serde_json::to_vec_pretty(&entries)
        .map_err(|error| TokensError::Unreadable(error.to_string()))?;
    data.insert(FILE.to_owned(), ByteString(file));
    Ok(Some(Planned { data, made, next_end }))
}

fn read(existing: Option<&BTreeMap<String, ByteString>>) -> Result<Vec<Entry>, TokensError> {
    let Some(file) = existing.and_then(|data| data.get(FILE)) else { return Ok(Vec::new()) };
    serde_json::from_slice(&file.0).map_err(|error| TokensError::Unreadable(error.to_string()))
}

/// A token as the server generates them: `llmm_<public>_<secret>`.
fn make(
    name: &str,
    access: Map<String, Value>,
    now: Timestamp,
    random: [u8; 38],
) -> (String, Entry) {
    use std::fmt::Write as _;
    let mut digits = random.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    });
    let secret = digits.split_off(12);
    let token = format!("llmm_{digits}_{secret}");
    let entry = Entry {
        name: name.to_owned(),
        id: digits,
        sha256: hash::hex(token.as_bytes()),
        created: now,
        expires: None,
        access,
    };
    (token, entry)
}

/// A token that another has taken the place of.
fn retired(entry: Entry, now: Timestamp, overlap: SignedDuration) -> Entry {
    let end = now.checked_add(overlap).unwrap_or(now);
    let end = entry.expires.map_or(end, |own| own.min(end));
    // Several of one name may end together, and names are unique.
    let name = format!("{}-{}{}", entry.name, entry.id, until(end));
    // Callers keep their name in provenance and audit.
    let mut access = entry.access.clone();
    access.entry("subject").or_insert_with(|| Value::String(entry.name.clone()));
    Entry { name, expires: Some(end), access, ..entry }
}

/// What the name of a former token ends with.
fn until(end: Timestamp) -> String {
    format!("-until-{}", end.as_second())
}

/// When a former token ends; none of a token in use.
fn former_end(entry: &Entry) -> Option<Timestamp> {
    entry.expires.filter(|end| entry.name.ends_with(&until(*end)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn numbers() -> impl FnMut() -> [u8; 38] {
        let mut next = 0;
        move || {
            next += 1;
            [next; 38]
        }
    }

    fn spec(value: serde_json::Value) -> AuthSpec {
        serde_json::from_value(value).unwrap()
    }

    fn names(planned: &Planned) -> Vec<String> {
        let entries: Vec<Entry> = serde_json::from_slice(&planned.data[FILE].0).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn tokens_that_exist_are_never_changed() {
        let auth = spec(json!({}));
        let first = plan(&auth, None, at("2026-01-01T00:00:00Z"), numbers()).unwrap().unwrap();
        assert_eq!(first.made, ["default"]);
        let again = plan(&auth, Some(&first.data), at("2026-02-01T00:00:00Z"), || panic!())
            .unwrap()
            .unwrap();
        assert_eq!((again.data, again.made.len()), (first.data.clone(), 0));
        let monitor =
            spec(json!({"tokens": [{"name": "default", "roles": ["monitor"]}, {"name": "b"}]}));
        let more = plan(&monitor, Some(&first.data), at("2026-02-01T00:00:00Z"), numbers())
            .unwrap()
            .unwrap();
        assert_eq!(more.made, ["b"]);
        assert_eq!(more.data["default"], first.data["default"]);
        assert!(String::from_utf8_lossy(&more.data[FILE].0).contains("monitor"));
    }

    #[test]
    fn a_rotation_overlaps_and_ends() {
        let start = at("2026-01-01T00:00:00Z");
        let first = plan(&spec(json!({})), None, start, numbers()).unwrap().unwrap();
        let rotating =
            spec(json!({"rotateAt": "2026-03-01T00:00:00Z", "rotateOverlapMinutes": 60}));
        let early = plan(&rotating, Some(&first.data), at("2026-02-28T00:00:00Z"), || panic!());
        assert_eq!(early.unwrap().unwrap().data, first.data);
        let moment = at("2026-03-01T00:00:05Z");
        let mut random = numbers();
        random();
        let rotated = plan(&rotating, Some(&first.data), moment, random).unwrap().unwrap();
        assert_eq!(rotated.made, ["default"]);
        assert_ne!(rotated.data["default"], first.data["default"]);
        assert_eq!(names(&rotated), ["default-010101010101-until-1772326805", "default"]);
        assert_eq!(rotated.next_end, Some(at("2026-03-01T01:00:05Z")));
        let quiet = plan(&rotating, Some(&rotated.data), at("2026-03-01T00:30:00Z"), || panic!());
        assert_eq!(quiet.unwrap().unwrap().data, rotated.data);
        let over = plan(&rotating, Some(&rotated.data), at("2026-03-01T01:00:06Z"), || panic!());
        assert_eq!(names(&over.unwrap().unwrap()), ["default"]);
    }

    #[test]
    fn a_token_expires_when_the_spec_says_and_stays_known() {
        let until = |end: &str| spec(json!({"tokens": [{"name": "a", "expiresAt": end}]}));
        let expires = |planned: &Planned| {
            let entries: Vec<Entry> = serde_json::from_slice(&planned.data[FILE].0).unwrap();
            entries.into_iter().map(|entry| entry.expires).collect::<Vec<_>>()
        };
        let (june, july) = ("2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z");
        let first = plan(&until(june), None, at("2026-01-01T00:00:00Z"), numbers());
        let first = first.unwrap().unwrap();
        assert_eq!((expires(&first), first.next_end), (vec![Some(at(june))], None));
        let over = plan(&until(june), Some(&first.data), at(july), || panic!()).unwrap().unwrap();
        assert_eq!(over.data, first.data);
        let longer = plan(&until(july), Some(&first.data), at(june), || panic!()).unwrap().unwrap();
        assert_eq!(expires(&longer), [Some(at(july))]);
        assert_eq!(longer.data["a"], first.data["a"]);
        let revoked = plan(&spec(json!({"tokens": []})), Some(&first.data), at(june), || panic!());
        assert_eq!(names(&revoked.unwrap().unwrap()), [""; 0]);
        // A rotation does not lengthen the life of the former token.
        let rotating = json!({"tokens": [{"name": "a", "expiresAt": june}],
            "rotateOverlapMinutes": 1440});
        let mut random = numbers();
        random();
        let moment = at("2026-05-31T23:30:00Z");
        let spec_of = |rotate_at: &str| {
            let mut rotating = rotating.clone();
            rotating["rotateAt"] = json!(rotate_at);
            spec(rotating)
        };
        let once = spec_of("2026-05-31T23:00:00Z");
        let rotated = plan(&once, Some(&first.data), moment, &mut random).unwrap().unwrap();
        assert_eq!(expires(&rotated), [Some(at(june)), Some(at(june))]);
        assert_eq!(rotated.next_end, Some(at(june)));
        // Once more: both former ones end together, and are told apart.
        let twice = spec_of("2026-05-31T23:40:00Z");
        let moment = at("2026-05-31T23:45:00Z");
        let again = plan(&twice, Some(&rotated.data), moment, random).unwrap().unwrap();
        let unique: std::collections::BTreeSet<String> = names(&again).into_iter().collect();
        assert_eq!(unique.len(), 3, "{unique:?}");
    }

    #[test]
    fn a_token_that_the_spec_no_longer_names_is_revoked() {
        let two = spec(json!({"tokens": [{"name": "a"}, {"name": "b"}]}));
        let first = plan(&two, None, at("2026-01-01T00:00:00Z"), numbers()).unwrap().unwrap();
        let one = spec(json!({"tokens": [{"name": "a"}]}));
        let less = plan(&one, Some(&first.data), at("2026-01-02T00:00:00Z"), || panic!());
        let less = less.unwrap().unwrap();
        assert_eq!(names(&less), ["a"]);
        assert!(!less.data.contains_key("b"));
    }

    #[test]
    fn a_secret_without_its_file_is_made_anew_and_a_broken_file_is_reported() {
        let auth = spec(json!({}));
        let lost = [("default".to_owned(), ByteString(b"old".to_vec()))].into();
        let planned = plan(&auth, Some(&lost), at("2026-01-01T00:00:00Z"), numbers());
        assert_eq!(planned.unwrap().unwrap().made, ["default"]);
        let broken = [(FILE.to_owned(), ByteString(b"{".to_vec()))].into();
        let error = plan(&auth, Some(&broken), at("2026-01-01T00:00:00Z"), numbers()).unwrap_err();
        assert!(error.to_string().contains("delete the Secret"), "{error}");
    }

    #[test]
    fn nothing_is_made_for_stores_that_need_none() {
        for auth in [json!({"mode": "None"}), json!({"secretName": "mine"})] {
            assert_eq!(plan(&spec(auth), None, Timestamp::UNIX_EPOCH, || panic!()).unwrap(), None);
        }
    }
}
