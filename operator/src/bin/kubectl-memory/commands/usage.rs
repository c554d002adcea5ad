//! What the server's container uses, by the metrics API.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};

use crate::context::Context;
use crate::error::{Failure, is_absent};
use crate::{names, units};

/// What the server's container uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Cores.
    pub(crate) cpu: f64,
    /// Bytes.
    pub(crate) memory: f64,
}

/// Asks the metrics API. None where the cluster has none, or no sample of the pod yet.
pub(crate) async fn read(context: &Context, store: &str) -> Result<Option<Usage>, Failure> {
    let kind = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
    let resource = ApiResource::from_gvk_with_plural(&kind, "pods");
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &context.namespace, &resource);
    let pod = names::pod(store);
    match api.get(&pod).await {
        Ok(metrics) => Ok(sample(&metrics)),
        Err(error) if is_absent(&error) => Ok(None),
        // An aggregated API whose server is down; or that is not there, which those who may not
        // read everything are told as a right that they lack.
        Err(kube::Error::Api(status)) if status.code == 503 || status.code == 403 => Ok(None),
        Err(error) => Err(context.object("podmetrics", &pod, "").failed("read", error)),
    }
}

fn sample(metrics: &DynamicObject) -> Option<Usage> {
    let containers = metrics.data.get("containers")?.as_array()?;
    let server =
        containers.iter().find(|it| it.get("name").is_some_and(|name| name == names::SERVER));
    let usage = server?.get("usage")?;
    let number = |name: &str| units::quantity(&Quantity(usage.get(name)?.as_str()?.to_owned()));
    Some(Usage { cpu: number("cpu")?, memory: number("memory")? })
}

/// What the server's container asks for and may use.
pub(crate) fn resources(pod: &Pod) -> ResourceRequirements {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let server = containers.into_iter().find(|it| it.name == names::SERVER);
    server.and_then(|it| it.resources.clone()).unwrap_or_default()
}

/// A limit or a request as a number; none where it is not set.
pub(crate) fn number(resources: &ResourceRequirements, limit: bool, name: &str) -> Option<f64> {
    let list = if limit { &resources.limits } else { &resources.requests };
    units::quantity(list.as_ref()?.get(name)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    #[test]
    fn a_sample_is_read_from_the_server_s_container() {
        let metrics = json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": { "name": "mem-0" },
            "containers": [
                { "name": "other", "usage": { "cpu": "1", "memory": "1Gi" } },
                { "name": "server", "usage": { "cpu": "250m", "memory": "512Mi" } },
            ],
        });
        let metrics: DynamicObject = serde_json::from_value(metrics).unwrap();
        assert_eq!(sample(&metrics), Some(Usage { cpu: 0.25, memory: 512.0 * 1024.0 * 1024.0 }));
    }

    #[tokio::test]
    async fn a_cluster_without_the_metrics_api_has_no_data() {
        let (context, server) = fixtures::cluster();
        let path = "/apis/metrics.k8s.io/v1beta1/namespaces/prod/pods/mem-0";
        let script = server.refuse(path, 404, "the server could not find the requested resource");
        let (result, ()) = tokio::join!(read(&context, "mem"), script);
        assert_eq!(result.unwrap(), None);
    }
}
