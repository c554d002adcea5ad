//! Fixture prompts.

use rmcp::ErrorData;
use rmcp::model::{
    ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, Prompt,
    PromptArgument, PromptMessage, ResourceContents, Role,
};
use serde_json::Value;

use super::{PNG, input};

/// Name, description, required arguments.
const PROMPTS: [(&str, &str, &[&str]); 5] = [
    ("test_simple_prompt", "A prompt without arguments.", &[]),
    ("test_prompt_with_arguments", "A prompt with two arguments.", &["arg1", "arg2"]),
    ("test_prompt_with_embedded_resource", "A prompt with a resource.", &["resourceUri"]),
    ("test_prompt_with_image", "A prompt with an image.", &[]),
    ("test_input_required_result_prompt", "A prompt that needs input.", &[]),
];

pub(super) fn list() -> Vec<Prompt> {
    PROMPTS
        .iter()
        .map(|(name, description, arguments)| {
            let arguments = arguments
                .iter()
                .map(|argument| {
                    PromptArgument::new(*argument)
                        .with_description("An argument.")
                        .with_required(true)
                })
                .collect::<Vec<_>>();
            let arguments = (!arguments.is_empty()).then_some(arguments);
            Prompt::new(*name, Some(*description), arguments)
        })
        .collect()
}

pub(super) fn get(
    request: &GetPromptRequestParams,
) -> Option<Result<GetPromptResponse, ErrorData>> {
    let argument = |name: &str| {
        let arguments = request.arguments.as_ref();
        arguments.and_then(|all| all.get(name)).and_then(Value::as_str).unwrap_or_default()
    };
    let said = |text: &str| PromptMessage::new_text(Role::User, text);
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![said("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => vec![said(&format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        ))],
        "test_prompt_with_embedded_resource" => vec![
            PromptMessage::new(
                Role::User,
                ContentBlock::resource(ResourceContents::text(
                    "Embedded resource content for testing.",
                    argument("resourceUri"),
                )),
            ),
            said("Please process the embedded resource above."),
        ],
        "test_prompt_with_image" => vec![
            PromptMessage::new(Role::User, ContentBlock::image(PNG, "image/png")),
            said("Please analyze the image above."),
        ],
        "test_input_required_result_prompt" => {
            let answered = request.input_responses.as_ref();
            let context = answered
                .and_then(|all| all.get("user_context"))
                .and_then(|answer| answer.pointer("/content/context"))
                .and_then(Value::as_str);
            let Some(context) = context else {
                let question = "What context should the prompt use?";
                let asked = [("user_context", input::text_wanted(question, "context"))];
                return Some(input::wanted(asked, None).map(Into::into));
            };
            vec![said(&format!("The context is: {context}"))]
        }
        _ => return None,
    };
    Some(Ok(GetPromptResult::new(messages).into()))
}
