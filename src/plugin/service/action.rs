//! The RPCs about actions.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::streaming::Events;
use super::{Service, deferred};
use crate::plugin::block::{Progress, Provider};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::plan;
use crate::plugin::proto::tfplugin6::invoke_action::event::{self, Completed};
use crate::plugin::proto::tfplugin6::{invoke_action, plan_action, validate_action_config};
use crate::plugin::{text, wire};

impl Service {
    pub(super) async fn validate_action(
        &self,
        request: validate_action_config::Request,
    ) -> Result<Diagnostics, Diagnostics> {
        let entry = self.catalog.action(&request.action_type)?;
        let config = entry.config(request.config.as_ref())?;
        let task = move |provider: Arc<dyn Provider>, _| {
            async move { entry.block(&*provider).validate(&config).await }.boxed()
        };
        Ok(self.run("ValidateActionConfig", &request.action_type, task).await?)
    }

    pub(super) async fn plan_an_action(
        &self,
        request: plan_action::Request,
    ) -> Result<plan_action::Response, Diagnostics> {
        let entry = self.catalog.action(&request.action_type)?;
        let config = plan::with_defaults(&entry.schema, &entry.config(request.config.as_ref())?);
        let defers = entry.block(&*self.provider).defers(&config);
        if let Some(deferred) = deferred(request.client_capabilities.as_ref(), defers) {
            return Ok(plan_action::Response {
                deferred: Some(deferred),
                ..Default::default()
            });
        }
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { entry.block(&*provider).plan(&context, config).await }.boxed()
        };
        let diagnostics = self.run("PlanAction", &request.action_type, task).await?;
        Ok(plan_action::Response {
            diagnostics: wire::diagnostics(diagnostics),
            deferred: None,
        })
    }

    pub(super) fn invoke(&self, request: invoke_action::Request) -> Events<invoke_action::Event> {
        let service = self.clone();
        let (says, lines) = mpsc::unbounded_channel();
        let work = async move { service.invoked(request, Progress::new(says)).await };
        let line = |said: String| {
            event::Type::Progress(event::Progress {
                message: text::line(&said),
            })
        };
        let completed = |diagnostics| {
            event::Type::Completed(Completed {
                diagnostics: wire::diagnostics(diagnostics),
            })
        };
        super::streaming::events(
            work,
            lines,
            move |said| invoke_action::Event {
                r#type: Some(line(said)),
            },
            move |diagnostics| {
                Some(invoke_action::Event {
                    r#type: Some(completed(diagnostics)),
                })
            },
        )
    }

    async fn invoked(&self, request: invoke_action::Request, progress: Progress) -> Diagnostics {
        let name = request.action_type;
        let config = self.catalog.action(&name).and_then(|entry| {
            let config = plan::with_defaults(&entry.schema, &entry.config(request.config.as_ref())?);
            if config.is_wholly_known() {
                return Ok((entry, config));
            }
            Err(Diagnostic::error(
                format!("{name}: something in the configuration is not known yet"),
                "An action is invoked with known values only. Apply what it depends on first.",
            )
            .into())
        });
        let (entry, config) = match config {
            Ok(known) => known,
            Err(failed) => return failed,
        };
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { entry.block(&*provider).invoke(&context, config, &progress).await }.boxed()
        };
        self.run("InvokeAction", &name, task).await.unwrap_or_else(Into::into)
    }
}
