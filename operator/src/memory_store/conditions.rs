//! Conditions as metav1 wants them: one of each type, whose transition time changes only when its
//! status does. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message; the API server takes 32,768 bytes, people read less.
const MAX_MESSAGE: usize = 1024;

/// What is true of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

impl Truth {
    /// The word of metav1.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One condition, before it meets its former self.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// Why, for programs.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Now {
    /// A condition.
    pub fn new(
        kind: &'static str,
        truth: impl Into<Truth>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, truth: truth.into(), reason, message: message.into() }
    }
}

/// The list of conditions that follows `before`.
pub fn merge(
    before: &[Condition],
    now: Vec<Now>,
    generation: i64,
    at: Timestamp,
) -> Vec<Condition> {
    now.into_iter()
        .map(|now| {
            let former = before.iter().find(|condition| condition.type_ == now.kind);
            let status = now.truth.as_str();
            let since = former
                .filter(|former| former.status == status)
                .map_or(Time(whole_second(at)), |former| former.last_transition_time.clone());
            Condition {
                type_: now.kind.to_owned(),
                status: status.to_owned(),
                reason: now.reason.to_owned(),
                message: now.message.chars().take(MAX_MESSAGE).collect(),
                observed_generation: Some(generation),
                last_transition_time: since,
            }
        })
        .collect()
}

/// Conditions whose status or reason changed, with whether they are new.
pub fn changed<'a>(before: &[Condition], now: &'a [Condition]) -> Vec<&'a Condition> {
    now.iter()
        .filter(|now| {
            before
                .iter()
                .find(|former| former.type_ == now.type_)
                .is_none_or(|former| former.status != now.status || former.reason != now.reason)
        })
        .collect()
}

/// Times in objects have whole seconds; a part of one would look like a change.
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_changes_only_with_the_status() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let ready = |truth: bool, reason| vec![Now::new("Ready", truth, reason, "")];
        let first = merge(&[], ready(false, "NoPod"), 1, at("2026-01-01T00:00:00.5Z"));
        assert_eq!(first[0].last_transition_time.0, at("2026-01-01T00:00:00Z"));
        let second = merge(&first, ready(false, "PodNotReady"), 2, at("2026-01-01T00:00:05Z"));
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(second[0].observed_generation, Some(2));
        assert_eq!(changed(&first, &second).len(), 1);
        let third = merge(&second, ready(true, "Serving"), 2, at("2026-01-01T00:00:09Z"));
        assert_eq!(third[0].last_transition_time.0, at("2026-01-01T00:00:09Z"));
        assert!(changed(&third, &third.clone()).is_empty());
    }
}
