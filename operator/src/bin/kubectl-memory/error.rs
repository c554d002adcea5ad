//! What can go wrong, each with the object it happened to and what to do about it.

use std::fmt::Display;

use thiserror::Error;

use crate::exit::Exit;

/// Why a command did not do what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The named object is not there.
    #[error("{object} was not found in namespace {namespace}: {remedy}")]
    NotFound {
        /// Kind and name.
        object: String,
        /// Where it was looked for.
        namespace: String,
        /// What to do.
        remedy: String,
    },
    /// The cluster does not know the resource.
    #[error(
        "the cluster does not know {kind}: install the chart llm-memory-crds, or choose another cluster with --context"
    )]
    UnknownResource {
        /// Kind of the resource.
        kind: String,
    },
    /// The API server refuses the user.
    #[error(
        "not allowed to {action}: {message}. Ask for that permission, or choose another user with --context"
    )]
    Forbidden {
        /// Verb and object.
        action: String,
        /// The API server's words.
        message: String,
    },
    /// The user's credentials are not accepted.
    #[error("not signed in to the cluster, so cannot {action}: {message}. Renew the credentials")]
    Unauthorized {
        /// Verb and object.
        action: String,
        /// The API server's words.
        message: String,
    },
    /// The API server answered with another error.
    #[error("cannot {action}: {message}")]
    Api {
        /// Verb and object.
        action: String,
        /// The API server's words.
        message: String,
    },
    /// No usable answer came.
    #[error("cannot {action}: {source}. Is the cluster reachable? `kubectl cluster-info` tells")]
    Unreachable {
        /// Verb and object.
        action: String,
        /// What broke.
        source: Box<kube::Error>,
    },
    /// There is no usable kubeconfig.
    #[error("the kubeconfig cannot be used: {0}. Check KUBECONFIG, --kubeconfig and --context")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Neither a kubeconfig nor a service account.
    #[error("no cluster is configured: {0}. Set KUBECONFIG, or give --kubeconfig")]
    NoCluster(#[from] kube::config::InferConfigError),
    /// What was waited for did not happen.
    #[error("gave up after {waited} waiting for {what}; last seen: {seen}. {remedy}")]
    Timeout {
        /// How long.
        waited: String,
        /// For what.
        what: String,
        /// The state it was in.
        seen: String,
        /// What to do.
        remedy: String,
    },
    /// The store is in a state in which the command makes no sense.
    #[error("{object}: {reason}")]
    Refused {
        /// Kind and name.
        object: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A local file or socket failed.
    #[error("{what}: {source}")]
    Local {
        /// File or address, and what was done with it.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Standard output was closed.
    #[error("standard output: {0}")]
    Output(#[source] std::io::Error),
    /// Something cannot be written as JSON or YAML.
    #[error("cannot write the answer: {0}")]
    Encoding(String),
}

impl Failure {
    /// Whether asking again later may help.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Api { .. })
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            // Whoever closed the pipe has seen enough.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
            _ => Exit::Failed,
        }
    }
}

/// An object that a request is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object<'a> {
    /// Its kind.
    pub(crate) kind: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// What to do when it is not there.
    pub(crate) missing: &'a str,
}

impl Object<'_> {
    /// Turns what the client says into a failure that names this object.
    pub(crate) fn failed(&self, verb: impl Display, error: kube::Error) -> Failure {
        let action = format!("{verb} {} {}/{}", self.kind, self.namespace, self.name);
        match error {
            kube::Error::Api(status) if status.code == 404 => {
                // An unknown resource is a 404 as well, but one without a name.
                let named = status.details.as_ref().is_some_and(|it| !it.name.is_empty());
                if named || status.message.contains(self.name) {
                    Failure::NotFound {
                        object: format!("{} {}", self.kind, self.name),
                        namespace: self.namespace.to_owned(),
                        remedy: self.missing.to_owned(),
                    }
                } else {
                    Failure::UnknownResource { kind: self.kind.to_owned() }
                }
            }
            other => failed(action, other),
        }
    }
}

/// Turns what the client says into a failure of `action`.
pub(crate) fn failed(action: impl Into<String>, error: kube::Error) -> Failure {
    let action = action.into();
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            Failure::Forbidden { action, message: status.message.clone() }
        }
        kube::Error::Api(status) if status.code == 401 => {
            Failure::Unauthorized { action, message: status.message.clone() }
        }
        kube::Error::Api(status) => {
            let message = if status.message.is_empty() {
                status.reason.clone()
            } else {
                status.message.clone()
            };
            Failure::Api { action, message }
        }
        other => Failure::Unreachable { action, source: Box::new(other) },
    }
}

/// Whether the client says that there is nothing of that name or of that resource. By the code: of a
/// group that it does not know, an API server gives no reason.
pub(crate) fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an API server says of a group that it does not serve is no JSON.
    fn no_such_group() -> kube::Error {
        let status =
            kube::core::Status::failure("404 page not found", "Failed to parse error data");
        kube::Error::Api(status.with_code(404).boxed())
    }

    #[test]
    fn a_cluster_without_the_resource_is_told_from_one_without_the_object() {
        assert!(is_absent(&no_such_group()));
        let object =
            Object { kind: "memorystore", name: "mem", namespace: "prod", missing: "create it" };
        let failure = object.failed("read", no_such_group());
        assert!(matches!(failure, Failure::UnknownResource { .. }), "{failure}");
        let status = kube::core::Status::failure("memorystores \"mem\" not found", "NotFound");
        let failure = object.failed("read", kube::Error::Api(status.with_code(404).boxed()));
        assert!(matches!(failure, Failure::NotFound { .. }), "{failure}");
    }
}
