//! Items for tests.

use super::{
    Content, Context, Facets, Flag, ItemType, LineRange, Link, Provenance, Relation, Sensitivity,
};
use crate::ids::{Digest, ItemId, Scope, Timestamp, Version};

/// A note with only an id and a text.
pub(crate) fn note(id: &str, text: &str, now: Timestamp) -> Content {
    Content {
        id: ItemId::new(id).unwrap(),
        item_type: ItemType::Note,
        scope: Scope::Local,
        title: String::new(),
        text: text.to_owned(),
        code: String::new(),
        language: None,
        facets: Facets::default(),
        context: Context::default(),
        pinned: false,
        ttl_days: None,
        expires_at: None,
        sensitivity: Sensitivity::Private,
        secret_hash_refs: Vec::new(),
        flags: Vec::new(),
        links: Vec::new(),
        provenance: Provenance { created_by: "tester".into(), updated_by: "tester".into() },
        created_at: now,
        updated_at: now,
        version: Version(1),
    }
}

/// An item in which every field is set.
pub(crate) fn full(id: &str, now: Timestamp) -> Content {
    Content {
        item_type: ItemType::Snippet,
        title: "Retry with back-off".into(),
        code: "fn retry() {}\n".into(),
        language: Some("rust".into()),
        facets: Facets {
            tags: vec!["http".into(), "retry".into()],
            files: vec!["src/retry.rs".into()],
            symbols: vec!["retry".into()],
        },
        context: Context {
            repo_id: Some("0123456789abcdef".into()),
            branch: Some("main".into()),
            commit: Some("deadbeef".into()),
            tool: Some("editor".into()),
            source: Some("https://example.org/1".into()),
            file: Some("src/retry.rs".into()),
            range: Some(LineRange { start: 1, end: 9 }),
            function: Some("retry".into()),
            package: Some("net".into()),
            framework: Some("none".into()),
        },
        pinned: true,
        ttl_days: Some(30.0),
        expires_at: Some(now.plus_days(30.0)),
        sensitivity: Sensitivity::Team,
        secret_hash_refs: vec![Digest::of(b"secret")],
        flags: vec![Flag::Injection],
        links: vec![Link { rel: Relation::Refines, to: ItemId::new("other").unwrap() }],
        version: Version(3),
        ..note(id, "Wait longer after each failure.", now)
    }
}
