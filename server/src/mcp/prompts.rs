//! The prompt `check-memory`: what is known about a task, as text to begin it with.

use std::fmt::Write as _;
use std::sync::Arc;

use rmcp::model::{
    GetPromptRequestParams, GetPromptResult, Prompt, PromptArgument, PromptMessage, Role,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};

use crate::mcp::Shared;
use crate::mcp::calls::{self, Control};
use crate::mcp::errors::Failure;
use crate::mcp::origin::Origin;
use crate::tools;

const NAME: &str = "check-memory";
/// Items shown.
const LIMIT: u64 = 10;
/// Items below are not worth a reader's time. A fresh item has 0.475 and is shown.
const MIN_CONFIDENCE: f64 = 0.4;
/// Code longer than this is cut to [`CODE_SHOWN`] characters.
const CODE_WHOLE: usize = 500;
const CODE_SHOWN: usize = 400;
/// Prose is cut likewise; the item can be read whole.
const TEXT_SHOWN: usize = 1200;

pub(crate) fn list() -> Vec<Prompt> {
    let arguments = vec![
        PromptArgument::new("task")
            .with_description("What you are about to do.")
            .with_required(true),
        PromptArgument::new("files")
            .with_description("Files it touches, separated by commas.")
            .with_required(false),
        PromptArgument::new("context")
            .with_description("Anything else that matters.")
            .with_required(false),
    ];
    vec![
        Prompt::new(NAME, Some("What is remembered about a task."), Some(arguments))
            .with_title("Check memory"),
    ]
}

pub(crate) async fn get(
    shared: &Arc<Shared>,
    origin: &Origin,
    context: &RequestContext<RoleServer>,
    request: GetPromptRequestParams,
) -> Result<GetPromptResult, ErrorData> {
    if request.name != NAME {
        return Err(ErrorData::invalid_params(
            format!("unknown prompt {:?}: there is {NAME}", request.name),
            None,
        ));
    }
    let arguments = request.arguments.unwrap_or_default();
    let text = |name: &str| {
        arguments.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    };
    let Some(task) = text("task") else {
        return Err(ErrorData::invalid_params("task: is required: what you are about to do", None));
    };
    let files = text("files").map(|files| files.replace(',', " "));
    let query = search_words(&[Some(task), text("context"), files.as_deref()]);
    let Some(tool) = tools::find("memory_query") else {
        return Err(ErrorData::internal_error("there is no search", None));
    };
    let mut asked = Map::new();
    asked.insert("q".to_owned(), query.into());
    asked.insert("k".to_owned(), LIMIT.into());
    asked.insert("filters".to_owned(), json!({"confidence": {"min": MIN_CONFIDENCE}}));
    let found = calls::run(shared, origin, Control::of(context), tool, NAME, asked)
        .await
        .map_err(Failure::into_error)?;
    let message = PromptMessage::new_text(Role::User, render(task, &found));
    let mut result = GetPromptResult::new(vec![message]);
    result.description = Some(format!("What is remembered about: {task}"));
    Ok(result)
}

/// The words of all parts as a query without operators, within the length that a query may have.
fn search_words(parts: &[Option<&str>]) -> String {
    let joined = parts.iter().flatten().copied().collect::<Vec<_>>().join(" ");
    let words = joined
        .split_whitespace()
        .map(|word| word.trim_start_matches('-').replace('"', " "))
        .collect::<Vec<_>>()
        .join(" ");
    words.chars().take(4000).collect()
}

fn render(task: &str, found: &Value) -> String {
    let mut out = format!("# What memory knows about: {task}\n\n");
    let hits = found.get("items").and_then(Value::as_array);
    let hits = hits.map(Vec::as_slice).unwrap_or_default();
    if hits.is_empty() {
        out.push_str(
            "Nothing is remembered about this yet. Store what you learn with memory_upsert.\n",
        );
        return out;
    }
    for hit in hits {
        render_hit(&mut out, hit);
    }
    out.push_str(
        "Use what applies, and say memory_use or memory_feedback for items that helped or misled. \
         An item cut short can be read whole with memory_get.\n",
    );
    out
}

fn render_hit(out: &mut String, hit: &Value) {
    let text = |name: &str| hit.get(name).and_then(Value::as_str).unwrap_or_default();
    let title = match text("title") {
        "" => text("id"),
        title => title,
    };
    let confidence = hit.pointer("/quality/confidence").and_then(Value::as_f64).unwrap_or_default();
    // Writing into a String cannot fail.
    let _ = writeln!(out, "## {title}");
    let _ = writeln!(
        out,
        "{} in {}, id `{}`, confidence {confidence:.2}\n",
        text("type"),
        text("scope"),
        text("id")
    );
    if !text("text").is_empty() {
        let _ = writeln!(out, "{}\n", cut(text("text"), TEXT_SHOWN, TEXT_SHOWN));
    }
    if !text("code").is_empty() {
        let code = cut(text("code"), CODE_WHOLE, CODE_SHOWN);
        let fence = fence_for(&code);
        let _ = writeln!(out, "{fence}{}\n{code}\n{fence}\n", text("language"));
    }
}

/// `text` whole when it has up to `whole` characters, otherwise the first `shown` of them.
fn cut(text: &str, whole: usize, shown: usize) -> String {
    if text.chars().count() <= whole {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(shown).collect();
    out.push_str(" ...");
    out
}

/// A fence longer than any in the code, so that stored code cannot end it.
fn fence_for(code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(longest.saturating_add(1).max(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_in_a_task_are_only_words() {
        assert_eq!(
            search_words(&[Some("fix -the \"bug"), None, Some("a.rs")]),
            "fix the  bug a.rs"
        );
    }

    #[test]
    fn long_code_is_cut_and_cannot_leave_its_fence() {
        let found = json!({"items": [{
            "id": "1", "title": "T", "type": "snippet", "scope": "local", "language": "rust",
            "code": format!("```\n{}", "x".repeat(600)), "quality": {"confidence": 0.475},
        }]});
        let text = render("t", &found);
        assert!(text.contains("````rust\n```"), "{text}");
        assert!(text.contains("confidence 0.47") || text.contains("confidence 0.48"), "{text}");
        assert!(!text.contains(&"x".repeat(401)), "{text}");
    }

    #[test]
    fn nothing_found_is_said() {
        assert!(render("t", &json!({"items": []})).contains("Nothing is remembered"));
    }
}
