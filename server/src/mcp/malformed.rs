//! What is wrong with requests that are none, although their method is known. rmcp hands these on
//! as if the method were unknown; whoever wrote the client looks for a typing error then, where a
//! parameter is missing.

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CompleteRequestParams, CustomRequest, ErrorCode, GetPromptRequestParams,
    PaginatedRequestParams, ReadResourceRequestParams, SubscriptionsListenRequestParams,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How rmcp begins its refusal of a body that is no message.
const NO_MESSAGE: &str = "fail to deserialize request body ";
/// What it says then of JSON that is none of the messages there are.
const NO_VARIANTS: [&str; 2] = ["unrecognized JSON-RPC message", "did not match any variant"];

/// What to answer to `request`, which could not be read as a request of the protocol.
pub(super) fn answer(request: &CustomRequest) -> ErrorData {
    let params = request.params.clone().unwrap_or_else(|| json!({}));
    let wrong = match request.method.as_str() {
        "tools/call" => wrong::<CallToolRequestParams>(params),
        "resources/read" => wrong::<ReadResourceRequestParams>(params),
        "subscriptions/listen" => wrong::<SubscriptionsListenRequestParams>(params),
        "prompts/get" => wrong::<GetPromptRequestParams>(params),
        "completion/complete" => wrong::<CompleteRequestParams>(params),
        "tools/list" | "resources/list" | "resources/templates/list" | "prompts/list" => {
            wrong::<PaginatedRequestParams>(params)
        }
        // Methods of the older revision alone among them: the newer one must not know these.
        unknown => return ErrorData::new(ErrorCode::METHOD_NOT_FOUND, unknown.to_owned(), None),
    };
    // What is wrong may lie in the metadata, which has been taken out.
    let reason = wrong.unwrap_or_else(|| "params._meta: not of the form that is needed".to_owned());
    ErrorData::invalid_params(reason, None)
}

/// Where `params` are not a `T`, and why.
fn wrong<T: DeserializeOwned>(params: Value) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, T>(params).err()?;
    let path = error.path().to_string();
    let field = if path == "." { "params".to_owned() } else { format!("params.{path}") };
    Some(format!("{field}: {}", error.into_inner()))
}

/// Refuses the cursor of a list that has one page.
pub(super) fn no_cursor(request: Option<&PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor.as_ref()) {
        Some(_) => Err(ErrorData::invalid_params(
            "params.cursor: not one of this server's, whose lists have one page: leave it out",
            None,
        )),
        None => Ok(()),
    }
}

/// The JSON-RPC error in place of rmcp's words about a body that is no message; `None` for what
/// else it refuses.
pub(super) fn body(refusal: &str) -> Option<Value> {
    let reason = refusal.strip_prefix(NO_MESSAGE)?;
    let error = if NO_VARIANTS.iter().any(|words| reason.contains(words)) {
        let reason = "not a message: jsonrpc must be \"2.0\", with a method, or a result or error";
        ErrorData::new(ErrorCode::INVALID_REQUEST, reason, None)
    } else {
        ErrorData::parse_error(format!("not JSON: {reason}"), None)
    };
    Some(json!({"jsonrpc": "2.0", "id": null, "error": error}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(method: &str, params: Value) -> (i32, String) {
        let error = answer(&CustomRequest::new(method, Some(params)));
        (error.code.0, error.message.into_owned())
    }

    #[test]
    fn a_known_method_is_found_and_its_parameter_named() {
        for (method, params, said) in [
            ("tools/call", json!({}), "params: missing field `name`"),
            ("tools/call", json!({"name": "x", "arguments": []}), "params.arguments: invalid type"),
            ("resources/read", json!({}), "params: missing field `uri`"),
            ("prompts/get", json!({"name": 3}), "params.name: invalid type"),
            ("tools/list", json!({"cursor": 3}), "params.cursor: invalid type"),
        ] {
            let (code, message) = answered(method, params);
            assert_eq!(code, -32602, "{message}");
            assert!(message.starts_with(said), "{message}");
        }
        assert_eq!(answered("no/such", json!({})), (-32601, "no/such".to_owned()));
    }

    #[test]
    fn bodies_that_are_no_messages_are_told_in_the_protocols_own_words() {
        let code = |refusal: &str| body(refusal).map(|body| body["error"]["code"].clone());
        let parse = "fail to deserialize request body expected value at line 1 column 1";
        assert_eq!(code(parse), Some(json!(-32700)));
        let other = "fail to deserialize request body unrecognized JSON-RPC message";
        assert_eq!(code(other), Some(json!(-32600)));
        assert_eq!(code("Unsupported Media Type"), None);
    }
}
