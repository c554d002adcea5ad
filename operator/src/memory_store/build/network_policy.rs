//! Who may connect to the server, and where it may connect to. Everything else is denied, where
//! the cluster's network enforces policies.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use llm_memory_crds::memory_store::AuthMode;

use super::{Input, metadata, text};
use crate::names::{HEALTH_PORT, MCP_PORT, METRICS_PORT};

pub(super) fn network_policy(input: &Input<'_>) -> Option<NetworkPolicy> {
    let (names, network) = (&input.store.names, &input.store.spec.network);
    if !network.enabled {
        return None;
    }
    // The operator asks for the handshake, and the store's own jobs for their runs.
    let labels = &input.operator.pod_labels;
    let operator = NetworkPolicyPeer {
        pod_selector: (!labels.is_empty())
            .then(|| LabelSelector { match_labels: Some(labels.clone()), match_expressions: None }),
        ..namespace(&input.operator.namespace)
    };
    let mut callers = vec![operator];
    match &network.ingress_from {
        Some(peers) => {
            callers.push(own_jobs(input));
            callers.extend(peers.iter().cloned());
        }
        None => callers.extend(namespaces_of_callers(input).iter().map(|name| namespace(name))),
    }
    let mut ingress = vec![
        rule(callers, MCP_PORT),
        // Probes come from the node, which many networks cannot tell from anybody else. The port
        // tells nothing but how the server is.
        rule(Vec::new(), HEALTH_PORT),
    ];
    // A rule without peers would let everybody in, and an empty list means nobody.
    let readers = network.metrics_from.clone().unwrap_or_else(|| vec![every_namespace()]);
    if !readers.is_empty() {
        ingress.push(rule(readers, METRICS_PORT));
    }
    let mut egress = vec![NetworkPolicyEgressRule {
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
        to: None,
    }];
    let reviews = input.store.spec.mcp.auth.mode != AuthMode::None;
    if reviews || input.reached.audience.is_some() {
        // The API server, which reviews tokens, has no pods to select. OpenID Connect issuers are
        // reached the same way.
        egress.push(NetworkPolicyEgressRule {
            ports: Some(
                input
                    .operator
                    .api_server_ports
                    .iter()
                    .map(|it| port("TCP", (*it).into()))
                    .collect(),
            ),
            to: None,
        });
    }
    egress.extend(network.egress_to.iter().cloned());
    Some(NetworkPolicy {
        metadata: metadata(input, names.main(), "server"),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names.selector()),
                match_expressions: None,
            }),
            policy_types: Some(vec![text("Ingress"), text("Egress")]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    })
}

fn namespaces_of_callers(input: &Input<'_>) -> BTreeSet<String> {
    let own = &input.store.names.namespace;
    let accounts = &input.store.spec.mcp.auth.service_accounts;
    let mapped = accounts.iter().filter_map(|account| account.namespace.clone());
    mapped.chain([own.clone()]).collect()
}

fn rule(from: Vec<NetworkPolicyPeer>, number: i32) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: (!from.is_empty()).then_some(from),
        ports: Some(vec![port("TCP", number)]),
    }
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(text(protocol)),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    }
}

fn namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some([(text("kubernetes.io/metadata.name"), text(name))].into()),
            match_expressions: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn every_namespace() -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    }
}

fn own_jobs(input: &Input<'_>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(super::cron_job::pod_labels(input)),
            match_expressions: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}
