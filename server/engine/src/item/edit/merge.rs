//! `memory.merge`: several items become one.

use super::{Edited, Editor, MAX_BATCH};
use crate::api::{MergeRequest, MergeStrategy};
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, Version};
use crate::item::validate::MAX_FACETS;
use crate::item::{Content, Facets, Link};

impl Editor<'_> {
    /// Joins `sources` (in the order of the request) into `target`, the stored item that the
    /// request names as its target, if it exists.
    ///
    /// Title, language, type, context and life time are the target's, or the first source's
    /// where there is no target or it lacks them. Facets and links are united; the result is as
    /// sensitive as the most sensitive of all, and pinned if one of them is. Nothing of the
    /// target is lost: it takes part in joining texts, before the sources.
    ///
    /// # Errors
    /// The request is out of bounds, or what comes out is (its size, its sensitivity).
    pub fn merge(
        &self,
        sources: &[&Content],
        target: Option<&Content>,
        request: &MergeRequest,
    ) -> Result<Edited> {
        if sources.is_empty() || sources.len() > MAX_BATCH {
            return Err(EngineError::invalid(
                "sourceIds",
                format!("{} items: give 1 to {MAX_BATCH}", sources.len()),
            ));
        }
        for (position, id) in request.source_ids.iter().enumerate() {
            if request.source_ids.iter().take(position).any(|earlier| earlier == id) {
                return Err(EngineError::invalid(
                    format!("sourceIds[{position}]"),
                    format!("{id} is named twice: name each source once"),
                ));
            }
        }
        let mut all: Vec<&Content> = Vec::with_capacity(sources.len() + 1);
        if let Some(target) = target
            && !sources.iter().any(|source| source.id == target.id)
        {
            all.push(target);
        }
        all.extend(sources);
        let Some(base) = target.or(all.first().copied()) else {
            return Err(EngineError::invalid("sourceIds", "give 1 to 100 items"));
        };
        let id = request.target_id.clone().unwrap_or_else(|| base.id.clone());
        let stored = all.iter().copied().find(|content| content.id == id);

        let mut warnings = Vec::new();
        let strategy = request.strategy;
        let mut draft = base.clone();
        draft.id = id;
        draft.scope = request.scope;
        if draft.title.is_empty()
            && let Some(titled) = all.iter().find(|content| !content.title.is_empty())
        {
            draft.title.clone_from(&titled.title);
        }
        draft.text = join(&all, strategy, |content| &content.text, distinct_lines);
        draft.code = join(&all, strategy, |content| &content.code, distinct_blocks);
        if draft.language.is_none() {
            draft.language = all.iter().find_map(|content| content.language.clone());
        }
        draft.facets = unite_facets(&all, &mut warnings);
        draft.links = unite_links(&all, &draft.id, request);
        draft.pinned = all.iter().any(|content| content.pinned);
        if let Some(most) = all.iter().map(|content| content.sensitivity).max() {
            draft.sensitivity = most;
        }
        draft.secret_hash_refs =
            all.iter().flat_map(|content| content.secret_hash_refs.iter().copied()).collect();
        if stored.is_none() {
            draft.version = Version(0);
            draft.created_at = self.now;
            draft.updated_at = self.now;
            self.actor.clone_into(&mut draft.provenance.created_by);
        }
        self.finish(stored, draft, warnings)
    }
}

fn join(
    all: &[&Content],
    strategy: MergeStrategy,
    field: impl Fn(&Content) -> &String,
    deduplicate: impl Fn(&[&str]) -> String,
) -> String {
    let filled = || all.iter().copied().filter(|content| !field(content).trim().is_empty());
    let texts: Vec<&str> = filled().map(|content| field(content).as_str()).collect();
    match strategy {
        MergeStrategy::Concat => texts.join("\n\n"),
        MergeStrategy::Deduplicate => deduplicate(&texts),
        MergeStrategy::PrioritizeFirst => texts.first().copied().unwrap_or_default().to_owned(),
        MergeStrategy::PrioritizeRecent => filled()
            // `max_by_key` takes the last of equals; the first is meant.
            .rev()
            .max_by_key(|content| content.updated_at)
            .map(|content| field(content).clone())
            .unwrap_or_default(),
    }
}

/// The distinct lines of all texts in order of first appearance; blank lines, which separate
/// paragraphs, are kept but never doubled.
fn distinct_lines(texts: &[&str]) -> String {
    if let [only] = texts {
        return (*only).to_owned();
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut out: Vec<&str> = Vec::new();
    for text in texts {
        for line in text.lines() {
            let key = line.trim();
            if key.is_empty() {
                if out.last().is_some_and(|last| !last.is_empty()) {
                    out.push("");
                }
            } else if seen.insert(key) {
                out.push(line);
            }
        }
    }
    while out.last().is_some_and(|last| last.is_empty()) {
        out.pop();
    }
    out.join("\n")
}

/// Each code that the ones before it do not contain. Single lines of code repeat for good
/// reasons (a closing brace), so only whole blocks are compared, without regard to indentation.
fn distinct_blocks(texts: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut kept_lines: Vec<Vec<&str>> = Vec::new();
    for text in texts {
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let known = kept_lines
            .iter()
            .any(|earlier| earlier.windows(lines.len().max(1)).any(|window| window == lines));
        if !known {
            kept.push(text.trim_end());
            kept_lines.push(lines);
        }
    }
    if let ([only], [_]) = (texts, kept.as_slice()) {
        return (*only).to_owned();
    }
    kept.join("\n\n")
}

fn unite_facets(all: &[&Content], warnings: &mut Vec<String>) -> Facets {
    let mut unite = |name: &str, field: fn(&Facets) -> &Vec<String>| -> Vec<String> {
        let mut united: Vec<String> = Vec::new();
        for entry in all.iter().flat_map(|content| field(&content.facets)) {
            if !united.contains(entry) {
                united.push(entry.clone());
            }
        }
        if united.len() > MAX_FACETS {
            warnings.push(format!(
                "the sources have {} {name} together; the first {MAX_FACETS} were kept",
                united.len()
            ));
            united.truncate(MAX_FACETS);
        }
        united
    };
    Facets {
        tags: unite("tags", |facets| &facets.tags),
        files: unite("files", |facets| &facets.files),
        symbols: unite("symbols", |facets| &facets.symbols),
    }
}

/// All links, except those that would point at the result itself or at a source that is deleted
/// in the same step.
fn unite_links(all: &[&Content], result: &ItemId, request: &MergeRequest) -> Vec<Link> {
    let vanishes = |id: &ItemId| request.delete_source && request.source_ids.contains(id);
    let mut united: Vec<Link> = Vec::new();
    for link in all.iter().flat_map(|content| &content.links) {
        if link.to != *result && !vanishes(&link.to) && !united.contains(link) {
            united.push(link.clone());
        }
    }
    united
}
