//! The RPCs about data sources.

use std::sync::Arc;

use futures::FutureExt as _;

use super::{Service, deferred, misfit};
use crate::plugin::block::Provider;
use crate::plugin::codec::encode;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::plan;
use crate::plugin::proto::tfplugin6::{read_data_source, validate_data_resource_config};
use crate::plugin::value::Value;
use crate::plugin::{text, wire};

impl Service {
    pub(super) async fn validate_data_source(
        &self,
        request: validate_data_resource_config::Request,
    ) -> Result<Diagnostics, Diagnostics> {
        let entry = self.catalog.data_source(&request.type_name)?;
        let config = entry.config(request.config.as_ref())?;
        let task = move |provider: Arc<dyn Provider>, _| {
            async move { entry.block(&*provider).validate(&config).await }.boxed()
        };
        Ok(self.run("ValidateDataResourceConfig", &request.type_name, task).await?)
    }

    pub(super) async fn read_data(
        &self,
        request: read_data_source::Request,
    ) -> Result<read_data_source::Response, Diagnostics> {
        let entry = self.catalog.data_source(&request.type_name)?;
        let config = plan::with_defaults(&entry.schema, &entry.config(request.config.as_ref())?);
        if let Some(deferred) = deferred(request.client_capabilities.as_ref(), self.provider.defers()) {
            let unknown = plan::propose(&entry.schema, &Value::Null, config.clone(), &config);
            let state = encode(&unknown, &entry.r#type)
                .map_err(|error| misfit(entry.name, "data that are read later", &error))?;
            return Ok(read_data_source::Response {
                state: Some(state),
                deferred: Some(deferred),
                ..Default::default()
            });
        }
        let block = Arc::clone(&entry);
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { block.block(&*provider).read(&context, config).await }.boxed()
        };
        let mut answer = self.run("ReadDataSource", &request.type_name, task).await?;
        if !answer.state.is_wholly_known() && !answer.diagnostics.has_errors() {
            answer.diagnostics.push(Diagnostic::error(
                format!("{}: something that was read is unknown", entry.name),
                "This is a bug of the provider; please report it.",
            ));
        }
        text::clean_computed(&entry.schema.attributes, &mut answer.state);
        let state = encode(&answer.state.unknown_as_null(), &entry.r#type)
            .map_err(|error| misfit(entry.name, "data that were read", &error))?;
        Ok(read_data_source::Response {
            state: Some(state),
            diagnostics: wire::diagnostics(answer.diagnostics),
            deferred: None,
        })
    }
}
