//! An item as the reference server stores it, read into ours.

use serde_json::Value;

use super::fields::{Fields, Notices};
use crate::ids::{Digest, ItemId, Scope, Timestamp, Version};
use crate::item::{
    Content, Context, Counters, Facets, ItemType, LineRange, Link, Provenance, Relation,
    Sensitivity, gate,
};

/// Quality figures that the reference stores and we compute when reading.
const COMPUTED: [&str; 3] = ["confidence", "lastAccessedAt", "lastComputedConfidenceAt"];

/// What an item that leaves something out gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults<'a> {
    /// Scope that is imported into.
    pub(super) scope: Scope,
    /// Creator.
    pub(super) actor: &'a str,
    /// Time of creation or of the last write.
    pub(super) moment: Timestamp,
}

/// One item.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) content: Content,
    pub(super) counters: Counters,
    /// Version that the reference had counted up to.
    pub(super) version: Option<u64>,
}

/// Reads an item.
///
/// # Errors
/// Why it cannot be read at all: it is no object, or has no usable id.
pub(super) fn parse(
    value: Value,
    defaults: Defaults<'_>,
    notices: &mut Notices,
) -> Result<Parsed, String> {
    let Value::Object(object) = value else {
        return Err("is not a JSON object".to_owned());
    };
    let mut parts = object;
    let mut part = |key: &str| parts.remove(key).filter(|value| !value.is_null());
    let (facets, origin, quality, security) =
        (part("facets"), part("context"), part("quality"), part("security"));

    let facets = read_facets(facets, notices);
    let origin = read_context(origin, notices);
    let quality = read_quality(quality, notices);
    let (sensitivity, secret_hash_refs) = read_security(security, notices);

    let mut fields = Fields::of("", Some(Value::Object(parts)), notices);
    let id = fields.text("id").ok_or("has no id")?;
    let id = ItemId::new(id).map_err(|error| error.to_string())?;
    let item_type = read_type(&mut fields);
    if let Some(scope) = fields.text("scope")
        && scope != defaults.scope.as_str()
    {
        fields.adjusted("scope", &format!("was {scope}; it is now {}", defaults.scope));
    }
    let updated_at = fields.moment("updatedAt");
    let created_at = fields.moment("createdAt").or(updated_at).unwrap_or_else(|| {
        fields.adjusted("createdAt", "is missing; the time of the file was taken");
        defaults.moment
    });
    let version = fields.count("version");
    let content = Content {
        item_type,
        scope: defaults.scope,
        title: fields.text("title").unwrap_or_default(),
        text: fields.text("text").unwrap_or_default(),
        code: fields.text("code").unwrap_or_default(),
        language: fields.text("language"),
        facets,
        context: origin,
        pinned: quality.pinned,
        ttl_days: quality.ttl_days,
        expires_at: quality.expires_at,
        sensitivity: sensitivity
            .unwrap_or_else(|| gate::default_sensitivity(defaults.scope, Sensitivity::Team)),
        secret_hash_refs,
        flags: Vec::new(),
        links: read_links(&mut fields, &id),
        provenance: Provenance {
            created_by: defaults.actor.to_owned(),
            updated_by: defaults.actor.to_owned(),
        },
        created_at,
        updated_at: updated_at.unwrap_or(created_at),
        version: Version(1),
        id,
    };
    fields.finish();
    Ok(Parsed { content, counters: quality.counters, version })
}

fn read_type(fields: &mut Fields<'_>) -> ItemType {
    let Some(word) = fields.text("type") else {
        fields.adjusted("type", "is missing; the item became a note");
        return ItemType::Note;
    };
    ItemType::ALL.into_iter().find(|known| known.as_str() == word).unwrap_or_else(|| {
        fields.adjusted("type", &format!("{word:?} is not known; the item became a note"));
        ItemType::Note
    })
}

fn read_facets(value: Option<Value>, notices: &mut Notices) -> Facets {
    let mut fields = Fields::of("facets", value, notices);
    let facets = Facets {
        tags: fields.texts("tags"),
        files: fields.texts("files"),
        symbols: fields.texts("symbols"),
    };
    fields.finish();
    facets
}

fn read_context(value: Option<Value>, notices: &mut Notices) -> Context {
    let mut fields = Fields::of("context", value, notices);
    let range = fields.value("range");
    let mut context = Context {
        repo_id: fields.text("repoId"),
        branch: fields.text("branch"),
        commit: fields.text("commit"),
        tool: fields.text("tool"),
        source: fields.text("source"),
        file: fields.text("file"),
        range: None,
        function: fields.text("function"),
        package: fields.text("package"),
        framework: fields.text("framework"),
    };
    fields.finish();
    if range.is_some() {
        let mut fields = Fields::of("context.range", range, notices);
        let mut line = |key: &str| fields.count(key).and_then(|line| u32::try_from(line).ok());
        match (line("start"), line("end")) {
            (Some(start), Some(end)) if start > 0 && end >= start => {
                context.range = Some(LineRange { start, end });
            }
            _ => fields.adjusted("start", "and end are not lines from 1; the range was left out"),
        }
        fields.finish();
    }
    context
}

#[derive(Default)]
struct ReadQuality {
    pinned: bool,
    ttl_days: Option<f64>,
    expires_at: Option<Timestamp>,
    counters: Counters,
}

fn read_quality(value: Option<Value>, notices: &mut Notices) -> ReadQuality {
    let mut fields = Fields::of("quality", value, notices);
    let mut quality = ReadQuality {
        pinned: fields.flag("pinned").unwrap_or_default(),
        ttl_days: fields.number("ttlDays"),
        expires_at: fields.moment("expiresAt"),
        counters: Counters {
            reuse_count: fields.count("reuseCount").unwrap_or_default(),
            helpful_count: fields.count("helpfulCount").unwrap_or_default(),
            not_helpful_count: fields.count("notHelpfulCount").unwrap_or_default(),
            decayed_usage: fields.number("decayedUsage").unwrap_or_default(),
            decay_updated_at: fields.moment("decayUpdatedAt"),
            last_used_at: fields.moment("lastUsedAt"),
            last_feedback_at: fields.moment("lastFeedbackAt"),
        },
    };
    if quality.ttl_days.is_some_and(|days| crate::item::validate::ttl_days(days).is_err()) {
        fields.adjusted("ttlDays", "is out of range and was left out");
        quality.ttl_days = None;
    }
    let usage = quality.counters.decayed_usage;
    if !usage.is_finite() || usage < 0.0 {
        fields.adjusted("decayedUsage", "is not a usable number and became 0");
        quality.counters.decayed_usage = 0.0;
    }
    fields.discard(&COMPUTED);
    fields.finish();
    quality
}

fn read_security(
    value: Option<Value>,
    notices: &mut Notices,
) -> (Option<Sensitivity>, Vec<Digest>) {
    let mut fields = Fields::of("security", value, notices);
    let sensitivity = fields.text("sensitivity").map(|word| match word.as_str() {
        "public" => Sensitivity::Public,
        "team" => Sensitivity::Team,
        "private" => Sensitivity::Private,
        _ => {
            // What is not understood is protected most.
            fields.adjusted("sensitivity", &format!("{word:?} is not known; it became private"));
            Sensitivity::Private
        }
    });
    let written = fields.texts("secretHashRefs");
    let total = written.len();
    let hashes: Vec<Digest> = written
        .iter()
        .filter_map(|hash| hash.strip_prefix("sha256:").unwrap_or(hash).parse().ok())
        .collect();
    if hashes.len() < total {
        fields.adjusted("secretHashRefs", "has entries that are no SHA-256; they were left out");
    }
    fields.finish();
    (sensitivity, hashes)
}

fn read_links(fields: &mut Fields<'_>, id: &ItemId) -> Vec<Link> {
    let Some(value) = fields.value("links") else { return Vec::new() };
    let Value::Array(values) = value else {
        fields.adjusted("links", "is not a list and was left out");
        return Vec::new();
    };
    let mut links = Vec::with_capacity(values.len());
    for value in values {
        let relation = match value.get("rel").and_then(Value::as_str) {
            Some("refines") => Some(Relation::Refines),
            Some("duplicates") => Some(Relation::Duplicates),
            Some("depends") => Some(Relation::Depends),
            Some("fixes") => Some(Relation::Fixes),
            Some("relates") => Some(Relation::Relates),
            Some(_) | None => None,
        };
        let to = value.get("to").and_then(Value::as_str).and_then(|to| ItemId::new(to).ok());
        match (relation, to) {
            (Some(rel), Some(to)) if to != *id => links.push(Link { rel, to }),
            _ => fields.adjusted("links", &format!("has {value}, which was left out")),
        }
    }
    links
}
