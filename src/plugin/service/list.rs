//! The RPCs about list resources.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::Service;
use super::catalog::ResourceEntry;
use super::streaming::{self, Events};
use crate::plugin::block::{Findings, Found, ListRequest, Provider};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::plan;
use crate::plugin::proto::tfplugin6::{list_resource, validate_list_resource_config};
use crate::plugin::{text, wire};

impl Service {
    pub(super) async fn validate_list(
        &self,
        request: validate_list_resource_config::Request,
    ) -> Result<Diagnostics, Diagnostics> {
        let entry = self.catalog.list(&request.type_name)?;
        let config = entry.config(request.config.as_ref())?;
        let task = move |provider: Arc<dyn Provider>, _| {
            async move { entry.block(&*provider).validate(&config).await }.boxed()
        };
        Ok(self.run("ValidateListResourceConfig", &request.type_name, task).await?)
    }

    pub(super) fn list(&self, request: list_resource::Request) -> Events<list_resource::Event> {
        let (service, shows) = (self.clone(), self.clone());
        let (adds, coming) = mpsc::unbounded_channel();
        let resource = self.catalog.resource(&request.type_name).ok();
        let work = async move { service.listed(request, Findings::new(adds)).await };
        let event = move |found| shows.found(resource.as_deref(), found).unwrap_or_else(only);
        streaming::events(work, coming, event, |diagnostics| {
            (!diagnostics.is_empty()).then(|| only(diagnostics))
        })
    }

    async fn listed(&self, request: list_resource::Request, findings: Findings) -> Diagnostics {
        let name = request.type_name;
        let ready = self.catalog.list(&name).and_then(|entry| {
            let config = entry.config(request.config.as_ref())?;
            let config = plan::with_defaults(&entry.schema, &config);
            Ok((entry, config))
        });
        let (entry, config) = match ready {
            Ok(ready) => ready,
            Err(failed) => return failed,
        };
        let wish = ListRequest {
            config,
            with_resource: request.include_resource_object,
            limit: usize::try_from(request.limit).ok().filter(|limit| *limit > 0),
        };
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { entry.block(&*provider).list(&context, wish, &findings).await }.boxed()
        };
        self.run("ListResource", &name, task).await.unwrap_or_else(Into::into)
    }

    fn found(&self, entry: Option<&ResourceEntry>, found: Found) -> Result<list_resource::Event, Diagnostics> {
        let Some(entry) = entry else {
            return Err(Diagnostic::error(
                "What was found is of no managed resource",
                "This is a bug of the provider; please report it.",
            )
            .into());
        };
        let resource = found.resource.map(|mut state| {
            entry.clean_state(&mut state);
            self.client.store(entry, &mut state, Vec::new(), &[]);
            entry.encode("resource that was found", &state)
        });
        Ok(list_resource::Event {
            identity: Some(entry.identity_data(&found.identity)?),
            display_name: text::line(&found.display_name),
            resource_object: resource.transpose()?,
            diagnostic: wire::diagnostics(found.diagnostics),
        })
    }
}

/// An event that has nothing but something to say.
fn only(diagnostics: Diagnostics) -> list_resource::Event {
    list_resource::Event {
        diagnostic: wire::diagnostics(diagnostics),
        ..Default::default()
    }
}
