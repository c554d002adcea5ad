//! What each operation makes of an item. Pure: whether items exist, and which versions are
//! stored, is the store's to know.
//!
//! Every edit ends in the same steps, so that none can be gone round: normal form, redaction,
//! the write guard, bounds, the sensitivity gate of the scope. An edit that leaves the content
//! as it was is reported as no change and makes no version.

mod merge;
#[cfg(test)]
mod tests;

use super::guardrail;
use super::redaction::{Cleaned, Redactor, remember_hashes};
use super::{Content, Counters, Link, Provenance, Sensitivity, confidence, gate, validate};
use crate::api::{
    AppendField, AppendRequest, LinkRequest, PatchField, PatchRequest, TagRequest, UpsertRequest,
};
use crate::config::ScopeConfig;
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, Scope, Timestamp, Version};

/// Most operations of one patch, and most sources of one merge.
const MAX_BATCH: usize = 100;

/// Applies operations under the rules of one scope, for one caller, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Editor<'a> {
    /// Subject written into provenance.
    pub actor: &'a str,
    /// The moment of the write.
    pub now: Timestamp,
    /// Longest title, text and code together, bytes.
    pub max_item_bytes: usize,
    /// Configuration of the scope that is written to.
    pub config: &'a ScopeConfig,
    /// Takes secrets out.
    pub redactor: &'a Redactor,
}

/// What an edit made.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// The content now; when nothing changed, the stored content.
    pub content: Content,
    /// Whether it differs from what was stored, so that there is something to write.
    pub changed: bool,
    /// Secrets taken out.
    pub redactions: usize,
    /// Whether a replacement text stands in the content, so that the hashes of what it replaced
    /// must stay with it.
    pub marked: bool,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// Checks that the stored version is the one the caller expects; `Version(0)` stands for no item.
///
/// # Errors
/// [`EngineError::VersionConflict`].
pub fn expect_version(id: &ItemId, expected: Option<Version>, actual: Version) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => {
            Err(EngineError::VersionConflict { id: id.clone(), expected, actual })
        }
        Some(_) | None => Ok(()),
    }
}

/// What an upsert leaves as it is of the stored item that it replaces, since its request does not
/// say it. Everything else that the request leaves out is emptied.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent parts of an item")]
pub struct Keep {
    /// Hashes of redacted secrets: the new content still shows where one was.
    pub secrets: bool,
    /// Links.
    pub links: bool,
    /// Life time and end of life.
    pub life: bool,
    /// Sensitivity.
    pub sensitivity: bool,
}

impl Keep {
    /// Puts `next`, made as if for a new item, in the place of `stored` at `now`.
    ///
    /// Of `stored` a skeleton without texts is enough; its links and hashes are looked at only
    /// when they are kept.
    ///
    /// # Errors
    /// The scope does not accept the kept sensitivity: it may have come to accept less than
    /// `ceiling` since the item was stored.
    pub fn carry_over(
        self,
        next: &mut Content,
        stored: &Content,
        ceiling: Sensitivity,
        now: Timestamp,
    ) -> Result<()> {
        next.created_at = stored.created_at;
        next.provenance.created_by.clone_from(&stored.provenance.created_by);
        if self.secrets {
            remember_hashes(next, &stored.secret_hash_refs);
        }
        if self.links {
            next.links.clone_from(&stored.links);
        }
        if self.life {
            (next.ttl_days, next.expires_at) = (stored.ttl_days, stored.expires_at);
        }
        if next.expires_at.is_none_or(|end| end <= now) {
            // Writing an item whose life was over starts it again.
            next.expires_at = next.ttl_days.map(|days| now.plus_days(days));
        }
        if self.sensitivity {
            next.sensitivity = stored.sensitivity;
            gate::admit(next.scope, next.sensitivity, ceiling)?;
        }
        Ok(())
    }
}

/// Whether two contents differ at most in version, time and author of the last write.
#[must_use]
pub fn says_the_same(next: &Content, stored: &Content) -> bool {
    let mut next = next.clone();
    next.version = stored.version;
    next.updated_at = stored.updated_at;
    next.provenance.updated_by.clone_from(&stored.provenance.updated_by);
    next == *stored
}

impl Editor<'_> {
    /// `memory.upsert`, as if the item were new, and what it leaves as it is of an item that is
    /// stored under its id: see [`Keep::carry_over`].
    ///
    /// # Errors
    /// The request or what it makes is out of bounds, or the scope does not accept the
    /// sensitivity.
    pub fn upsert(&self, request: UpsertRequest) -> Result<(Edited, Keep)> {
        let mut keep = Keep {
            secrets: false,
            links: request.links.is_none(),
            life: request.ttl_days.is_none(),
            sensitivity: request.sensitivity.is_none(),
        };
        let mut warnings = Vec::new();
        if let Some(confidence) = request.confidence {
            if !(0.0..=1.0).contains(&confidence) {
                return Err(EngineError::invalid(
                    "confidence",
                    format!("{confidence} is out of range: use 0 to 1, or leave it out"),
                ));
            }
            warnings.push(
                "confidence is computed from use and feedback; the given value is ignored"
                    .to_owned(),
            );
        }
        let item_type = request.item_type;
        let (ttl_days, expires_at) =
            self.life(request.ttl_days.or(self.config.ttl.for_new(item_type)))?;
        let sensitivity = request.sensitivity.unwrap_or_else(|| {
            gate::default_sensitivity(request.scope, self.config.sharing.sensitivity)
        });
        let draft = Content {
            id: request.id.unwrap_or_else(ItemId::generate),
            item_type,
            scope: request.scope,
            title: request.title,
            text: request.text,
            code: request.code,
            language: request.language,
            facets: super::Facets {
                tags: request.tags,
                files: request.files,
                symbols: request.symbols,
            },
            context: request.context.unwrap_or_default(),
            pinned: request.pinned,
            ttl_days,
            expires_at,
            sensitivity,
            secret_hash_refs: Vec::new(),
            flags: Vec::new(),
            links: request.links.unwrap_or_default(),
            provenance: Provenance {
                created_by: self.actor.to_owned(),
                updated_by: self.actor.to_owned(),
            },
            created_at: self.now,
            updated_at: self.now,
            version: Version(0),
        };
        let edited = self.finish(None, draft, warnings)?;
        keep.secrets = edited.marked;
        Ok((edited, keep))
    }

    /// `memory.patch`.
    ///
    /// # Errors
    /// As [`Editor::upsert`]; also when a text to replace is not found, unless the request says
    /// to skip such operations.
    pub fn patch(&self, stored: &Content, request: &PatchRequest) -> Result<Edited> {
        expect_version(&stored.id, request.if_version, stored.version)?;
        bounded("operations", request.operations.len())?;
        let mut draft = stored.clone();
        let mut warnings = Vec::new();
        for (position, operation) in request.operations.iter().enumerate() {
            let place = format!("operations[{position}].old");
            if operation.old.is_empty() {
                return Err(EngineError::invalid(place, "is empty: give the text to replace"));
            }
            let (name, field) = match operation.field {
                PatchField::Title => ("title", &mut draft.title),
                PatchField::Text => ("text", &mut draft.text),
                PatchField::Code => ("code", &mut draft.code),
            };
            if field.contains(&operation.old) {
                *field = field.replacen(&operation.old, &operation.new, 1);
            } else if request.skip_unmatched {
                warnings.push(format!("{place} was not found in {name} and was skipped"));
            } else {
                return Err(EngineError::invalid(
                    place,
                    format!(
                        "{} was not found in {name} of version {}, nothing was changed: read the \
                         item and quote the text exactly, or set skipUnmatched",
                        excerpt(&operation.old),
                        stored.version
                    ),
                ));
            }
        }
        self.finish(Some(stored), draft, warnings)
    }

    /// `memory.append`.
    ///
    /// # Errors
    /// As [`Editor::upsert`].
    pub fn append(&self, stored: &Content, request: &AppendRequest) -> Result<Edited> {
        if request.content.is_empty() {
            return Err(EngineError::invalid("content", "is empty: give the text to add"));
        }
        let mut draft = stored.clone();
        let field = match request.field {
            AppendField::Text => &mut draft.text,
            AppendField::Code => &mut draft.code,
        };
        if !field.is_empty() {
            field.push_str(request.separator.as_deref().unwrap_or("\n\n"));
        }
        field.push_str(&request.content);
        self.finish(Some(stored), draft, Vec::new())
    }

    /// `memory.tag`.
    ///
    /// # Errors
    /// As [`Editor::upsert`]; also when a tag is to be both added and removed.
    pub fn tag(&self, stored: &Content, request: &TagRequest) -> Result<Edited> {
        if request.add.is_empty() && request.remove.is_empty() {
            return Err(EngineError::invalid("add", "give tags to add or to remove"));
        }
        let trimmed = |tags: &[String]| -> Vec<String> {
            tags.iter().map(|tag| tag.trim().to_owned()).collect()
        };
        let (add, remove) = (trimmed(&request.add), trimmed(&request.remove));
        if let Some(both) = add.iter().find(|tag| remove.contains(tag)) {
            return Err(EngineError::invalid(
                "remove",
                format!("{} is also in add: name it in one of them", excerpt(both)),
            ));
        }
        let mut draft = stored.clone();
        draft.facets.tags.retain(|tag| !remove.contains(tag));
        draft.facets.tags.extend(add);
        self.finish(Some(stored), draft, Vec::new())
    }

    /// `memory.link` on the item that points. Whether the target exists is the store's to check.
    ///
    /// # Errors
    /// As [`Editor::upsert`].
    pub fn link(&self, stored: &Content, request: &LinkRequest) -> Result<Edited> {
        if request.to == stored.id {
            return Err(EngineError::invalid(
                "to",
                "an item cannot be linked to itself: name another item",
            ));
        }
        let link = Link { rel: request.rel, to: request.to.clone() };
        let mut draft = stored.clone();
        draft.links.retain(|existing| *existing != link);
        if !request.remove {
            if stored.links.contains(&link) {
                draft.links.clone_from(&stored.links);
            } else {
                draft.links.push(link);
            }
        }
        self.finish(Some(stored), draft, Vec::new())
    }

    /// `memory.pin` and `memory.unpin`.
    ///
    /// # Errors
    /// As [`Editor::upsert`].
    pub fn pin(&self, stored: &Content, pinned: bool) -> Result<Edited> {
        self.finish(Some(stored), Content { pinned, ..stored.clone() }, Vec::new())
    }

    /// `memory.renew`: life begins again, of `ttl_days`, else the item's own length, else the
    /// scope's default.
    ///
    /// # Errors
    /// As [`Editor::upsert`].
    pub fn renew(&self, stored: &Content, ttl_days: Option<f64>) -> Result<Edited> {
        let days = ttl_days.or(stored.ttl_days).unwrap_or(self.config.ttl.renew_days);
        let (ttl_days, expires_at) = self.life(Some(days))?;
        let draft = Content { ttl_days, expires_at, ..stored.clone() };
        self.finish(Some(stored), draft, Vec::new())
    }

    /// A copy of `source` in `scope` (`project.sync.merge`), over the item stored there, if any.
    /// Times and creator stay those of the source, so that the two compare as equally new.
    ///
    /// # Errors
    /// As [`Editor::upsert`].
    pub fn copy(&self, source: &Content, stored: Option<&Content>, scope: Scope) -> Result<Edited> {
        let draft = Content { scope, ..source.clone() };
        let moment = source.updated_at;
        let mut edited = self.finish(stored, draft, Vec::new())?;
        edited.changed |= edited.content.updated_at != moment;
        edited.content.updated_at = moment;
        Ok(edited)
    }

    /// Content that comes from elsewhere whole (import): as it is, under the rules of its scope.
    ///
    /// # Errors
    /// As [`Editor::upsert`].
    pub fn import(&self, stored: Option<&Content>, content: &Content) -> Result<Edited> {
        self.copy(content, stored, content.scope)
    }

    fn life(&self, days: Option<f64>) -> Result<(Option<f64>, Option<Timestamp>)> {
        match days {
            None => Ok((None, None)),
            Some(days) => {
                validate::ttl_days(days)?;
                Ok((Some(days), Some(self.now.plus_days(days))))
            }
        }
    }

    /// The steps that every edit ends in.
    fn finish(
        &self,
        stored: Option<&Content>,
        mut draft: Content,
        mut warnings: Vec<String>,
    ) -> Result<Edited> {
        if stored.is_none() && self.redactor.is_secret(draft.id.as_str()) {
            return Err(EngineError::invalid(
                "id",
                "looks like a secret, and ids are not redacted: choose another id",
            ));
        }
        let new = |link: &Link| stored.is_none_or(|stored| !stored.links.contains(link));
        for (position, link) in draft.links.iter().enumerate() {
            if new(link) && self.redactor.is_secret(link.to.as_str()) {
                return Err(EngineError::invalid(
                    format!("links[{position}].to"),
                    "looks like a secret, and ids are not redacted: link another item",
                ));
            }
        }
        validate::normalise(&mut draft);
        let Cleaned { redactions, marked } = self.redactor.redact_content(&mut draft);
        if redactions > 0 {
            // Several redacted entries are one entry now.
            validate::normalise_facets(&mut draft.facets);
        }
        validate::check(&draft, self.max_item_bytes)?;
        gate::admit(draft.scope, draft.sensitivity, self.config.sharing.sensitivity)?;
        let findings = guardrail::inspect(&draft);
        draft.flags = guardrail::flags(&findings);
        warnings.extend(findings.iter().map(ToString::to_string));

        let Some(stored) = stored else {
            draft.version = Version(1);
            self.actor.clone_into(&mut draft.provenance.updated_by);
            return Ok(Edited { content: draft, changed: true, redactions, marked, warnings });
        };
        let changed = !says_the_same(&draft, stored);
        if changed {
            draft.version = stored.version.next();
            // Versions are ordered in time even when the clock was set back between them.
            draft.updated_at = self.now.max(stored.updated_at);
            self.actor.clone_into(&mut draft.provenance.updated_by);
        } else {
            draft.clone_from(stored);
        }
        Ok(Edited { content: draft, changed, redactions, marked, warnings })
    }
}

fn bounded(field: &str, count: usize) -> Result<()> {
    if (1..=MAX_BATCH).contains(&count) {
        return Ok(());
    }
    Err(EngineError::invalid(field, format!("{count} entries: give 1 to {MAX_BATCH}")))
}

/// The beginning of `text`, quoted, for an error message.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

impl Counters {
    /// Adds what `other` counted, as `memory.merge` does with its sources.
    pub fn absorb(&mut self, other: &Self, now: Timestamp) {
        let config = confidence::ConfidenceConfig::default();
        self.decayed_usage = confidence::decayed_usage(self, now, &config)
            + confidence::decayed_usage(other, now, &config);
        self.decay_updated_at = Some(now);
        self.reuse_count = self.reuse_count.saturating_add(other.reuse_count);
        self.helpful_count = self.helpful_count.saturating_add(other.helpful_count);
        self.not_helpful_count = self.not_helpful_count.saturating_add(other.not_helpful_count);
        self.last_used_at = self.last_used_at.max(other.last_used_at);
        self.last_feedback_at = self.last_feedback_at.max(other.last_feedback_at);
    }
}
