//! The two Services: MCP for agents; health and metrics for the cluster.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Input, metadata, text};
use crate::names::{HEALTH_PORT, METRICS_PORT};

pub(super) fn services(input: &Input<'_>) -> [Service; 2] {
    let names = &input.store.names;
    let selector = Some(names.selector());
    let port = |name: &str, port: i32| ServicePort {
        name: Some(text(name)),
        port,
        target_port: Some(IntOrString::String(text(name))),
        protocol: Some(text("TCP")),
        ..ServicePort::default()
    };
    let mcp = Service {
        metadata: metadata(input, names.main(), "server"),
        spec: Some(ServiceSpec {
            selector: selector.clone(),
            type_: Some(text("ClusterIP")),
            ports: Some(vec![ServicePort {
                // So that meshes and gateways know what they carry.
                app_protocol: Some(text(if input.reached.tls.is_some() {
                    "https"
                } else {
                    "http"
                })),
                ..port("mcp", input.store.spec.mcp.port)
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    let metrics = Service {
        metadata: metadata(input, names.metrics(), "metrics"),
        spec: Some(ServiceSpec {
            selector,
            cluster_ip: Some(text("None")),
            // A server that is not ready is what one wants to look at.
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![port("health", HEALTH_PORT), port("metrics", METRICS_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    [mcp, metrics]
}
