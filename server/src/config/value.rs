//! The kinds of values a setting may have, and their one way of being written as text
//! (environment, flags) and as JSON (file).

use std::net::IpAddr;

use serde_json::Value;

/// What a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Yes or no.
    Switch,
    /// A whole number within bounds, both included.
    Number {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// One of some words. `alias -> word` pairs are accepted and turned into the word.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Other spellings.
        aliases: &'static [(&'static str, &'static str)],
    },
    /// A file or folder; in the configuration file relative to that file.
    Path,
    /// Any text that is not empty.
    Text,
    /// Several texts; separated by commas where there is only text.
    List,
    /// An IP address.
    Address,
}

impl Kind {
    /// The value written as `text`; the error says what would be right.
    pub fn parse_text(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        match self {
            Self::Switch => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(Value::Bool(true)),
                "false" | "0" | "no" | "off" => Ok(Value::Bool(false)),
                _ => Err(format!("{text:?} is not {}", self.expected())),
            },
            Self::Number { .. } => text
                .parse::<u64>()
                .map_err(|_| format!("{text:?} is not {}", self.expected()))
                .and_then(|number| self.bounded(number)),
            Self::List => Ok(Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(Value::from)
                    .collect(),
            )),
            Self::Choice { .. } | Self::Path | Self::Text | Self::Address => self.word(text),
        }
    }

    /// The value given as JSON; the error says what would be right.
    pub fn parse_json(self, value: &Value) -> Result<Value, String> {
        let wrong = || format!("{value} is not {}", self.expected());
        match self {
            Self::Switch => value.as_bool().map(Value::Bool).ok_or_else(wrong),
            Self::Number { .. } => {
                value.as_u64().ok_or_else(wrong).and_then(|number| self.bounded(number))
            }
            Self::List => {
                let texts = value.as_array().ok_or_else(wrong)?;
                if texts.iter().all(Value::is_string) { Ok(value.clone()) } else { Err(wrong()) }
            }
            Self::Choice { .. } | Self::Path | Self::Text | Self::Address => {
                value.as_str().ok_or_else(wrong).and_then(|text| self.word(text))
            }
        }
    }

    fn bounded(self, number: u64) -> Result<Value, String> {
        if let Self::Number { min, max } = self
            && !(min..=max).contains(&number)
        {
            return Err(format!("{number} is not {}", self.expected()));
        }
        Ok(Value::from(number))
    }

    fn word(self, text: &str) -> Result<Value, String> {
        let wrong = || format!("{text:?} is not {}", self.expected());
        match self {
            Self::Choice { words, aliases } => {
                let folded = text.to_ascii_lowercase();
                let named = aliases.iter().find(|(alias, _)| *alias == folded);
                let folded = named.map_or(folded.as_str(), |(_, word)| word);
                let found = words.iter().find(|word| word.eq_ignore_ascii_case(folded));
                found.map(|word| Value::from(*word)).ok_or_else(wrong)
            }
            Self::Address => {
                text.parse::<IpAddr>().map(|ip| Value::from(ip.to_string())).map_err(|_| wrong())
            }
            Self::Switch | Self::Number { .. } | Self::Path | Self::Text | Self::List => {
                if text.is_empty() { Err(wrong()) } else { Ok(Value::from(text)) }
            }
        }
    }

    /// What is accepted, as the end of "is not ...".
    pub fn expected(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Number { min, max: u64::MAX } => format!("a whole number from {min}"),
            Self::Number { min, max } => format!("a whole number from {min} to {max}"),
            Self::Choice { words, .. } => format!("one of {}", words.join(", ")),
            Self::Path => "a path".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::List => "a list of texts".to_owned(),
            Self::Address => "an IP address (such as 127.0.0.1 or ::)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LEVEL: Kind = Kind::Choice { words: &["L", "Q"], aliases: &[("low", "L")] };

    #[test]
    fn text_and_json_of_the_same_value_agree() {
        for (kind, text, value) in [
            (Kind::Switch, "yes", json!(true)),
            (Kind::Number { min: 0, max: 9 }, " 7 ", json!(7)),
            (Kind::List, "a, b,,c", json!(["a", "b", "c"])),
            (Kind::Address, "::1", json!("::1")),
            (LEVEL, "l", json!("L")),
            (LEVEL, "LOW", json!("L")),
        ] {
            let parsed = kind.parse_text(text).unwrap();
            assert_eq!(parsed, value);
            assert_eq!(kind.parse_json(&parsed).unwrap(), value);
        }
    }

    #[test]
    fn refusals_say_what_is_expected() {
        let port = Kind::Number { min: 0, max: 65_535 };
        assert_eq!(
            port.parse_text("70000").unwrap_err(),
            "70000 is not a whole number from 0 to 65535"
        );
        assert_eq!(
            port.parse_json(&json!("80")).unwrap_err(),
            "\"80\" is not a whole number from 0 to 65535"
        );
        assert_eq!(LEVEL.parse_text("x").unwrap_err(), "\"x\" is not one of L, Q");
        assert!(Kind::Text.parse_text("  ").is_err());
        assert!(Kind::Address.parse_text("localhost").is_err());
        assert!(Kind::List.parse_json(&json!(["a", 1])).is_err());
    }
}
