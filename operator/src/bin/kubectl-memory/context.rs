//! The cluster a command talks to, and how it answers.

use k8s_openapi::NamespaceResourceScope;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Resource;
use kube::{Api, Client, Config};
use llm_memory_crds::MemoryStore;
use serde_json::Value;

use kube::api::{Patch, PatchParams};

use crate::args::Common;
use crate::error::{Failure, Object};
use crate::printer::Printer;

/// Field manager of the plugin's changes.
const MANAGER: &str = "kubectl-memory";

/// The cluster a command talks to, and how it answers.
#[derive(Clone)]
pub(crate) struct Context {
    /// The cluster.
    pub(crate) client: Client,
    /// Namespace of the command.
    pub(crate) namespace: String,
    /// Where answers go.
    pub(crate) printer: Printer,
}

impl Context {
    /// Finds the cluster: the flags, then KUBECONFIG and `~/.kube/config`, then the service
    /// account of the pod this runs in.
    pub(crate) async fn new(common: &Common) -> Result<Self, Failure> {
        let options =
            KubeConfigOptions { context: common.context.clone(), ..KubeConfigOptions::default() };
        let config = match &common.kubeconfig {
            Some(path) => {
                Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?
            }
            None if common.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        let namespace =
            common.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)
            .map_err(|error| crate::error::failed("set up the connection to the cluster", error))?;
        Ok(Self { client, namespace, printer: Printer { format: common.output } })
    }

    /// Objects of the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object of the namespace, for messages.
    pub(crate) fn object<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
        missing: &'a str,
    ) -> Object<'a> {
        Object { kind, name, namespace: &self.namespace, missing }
    }

    /// A store, for messages.
    pub(crate) fn store_object<'a>(&'a self, name: &'a str) -> Object<'a> {
        self.object(
            "memorystore",
            name,
            "`kubectl memory list -A` shows the stores there are; choose a namespace with -n",
        )
    }

    /// A store.
    pub(crate) async fn store(&self, name: &str) -> Result<MemoryStore, Failure> {
        let store = self.api::<MemoryStore>().get(name).await;
        store.map_err(|error| self.store_object(name).failed("read", error))
    }

    /// Changes a store by a merge patch.
    pub(crate) async fn patch(&self, name: &str, patch: &Value) -> Result<MemoryStore, Failure> {
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api::<MemoryStore>().patch(name, &params, &Patch::Merge(patch)).await;
        patched.map_err(|error| self.store_object(name).failed("change", error))
    }
}
