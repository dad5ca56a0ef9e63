//! The RPCs about the provider itself: what it has, its configuration, its functions.

use futures::FutureExt as _;

use super::catalog::ByName;
use super::{Service, misfit};
use crate::plugin::codec::{decode, decode_optional, encode};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::plan;
use crate::plugin::proto::tfplugin6 as pb;
use crate::plugin::proto::tfplugin6::{
    call_function, configure_provider, get_functions, get_metadata, get_provider_schema, get_resource_identity_schemas,
    validate_provider_config,
};
use crate::plugin::value::Value;
use crate::plugin::wire;

/// How the provider block is called in messages.
const PROVIDER: &str = "provider";

impl Service {
    fn capabilities() -> pb::ServerCapabilities {
        pb::ServerCapabilities {
            plan_destroy: true,
            get_provider_schema_optional: true,
            generate_resource_config: true,
            ..Default::default()
        }
    }

    pub(super) fn metadata(&self) -> get_metadata::Response {
        fn names<T>(all: &std::collections::HashMap<&'static str, T>) -> Vec<get_metadata::TypeMetadata> {
            let one = |name: &&str| get_metadata::TypeMetadata {
                type_name: (*name).to_owned(),
            };
            all.keys().map(one).collect()
        }
        let function = |name: &&str| get_metadata::FunctionMetadata {
            name: (*name).to_owned(),
        };
        get_metadata::Response {
            server_capabilities: Some(Self::capabilities()),
            resources: names(&self.catalog.resources),
            data_sources: names(&self.catalog.data_sources),
            functions: self.catalog.functions.keys().map(function).collect(),
            ephemeral_resources: names(&self.catalog.ephemerals),
            list_resources: names(&self.catalog.lists),
            actions: names(&self.catalog.actions),
            diagnostics: Vec::new(),
        }
    }

    pub(super) fn schemas(&self) -> get_provider_schema::Response {
        let resources = self.catalog.resources.iter();
        fn schemas<B: ?Sized>(all: &ByName<B>) -> impl Iterator<Item = (String, pb::Schema)> {
            all.iter()
                .map(|(name, one)| ((*name).to_owned(), wire::schema(&one.schema)))
        }
        let action = |(name, schema)| (name, pb::ActionSchema { schema: Some(schema) });
        get_provider_schema::Response {
            provider: Some(wire::schema(&self.catalog.provider)),
            resource_schemas: resources
                .map(|(name, one)| ((*name).to_owned(), wire::schema(&one.schema)))
                .collect(),
            data_source_schemas: schemas(&self.catalog.data_sources).collect(),
            ephemeral_resource_schemas: schemas(&self.catalog.ephemerals).collect(),
            list_resource_schemas: schemas(&self.catalog.lists).collect(),
            action_schemas: schemas(&self.catalog.actions).map(action).collect(),
            functions: self.functions().functions,
            server_capabilities: Some(Self::capabilities()),
            ..Default::default()
        }
    }

    pub(super) fn identity_schemas(&self) -> get_resource_identity_schemas::Response {
        let one = |(name, one): (&&str, &std::sync::Arc<super::catalog::ResourceEntry>)| {
            wire::identity_schema(&one.identity).map(|schema| ((*name).to_owned(), schema))
        };
        get_resource_identity_schemas::Response {
            identity_schemas: self.catalog.resources.iter().filter_map(one).collect(),
            diagnostics: Vec::new(),
        }
    }

    pub(super) fn functions(&self) -> get_functions::Response {
        let functions = self.provider.functions().iter();
        get_functions::Response {
            functions: functions
                .map(|one| (one.name().to_owned(), wire::function(&**one)))
                .collect(),
            diagnostics: Vec::new(),
        }
    }

    fn provider_config(&self, message: Option<&pb::DynamicValue>) -> Result<Value, Diagnostics> {
        decode_optional(message, &self.catalog.provider_type).map_err(|error| misfit(PROVIDER, "configuration", &error))
    }

    pub(super) async fn validate_own(
        &self,
        request: validate_provider_config::Request,
    ) -> Result<Diagnostics, Diagnostics> {
        let config = self.provider_config(request.config.as_ref())?;
        let task = move |provider: std::sync::Arc<dyn super::Provider>, _| {
            async move { provider.validate(&config).await }.boxed()
        };
        Ok(self.run("ValidateProviderConfig", PROVIDER, task).await?)
    }

    pub(super) async fn configure(&self, request: configure_provider::Request) -> Result<Diagnostics, Diagnostics> {
        tracing::debug!(terraform = request.terraform_version, "configured");
        self.client.begins(request.client_capabilities);
        let config = self.provider_config(request.config.as_ref())?;
        if !request
            .client_capabilities
            .is_some_and(|client| client.write_only_attributes_allowed)
        {
            let refused = plan::refuse_write_only(&self.catalog.provider, &config);
            if refused.has_errors() {
                return Err(refused);
            }
        }
        let task = move |provider: std::sync::Arc<dyn super::Provider>, context| {
            async move { provider.configure(&context, &config).await }.boxed()
        };
        Ok(self.run("ConfigureProvider", PROVIDER, task).await?)
    }

    pub(super) async fn call(&self, request: call_function::Request) -> Result<pb::DynamicValue, pb::FunctionError> {
        let failed = |text: String, argument| wire::function_error(&text, argument);
        let name = request.name;
        let Some(entry) = self.catalog.functions.get(name.as_str()).cloned() else {
            return Err(failed(
                format!("This version of the provider has no function {name:?}."),
                None,
            ));
        };
        let (wanted, given) = (entry.parameters.len(), request.arguments.len());
        if wanted != given {
            return Err(failed(
                format!("{name} takes {wanted} arguments, but got {given}."),
                None,
            ));
        }
        let arguments = request
            .arguments
            .iter()
            .zip(&entry.parameters)
            .zip(0..)
            .map(|((argument, of), at)| decode(argument, of).map_err(|error| failed(format!("{error}."), Some(at))));
        let arguments: Vec<Value> = arguments.collect::<Result<_, _>>()?;
        let returns = entry.returns.clone();
        let task = move |provider: std::sync::Arc<dyn super::Provider>, _| {
            async move { entry.block(&*provider).call(&arguments) }.boxed()
        };
        let result = self.run("CallFunction", &name, task).await;
        let result = result.map_err(|bug| failed(format!("{}: {}", bug.summary, bug.detail), None))?;
        let value = result.map_err(|error| failed(error.message, error.argument))?;
        encode(&value, &returns).map_err(|error| failed(format!("{name} returned what it must not: {error}."), None))
    }
}
