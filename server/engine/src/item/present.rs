//! Stored content as readers see it: counters become quality, hashes are attached.

use super::confidence::{self, ConfidenceConfig};
use super::{Content, Counters, Item, Quality, Security, Summary};
use crate::ids::{Digest, Timestamp};

/// The item that `content` is for a reader at `now`.
#[must_use]
pub fn present(
    content: Content,
    counters: &Counters,
    hash: Digest,
    now: Timestamp,
    config: &ConfidenceConfig,
) -> Item {
    let quality = Quality {
        confidence: confidence::evaluate(&content, counters, now, config),
        pinned: content.pinned,
        ttl_days: content.ttl_days,
        expires_at: content.expires_at,
        counters: *counters,
    };
    Item {
        id: content.id,
        item_type: content.item_type,
        scope: content.scope,
        title: content.title,
        text: content.text,
        code: content.code,
        language: content.language,
        facets: content.facets,
        context: content.context,
        quality,
        security: Security {
            sensitivity: content.sensitivity,
            secret_hash_refs: content.secret_hash_refs,
            flags: content.flags,
        },
        links: content.links,
        provenance: content.provenance,
        created_at: content.created_at,
        updated_at: content.updated_at,
        version: content.version,
        hash,
    }
}

/// What lists show of `content` at `now`.
#[must_use]
pub fn summarize(
    content: &Content,
    counters: &Counters,
    now: Timestamp,
    config: &ConfidenceConfig,
) -> Summary {
    Summary {
        id: content.id.clone(),
        item_type: content.item_type,
        scope: content.scope,
        title: content.title.clone(),
        tags: content.facets.tags.clone(),
        files: content.facets.files.clone(),
        symbols: content.facets.symbols.clone(),
        confidence: confidence::evaluate(content, counters, now, config),
        pinned: content.pinned,
        created_at: content.created_at,
        updated_at: content.updated_at,
        version: content.version,
    }
}

impl From<&Item> for Summary {
    fn from(item: &Item) -> Self {
        Self {
            id: item.id.clone(),
            item_type: item.item_type,
            scope: item.scope,
            title: item.title.clone(),
            tags: item.facets.tags.clone(),
            files: item.facets.files.clone(),
            symbols: item.facets.symbols.clone(),
            confidence: item.quality.confidence,
            pinned: item.quality.pinned,
            created_at: item.created_at,
            updated_at: item.updated_at,
            version: item.version,
        }
    }
}

impl Item {
    /// The stored content of the item: everything its hash covers.
    #[must_use]
    pub fn into_content(self) -> Content {
        Content {
            id: self.id,
            item_type: self.item_type,
            scope: self.scope,
            title: self.title,
            text: self.text,
            code: self.code,
            language: self.language,
            facets: self.facets,
            context: self.context,
            pinned: self.quality.pinned,
            ttl_days: self.quality.ttl_days,
            expires_at: self.quality.expires_at,
            sensitivity: self.security.sensitivity,
            secret_hash_refs: self.security.secret_hash_refs,
            flags: self.security.flags,
            links: self.links,
            provenance: self.provenance,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::fixtures;

    #[test]
    fn presenting_loses_nothing_of_the_content() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let content = fixtures::full("x-1", now);
        let config = ConfidenceConfig::default();
        let item = present(content.clone(), &Counters::default(), Digest::of(b"x"), now, &config);
        assert_eq!(Summary::from(&item), summarize(&content, &Counters::default(), now, &config));
        assert_eq!(item.into_content(), content);
    }
}
