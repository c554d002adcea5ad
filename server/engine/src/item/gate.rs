//! Which scopes accept an item: every path by which one can enter a scope (upsert, edit, merge,
//! sync, import) asks [`admit`].

use std::fmt;

use super::Sensitivity;
use crate::error::EngineError;
use crate::ids::Scope;

impl Sensitivity {
    /// The word used in arguments and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Team => "team",
            Self::Private => "private",
        }
    }
}

impl fmt::Display for Sensitivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scope does not accept an item because of its sensitivity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sensitivity {sensitivity} exceeds {ceiling}")]
pub struct Refused {
    /// Sensitivity of the item.
    pub sensitivity: Sensitivity,
    /// The most that the scope accepts.
    pub ceiling: Sensitivity,
}

impl From<Refused> for EngineError {
    fn from(refused: Refused) -> Self {
        Self::invalid(
            "sensitivity",
            format!(
                "{} exceeds {}, the most that this committed scope accepts: write the item with \
                 a lower sensitivity, leave it in the local scope, or raise sharing.sensitivity in the scope's \
                 configuration",
                refused.sensitivity, refused.ceiling
            ),
        )
    }
}

/// Sensitivity of a new item in `scope` that names none, where the scope's `sharing.sensitivity`
/// is `ceiling`: team in committed scopes (lower where only that is accepted), private elsewhere.
#[must_use]
pub fn default_sensitivity(scope: Scope, ceiling: Sensitivity) -> Sensitivity {
    match scope {
        Scope::Committed => Sensitivity::Team.min(ceiling),
        Scope::Global | Scope::Local => Sensitivity::Private,
    }
}

/// Whether `scope`, whose `sharing.sensitivity` is `ceiling`, accepts an item of `sensitivity`.
/// Only committed scopes are shared and so only they refuse.
///
/// # Errors
/// [`Refused`], which says by how much.
pub fn admit(scope: Scope, sensitivity: Sensitivity, ceiling: Sensitivity) -> Result<(), Refused> {
    match scope {
        Scope::Committed if sensitivity > ceiling => Err(Refused { sensitivity, ceiling }),
        Scope::Committed | Scope::Global | Scope::Local => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_committed_scopes_refuse() {
        for scope in [Scope::Global, Scope::Local] {
            assert_eq!(admit(scope, Sensitivity::Private, Sensitivity::Public), Ok(()));
        }
        let refused = admit(Scope::Committed, Sensitivity::Private, Sensitivity::Team).unwrap_err();
        assert_eq!(refused.to_string(), "sensitivity private exceeds team");
        assert_eq!(admit(Scope::Committed, Sensitivity::Team, Sensitivity::Team), Ok(()));
    }

    #[test]
    fn the_default_is_always_accepted() {
        for scope in Scope::LOOKUP_ORDER {
            for ceiling in [Sensitivity::Public, Sensitivity::Team, Sensitivity::Private] {
                assert_eq!(admit(scope, default_sensitivity(scope, ceiling), ceiling), Ok(()));
            }
        }
    }
}
