//! What comes of a job.

use serde_json::{Value, json};

use super::job::{JobFailure, JobState};
use crate::exit::Exit;
use crate::tools::ToolError;

/// Longest list kept in a result; a job that pruned a million memories need not name them all.
const MAX_LIST: usize = 1000;

/// Longest result kept, as JSON.
const MAX_BYTES: usize = 256 << 10;

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) state: JobState,
    pub(crate) summary: Option<String>,
    pub(crate) result: Option<Value>,
    pub(crate) error: Option<JobFailure>,
}

impl Outcome {
    /// The operation answered `result`, of which `worst` is the worst: what it found is for a
    /// person to look at, but the job did its work.
    pub(super) fn answered(worst: Exit, summary: String, mut result: Value) -> Self {
        shorten(&mut result);
        let bytes = result.to_string().len();
        if bytes > MAX_BYTES {
            // Every job that is kept is in memory too.
            result = json!({ "omitted": format!(
                "the result takes {bytes} bytes, of which {MAX_BYTES} are kept at most: ask for \
                 one scope, or read the report of a routine in the folder reports"
            )});
        }
        let state = if worst == Exit::Done { JobState::Succeeded } else { JobState::Finding };
        Self { state, summary: Some(summary), result: Some(result), error: None }
    }

    /// The operation failed.
    pub(super) fn failed(code: &str, message: String) -> Self {
        let error = JobFailure { code: code.to_owned(), message };
        Self { state: JobState::Failed, summary: None, result: None, error: Some(error) }
    }
}

impl From<ToolError> for Outcome {
    fn from(error: ToolError) -> Self {
        Self::failed(error.code(), error.to_string())
    }
}

/// Cuts long lists, and says so in their last entry.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(entries) => {
            let cut = entries.len().saturating_sub(MAX_LIST);
            if cut > 0 {
                entries.truncate(MAX_LIST);
                entries.push(format!("and {cut} more").into());
            }
            entries.iter_mut().for_each(shorten);
        }
        Value::Object(members) => members.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_is_too_long_says_where_it_is_whole() {
        let scopes: serde_json::Map<String, Value> = (0..5000)
            .map(|n| (format!("local/p{n}"), json!({"checkedCount": 1, "x": "y".repeat(50)})))
            .collect();
        let outcome = Outcome::answered(Exit::Done, "done".to_owned(), Value::Object(scopes));
        let kept = outcome.result.unwrap().to_string();
        assert!(kept.len() < 1000 && kept.contains("reports"), "{kept}");
    }

    #[test]
    fn long_lists_are_cut_wherever_they_stand() {
        let mut value = json!({"a": {"list": vec![1; MAX_LIST + 3]}, "b": [1]});
        shorten(&mut value);
        let list = value["a"]["list"].as_array().unwrap();
        assert_eq!((list.len(), &list[MAX_LIST]), (MAX_LIST + 1, &json!("and 3 more")));
        assert_eq!(value["b"], json!([1]));
    }
}
