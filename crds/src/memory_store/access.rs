//! Where agents reach a store, and who may.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::video::words;

/// Where agents reach a store, and who may.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct McpSpec {
    /// Port of the Service.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Path of the endpoint, for an Ingress that passes its own path on. The server answers at
    /// `/mcp` too, whatever this says.
    #[serde(default = "path")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^(/[A-Za-z0-9_~.-]*[A-Za-z0-9_~-][A-Za-z0-9_~.-]*)+$') && !self.matches('^/(api|[.]well-known)(/|$)')")
        .message("mcp.path must be like /mcp or /teams/web/memory: letters, digits and -._~ between slashes, not under /api or /.well-known"))]
    pub path: String,
    /// Address under which agents outside the cluster reach the store, for the OAuth metadata,
    /// such as `https://memory.example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('https://') || self.startsWith('http://')")
        .message("mcp.publicUrl must begin with https:// or http://"))]
    pub public_url: Option<String>,
    /// Host names that the server answers to besides those of its Service; needed when an Ingress
    /// passes the original name on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 300)))]
    #[x_kube(validation = Rule::new("self.all(host, host == '*' || host.matches('^[^/*?@, ]+$'))")
        .message("mcp.allowedHosts must be names or addresses with or without a port, such as memory.example.org or 10.0.0.5:3000, or * for any"))]
    pub allowed_hosts: Vec<String>,
    /// Origins from which browsers may call, such as `https://app.example.org`; `:*` at the end is
    /// any port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 300)))]
    #[x_kube(validation = Rule::new("self.all(origin, origin == 'null' || origin.matches('^[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9._-]+|\\\\[[0-9A-Fa-f:.]+\\\\])((:[0-9]{1,5})?/?|:[*])$'))")
        .message("mcp.allowedOrigins must be scheme and host, such as https://app.example.org:8443, or http://localhost:* for any port"))]
    pub allowed_origins: Vec<String>,
    /// Who may call.
    #[serde(default)]
    pub auth: AuthSpec,
}

impl Default for McpSpec {
    fn default() -> Self {
        Self {
            port: port(),
            path: path(),
            public_url: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            auth: AuthSpec::default(),
        }
    }
}

const fn port() -> i32 {
    3000
}

fn path() -> String {
    "/mcp".to_owned()
}

/// Who may call.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.mode == 'OIDC') == has(self.oidc)")
        .message("mcp.auth.oidc and mcp.auth.mode OIDC belong together: set both, or neither"),
    validation = Rule::new("!has(self.tokens) || self.tokens.all(token, self.tokens.exists_one(other, other.name == token.name))")
        .message("mcp.auth.tokens must have different names"),
    validation = Rule::new("!has(self.secretName) || !has(self.tokens)")
        .message("mcp.auth.secretName and mcp.auth.tokens exclude each other: bring your own token file, or let the operator make tokens"),
)]
pub struct AuthSpec {
    /// Token takes static tokens and ServiceAccount tokens; OIDC takes these and the tokens of an
    /// identity provider; None takes everybody whom the network lets in.
    #[serde(default)]
    pub mode: AuthMode,
    /// Audience that ServiceAccount tokens must be made for. Whoever runs a store is shown the
    /// tokens of its callers: give stores of people who do not trust each other audiences of their
    /// own.
    #[serde(default = "audience")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]+$')")
        .message("mcp.auth.audience must be a name without spaces, such as llm-memory"))]
    pub audience: String,
    /// ServiceAccounts that may call, and what they may do. An account that is not listed is
    /// refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub service_accounts: Vec<ServiceAccountMapping>,
    /// Static tokens that the operator makes, in the Secret `<name>-tokens`. Existing ones are
    /// never overwritten. Left out: one token named `default` with the role agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub tokens: Option<Vec<TokenSpec>>,
    /// A Secret with a token file of your own (`tokens.json`, as `llm-memory token create` writes
    /// it), instead of tokens that the operator makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Tokens made before this moment are replaced; the former ones stay valid for the overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_at: Option<Time>,
    /// Minutes that former tokens stay valid after a rotation.
    #[serde(default = "a_day")]
    #[schemars(range(min = 0, max = 525_600))]
    pub rotate_overlap_minutes: i32,
    /// The identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcSpec>,
}

impl Default for AuthSpec {
    fn default() -> Self {
        Self {
            mode: AuthMode::default(),
            audience: audience(),
            service_accounts: Vec::new(),
            tokens: None,
            secret_name: None,
            rotate_at: None,
            rotate_overlap_minutes: a_day(),
            oidc: None,
        }
    }
}

fn audience() -> String {
    "llm-memory".to_owned()
}

const fn a_day() -> i32 {
    1440
}

/// Which callers are taken.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Static and ServiceAccount tokens.
    #[default]
    Token,
    /// These, and the tokens of an identity provider.
    #[serde(rename = "OIDC")]
    Oidc,
    /// Everybody.
    None,
}

words! {
    /// What a caller may do.
    #[derive(PartialOrd, Ord)]
    Role {
        /// Everything.
        Admin = "admin",
        /// Maintenance.
        Operator = "operator",
        /// Health, figures and reports.
        Monitor = "monitor",
        /// Approval of guarded changes.
        Approver = "approver",
        /// Memories.
        Agent = "agent",
    }
}

words! {
    /// Where memories lie.
    #[derive(PartialOrd, Ord)]
    Scope {
        /// Shared by all projects.
        Global = "global",
        /// Of one project.
        Local = "local",
        /// Of one project, shared by its team.
        Committed = "committed",
    }
}

/// What an identity may do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Roles held. Left out: agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub roles: Vec<Role>,
    /// Projects allowed. Left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    // `\w`, since the API server's budget for a rule counts the letters of its expression.
    #[x_kube(validation = Rule::new("self.all(project, project.matches('^[\\\\w-][\\\\w.-]*$'))")
        .message("projects must be names of 1 to 64 letters, digits and ._- that do not begin with a dot, such as web-shop"))]
    pub projects: Option<Vec<String>>,
    /// Scopes that may be read. Left out: all, or those of `write` when that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    pub read: Option<Vec<Scope>>,
    /// Scopes that may be written. Left out: all, or none when `read` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    pub write: Option<Vec<Scope>>,
    /// Tenant whose memories are seen. Tenants share nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_-][A-Za-z0-9._-]*$')")
        .message("tenant must be a name of 1 to 63 letters, digits and ._- that does not begin with a dot, such as acme"))]
    pub tenant: Option<String>,
}

/// A ServiceAccount that may call.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountMapping {
    /// Its namespace. Left out: that of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("a serviceAccount's namespace must be the name of one: lower-case letters, digits and inner hyphens"))]
    pub namespace: Option<String>,
    /// Its name; `*` is every account of the namespace. The first that matches counts: an account
    /// comes before the `*` of its namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == '*' || self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("a serviceAccount's name must be the name of one (lower-case letters, digits, and inner hyphens and dots), or * for every account of the namespace"))]
    pub name: String,
    /// What it may do.
    #[serde(flatten)]
    pub access: Access,
}

/// A static token that the operator makes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    /// Its name, and its key in the Secret.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("a token's name must consist of lower-case letters, digits and inner hyphens"))]
    pub name: String,
    /// From this moment on it is refused, until the moment is put off. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// What it may do.
    #[serde(flatten)]
    pub access: Access,
}

/// An identity provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OidcSpec {
    /// Issuer, exactly as tokens name it; an `https` address, inside the cluster too.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^https://(\\\\[[0-9A-Fa-f:.]+\\\\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[!#-;=?-Z_a-z~]*)?$')")
        .message("oidc.issuer must be an https:// address, inside the cluster too: whoever can change the issuer's answers can let anybody in. oidc.caConfigMap names an authority of your own"))]
    pub issuer: String,
    /// Audience that tokens must be made for.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]+$')")
        .message("oidc.audience must have no spaces: write it as the identity provider does"))]
    pub audience: String,
    /// Where the keys are, an `https` address. Left out, the issuer's discovery document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^https://(\\\\[[0-9A-Fa-f:.]+\\\\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[!#-;=?-Z_a-z~]*)?$')")
        .message("oidc.jwksUrl must be an https:// address: whoever can change the keys can let anybody in"))]
    pub jwks_url: Option<String>,
    /// ConfigMap of this namespace with the authority (`ca.crt`) of the issuer's certificate.
    /// Left out, the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub ca_config_map: Option<String>,
    /// Who may call, and what they may do. The first that matches counts.
    #[schemars(length(min = 1, max = 256))]
    pub subjects: Vec<OidcSubject>,
}

/// Callers of an identity provider: one subject, or all whose claim has a value.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.subject) ? (!has(self.claim) && !has(self.value)) : (has(self.claim) && has(self.value))")
    .message("each of oidc.subjects has either subject, or claim and value"))]
pub struct OidcSubject {
    /// Subject of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub subject: Option<String>,
    /// Claim to look at, such as groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub claim: Option<String>,
    /// Value that the claim has, or that its list contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub value: Option<String>,
    /// What they may do.
    #[serde(flatten)]
    pub access: Access,
}
