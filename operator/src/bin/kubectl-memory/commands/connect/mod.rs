//! `connect`: the store's MCP port on this machine, with the configuration for a client.

mod client;
mod forward;
mod secure;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use llm_memory_crds::memory_store::AuthMode;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::client::{Client, Endpoint};
use self::secure::Secure;
use super::token::{self, Account};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::printer::Format;
use crate::{names, units};

/// Flags of `connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore
    name: String,
    /// Port on this machine; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Client to print the configuration for
    #[arg(long, value_enum, default_value_t)]
    client: Client,
    /// Name of the static token
    #[arg(long, default_value = "default", conflicts_with = "service_account")]
    token: String,
    /// Use a token of a ServiceAccount: `serviceaccount/NAME` or just its name
    #[arg(long = "serviceaccount", value_name = "ACCOUNT", value_parser = bare_account)]
    service_account: Option<Account>,
    /// How long the ServiceAccount's token is valid
    #[arg(long, value_parser = units::duration, default_value = "8h")]
    duration: Duration,
}

/// As [`token::account`]; here the word may be left out, since the flag says it.
fn bare_account(text: &str) -> Result<Account, String> {
    if text.contains('/') { token::account(text) } else { token::account(&format!("sa/{text}")) }
}

/// Forwards until it is stopped.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let name = &args.name;
    let store = context.store(name).await?;
    if store.spec.replicas == 0 {
        return Err(Failure::Refused {
            object: format!("memorystore {name}"),
            reason: format!("it is hibernated. `kubectl memory wake {name}` starts its pod"),
        });
    }
    let token = match &args.service_account {
        Some(account) => token::request(context, &store, account, args.duration).await?.token,
        None if store.spec.mcp.auth.mode == AuthMode::None => None,
        None => Some(token::fixed(context, &store, name, &args.token).await?),
    };
    let target = target(context, name, store.spec.mcp.port).await?;
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await;
    let bound = listener.and_then(|it| it.local_addr().map(|address| (it, address)));
    let (listener, address) = bound.map_err(|source| Failure::Local {
        what: format!("cannot listen on 127.0.0.1:{}; choose another --port", args.port),
        source,
    })?;

    let endpoint = Endpoint { name, url: format!("http://{address}/mcp"), token };
    let secure = store.spec.tls.as_ref().map(|tls| {
        let secret = tls.secret_name.clone().unwrap_or_else(|| names::certificate(name));
        Secure::new(context, name, secret)
    });
    if secure.is_some() {
        context.printer.note(
            "the store speaks TLS, and its certificate names its Service, not 127.0.0.1: it is checked here, and the client speaks plain HTTP on this machine",
        );
    }
    match context.printer.format {
        Format::Table => context.printer.data(&endpoint.configuration(args.client)?)?,
        Format::Json | Format::Yaml => {
            let data = json!({ "url": endpoint.url, "token": endpoint.token });
            context.printer.answer(&data, String::new)?;
        }
    }
    context.printer.note(&format!("forwarding {address} to memorystore {name}; Ctrl-C ends it"));
    let mut terminate = signal(SignalKind::terminate()).map_err(|source| Failure::Local {
        what: "cannot listen for signals".to_owned(),
        source,
    })?;
    tokio::select! {
        () = forward::serve(context, name, listener, target, secure) => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(Exit::Done)
}

/// The port of the pod behind the MCP port of the Service.
async fn target(context: &Context, name: &str, service_port: i32) -> Result<u16, Failure> {
    let pod = names::pod(name);
    let missing = "the operator makes it; `kubectl memory status` shows whether it could";
    let (services, pods) = (context.api::<Service>(), context.api::<Pod>());
    let (service, found) = tokio::join!(services.get(name), pods.get(&pod));
    let service =
        service.map_err(|error| context.object("service", name, missing).failed("read", error))?;
    let found =
        found.map_err(|error| context.object("pod", &pod, missing).failed("read", error))?;
    container_port(&service, &found, service_port).ok_or_else(|| Failure::Refused {
        object: format!("service {name}"),
        reason: format!(
            "its port {service_port} leads to no port of pod {pod}. Wait until the operator has applied spec.mcp.port"
        ),
    })
}

fn container_port(service: &Service, pod: &Pod, service_port: i32) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|it| it.port == service_port)?;
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.as_ref()?.containers.iter();
            let mut ports = containers.filter_map(|it| it.ports.as_ref()).flatten();
            ports.find(|it| it.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn service(target: &serde_json::Value) -> Service {
        let ports = json!([{ "name": "mcp", "port": 80, "targetPort": target }]);
        serde_json::from_value(json!({ "metadata": { "name": "mem" }, "spec": { "ports": ports } }))
            .unwrap()
    }

    #[test]
    fn the_port_of_the_pod_is_found_through_the_service() {
        let pod = fixtures::pod();
        assert_eq!(container_port(&service(&json!("mcp")), &pod, 80), Some(3000));
        assert_eq!(container_port(&service(&json!(3100)), &pod, 80), Some(3100));
        assert_eq!(container_port(&service(&json!(null)), &pod, 80), Some(80));
        assert_eq!(container_port(&service(&json!("other")), &pod, 80), None);
        assert_eq!(container_port(&service(&json!("mcp")), &pod, 3000), None);
    }
}
