//! The RPCs about ephemeral resources.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;

use super::{Service, deferred, misfit};
use crate::plugin::block::Provider;
use crate::plugin::codec::encode;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::plan;
use crate::plugin::proto::tfplugin6 as pb;
use crate::plugin::proto::tfplugin6::{
    close_ephemeral_resource, open_ephemeral_resource, renew_ephemeral_resource, validate_ephemeral_resource_config,
};
use crate::plugin::{text, wire};

fn instant(time: SystemTime) -> pb::Instant {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    pb::Instant {
        seconds: since.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().try_into().unwrap_or_default(),
    }
}

impl Service {
    pub(super) async fn validate_ephemeral(
        &self,
        request: validate_ephemeral_resource_config::Request,
    ) -> Result<Diagnostics, Diagnostics> {
        let entry = self.catalog.ephemeral(&request.type_name)?;
        let config = entry.config(request.config.as_ref())?;
        let task = move |provider: Arc<dyn Provider>, _| {
            async move { entry.block(&*provider).validate(&config).await }.boxed()
        };
        Ok(self
            .run("ValidateEphemeralResourceConfig", &request.type_name, task)
            .await?)
    }

    pub(super) async fn open(
        &self,
        request: open_ephemeral_resource::Request,
    ) -> Result<open_ephemeral_resource::Response, Diagnostics> {
        let entry = self.catalog.ephemeral(&request.type_name)?;
        let config = plan::with_defaults(&entry.schema, &entry.config(request.config.as_ref())?);
        let defers = entry.block(&*self.provider).defers(&config);
        if let Some(deferred) = deferred(request.client_capabilities.as_ref(), defers) {
            return Ok(open_ephemeral_resource::Response {
                deferred: Some(deferred),
                ..Default::default()
            });
        }
        let block = Arc::clone(&entry);
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { block.block(&*provider).open(&context, config).await }.boxed()
        };
        let mut opened = self.run("OpenEphemeralResource", &request.type_name, task).await?;
        if !opened.result.is_wholly_known() && !opened.diagnostics.has_errors() {
            opened.diagnostics.push(Diagnostic::error(
                format!("{}: something of what was opened is unknown", entry.name),
                "This is a bug of the provider; please report it.",
            ));
        }
        text::clean_computed(&entry.schema.attributes, &mut opened.result);
        let result = encode(&opened.result.unknown_as_null(), &entry.r#type)
            .map_err(|error| misfit(entry.name, "result", &error))?;
        Ok(open_ephemeral_resource::Response {
            diagnostics: wire::diagnostics(opened.diagnostics),
            renew_at: opened.renew_at.map(instant),
            result: Some(result),
            private: Some(opened.private.into()),
            deferred: None,
        })
    }

    pub(super) async fn renew(
        &self,
        request: renew_ephemeral_resource::Request,
    ) -> Result<renew_ephemeral_resource::Response, Diagnostics> {
        let entry = self.catalog.ephemeral(&request.type_name)?;
        let private = request.private.unwrap_or_default().to_vec();
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { entry.block(&*provider).renew(&context, private).await }.boxed()
        };
        let renewed = self.run("RenewEphemeralResource", &request.type_name, task).await?;
        Ok(renew_ephemeral_resource::Response {
            diagnostics: wire::diagnostics(renewed.diagnostics),
            renew_at: renewed.renew_at.map(instant),
            private: Some(renewed.private.into()),
        })
    }

    pub(super) async fn close(&self, request: close_ephemeral_resource::Request) -> Result<Diagnostics, Diagnostics> {
        let entry = self.catalog.ephemeral(&request.type_name)?;
        let private = request.private.unwrap_or_default().to_vec();
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { entry.block(&*provider).close(&context, private).await }.boxed()
        };
        Ok(self.run("CloseEphemeralResource", &request.type_name, task).await?)
    }
}
