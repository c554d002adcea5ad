//! Fixture tools that need input from the client in the stateless protocol: they answer
//! `input_required`, and the client calls again with what was asked for.

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ContentBlock, InputRequest,
    InputRequiredResult, RequestStateCodec,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Answer;

pub(super) const TOOLS: [(&str, &str); 9] = [
    ("test_input_required_result_elicitation", "Needs a name."),
    ("test_input_required_result_sampling", "Needs an answer of the client's model."),
    ("test_input_required_result_list_roots", "Needs the client's roots."),
    ("test_input_required_result_request_state", "Needs a confirmation and its state back."),
    ("test_input_required_result_multiple_inputs", "Needs three things at once."),
    ("test_input_required_result_multi_round", "Needs two things, one after the other."),
    ("test_input_required_result_tampered_state", "Refuses a state that was changed."),
    ("test_input_required_result_capabilities", "Needs only what the client can give."),
    ("test_streaming_elicitation", "Needs a name, over a stream."),
];

/// What a multi-round tool remembers through the client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    tool: String,
    round: u32,
}

/// One call of a tool of this module.
struct Round<'a> {
    states: &'a RequestStateCodec,
    request: &'a CallToolRequestParams,
    capabilities: ClientCapabilities,
}

pub(super) fn call(
    states: &RequestStateCodec,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Option<Answer> {
    TOOLS.iter().find(|(name, _)| *name == request.name)?;
    let capabilities = context.client_capabilities().unwrap_or_default();
    Some(Round { states, request, capabilities }.answer())
}

impl Round<'_> {
    fn answer(&self) -> Answer {
        match self.request.name.as_ref() {
            "test_input_required_result_elicitation" | "test_streaming_elicitation" => {
                match self.elicited("user_name", "name").and_then(Value::as_str) {
                    Some(name) => done(format!("Hello, {name}!")),
                    None => ask([("user_name", name_wanted())], None),
                }
            }
            "test_input_required_result_sampling" => match self.response("capital_question") {
                Some(answer) => done(format!("The model said: {}", sampled(answer))),
                None => {
                    ask([("capital_question", question("What is the capital of France?"))], None)
                }
            },
            "test_input_required_result_list_roots" => {
                match self.response("client_roots").and_then(|all| all.get("roots")) {
                    Some(roots) => done(format!("The client's roots: {roots}")),
                    None => ask([("client_roots", roots_wanted())], None),
                }
            }
            "test_input_required_result_request_state" => {
                match (self.state()?, self.response("confirm")) {
                    (Some(_), Some(_)) => done("state-ok".to_owned()),
                    _ => ask([("confirm", confirmation_wanted())], Some(self.seal(1)?)),
                }
            }
            "test_input_required_result_multiple_inputs" => {
                let all = ["user_name", "greeting", "client_roots"];
                let complete = all.iter().all(|key| self.response(key).is_some());
                match self.state()? {
                    Some(_) if complete => done("All three arrived.".to_owned()),
                    _ => ask(
                        [
                            ("user_name", name_wanted()),
                            ("greeting", question("Generate a greeting")),
                            ("client_roots", roots_wanted()),
                        ],
                        Some(self.seal(1)?),
                    ),
                }
            }
            "test_input_required_result_multi_round" => self.rounds(),
            "test_input_required_result_tampered_state" => match self.state()? {
                Some(_) => done("The state is as it was.".to_owned()),
                None => ask([("confirm", confirmation_wanted())], Some(self.seal(1)?)),
            },
            "test_input_required_result_capabilities" => {
                if self.request.input_responses.is_some() {
                    return done("Thank you.".to_owned());
                }
                let mut wanted = Vec::new();
                if self.capabilities.sampling.is_some() {
                    wanted.push(("question", question("What is the capital of France?")));
                }
                if self.capabilities.elicitation.is_some() {
                    wanted.push(("user_name", name_wanted()));
                }
                if self.capabilities.roots.is_some() {
                    wanted.push(("client_roots", roots_wanted()));
                }
                if wanted.is_empty() {
                    return done("The client can give nothing.".to_owned());
                }
                ask(wanted, None)
            }
            _ => Err(ErrorData::internal_error("fixture without an answer", None)),
        }
    }

    fn rounds(&self) -> Answer {
        match self.state()? {
            Some(State { round: 1, .. }) if self.response("step1").is_some() => ask(
                [("step2", text_wanted("Step 2: What is your favorite color?", "color"))],
                Some(self.seal(2)?),
            ),
            Some(State { round: 2, .. }) if self.response("step2").is_some() => {
                done("Both steps are done.".to_owned())
            }
            _ => ask(
                [("step1", text_wanted("Step 1: What is your name?", "name"))],
                Some(self.seal(1)?),
            ),
        }
    }

    /// What the client answered to the request called `key`.
    fn response(&self, key: &str) -> Option<&Value> {
        self.request.input_responses.as_ref()?.get(key).filter(|answer| answer.is_object())
    }

    /// A member of an accepted form.
    fn elicited(&self, key: &str, member: &str) -> Option<&Value> {
        let answer = self.response(key)?;
        (answer.get("action").is_some_and(|action| action == "accept"))
            .then(|| answer.pointer(&format!("/content/{member}")))
            .flatten()
    }

    /// The state that came back; an error when it is not one of ours.
    fn state(&self) -> Result<Option<State>, ErrorData> {
        let Some(sealed) = &self.request.request_state else { return Ok(None) };
        let state: State = self.states.open_json(sealed).map_err(|error| {
            ErrorData::invalid_params(format!("requestState was changed: {error}"), None)
        })?;
        if state.tool == self.request.name {
            Ok(Some(state))
        } else {
            Err(ErrorData::invalid_params("requestState belongs to another tool", None))
        }
    }

    fn seal(&self, round: u32) -> Result<String, ErrorData> {
        let state = State { tool: self.request.name.to_string(), round };
        self.states
            .seal_json(&state)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }
}

fn done(text: String) -> Answer {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

pub(super) fn wanted<'a>(
    requests: impl IntoIterator<Item = (&'a str, Value)>,
    state: Option<String>,
) -> Result<InputRequiredResult, ErrorData> {
    let requests = requests
        .into_iter()
        .map(|(key, request)| {
            serde_json::from_value::<InputRequest>(request)
                .map(|request| (key.to_owned(), request))
                .map_err(|error| ErrorData::internal_error(format!("fixture: {error}"), None))
        })
        .collect::<Result<_, _>>()?;
    Ok(InputRequiredResult::new(Some(requests), state))
}

fn ask<'a>(requests: impl IntoIterator<Item = (&'a str, Value)>, state: Option<String>) -> Answer {
    wanted(requests, state).map(Into::into)
}

fn form(message: &str, properties: &Value, required: &str) -> Value {
    json!({
        "method": "elicitation/create",
        "params": {
            "mode": "form",
            "message": message,
            "requestedSchema": {
                "type": "object", "properties": properties, "required": [required],
            },
        },
    })
}

pub(super) fn text_wanted(message: &str, member: &str) -> Value {
    let mut properties = serde_json::Map::new();
    properties.insert(member.to_owned(), json!({"type": "string"}));
    form(message, &Value::Object(properties), member)
}

fn name_wanted() -> Value {
    text_wanted("What is your name?", "name")
}

fn confirmation_wanted() -> Value {
    form("Please confirm", &json!({"ok": {"type": "boolean"}}), "ok")
}

fn question(text: &str) -> Value {
    json!({
        "method": "sampling/createMessage",
        "params": {
            "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
            "maxTokens": 100,
        },
    })
}

fn roots_wanted() -> Value {
    json!({"method": "roots/list", "params": {}})
}

fn sampled(answer: &Value) -> String {
    answer.pointer("/content/text").and_then(Value::as_str).unwrap_or_default().to_owned()
}
