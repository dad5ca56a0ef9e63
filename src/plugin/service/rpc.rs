//! The service trait of the protocol, RPC by RPC: what comes in goes to where the work is, and a failure becomes
//! the diagnostics of the answer.

use tonic::{Request, Response, Status};

use super::Service;
use super::streaming::Events;
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::proto::tfplugin6::provider_server::Provider;
use crate::plugin::proto::tfplugin6::{self as pb, *};
use crate::plugin::wire;

type Answer<T> = Result<Response<T>, Status>;

/// Both ways of a check are diagnostics.
fn said(result: Result<Diagnostics, Diagnostics>) -> Vec<pb::Diagnostic> {
    wire::diagnostics(result.unwrap_or_else(|failed| failed))
}

fn answer<T>(response: T) -> Answer<T> {
    Ok(Response::new(response))
}

#[tonic::async_trait]
impl Provider for Service {
    async fn get_metadata(&self, _: Request<get_metadata::Request>) -> Answer<get_metadata::Response> {
        answer(self.metadata())
    }

    async fn get_provider_schema(
        &self,
        _: Request<get_provider_schema::Request>,
    ) -> Answer<get_provider_schema::Response> {
        answer(self.schemas())
    }

    async fn get_resource_identity_schemas(
        &self,
        _: Request<get_resource_identity_schemas::Request>,
    ) -> Answer<get_resource_identity_schemas::Response> {
        answer(self.identity_schemas())
    }

    async fn get_functions(&self, _: Request<get_functions::Request>) -> Answer<get_functions::Response> {
        answer(self.functions())
    }

    async fn validate_provider_config(
        &self,
        request: Request<validate_provider_config::Request>,
    ) -> Answer<validate_provider_config::Response> {
        let diagnostics = said(self.validate_own(request.into_inner()).await);
        answer(validate_provider_config::Response { diagnostics })
    }

    async fn configure_provider(
        &self,
        request: Request<configure_provider::Request>,
    ) -> Answer<configure_provider::Response> {
        let diagnostics = said(self.configure(request.into_inner()).await);
        answer(configure_provider::Response { diagnostics })
    }

    async fn stop_provider(&self, _: Request<stop_provider::Request>) -> Answer<stop_provider::Response> {
        tracing::info!("Terraform asked to stop");
        self.stop.cancel();
        answer(stop_provider::Response::default())
    }

    async fn validate_resource_config(
        &self,
        request: Request<validate_resource_config::Request>,
    ) -> Answer<validate_resource_config::Response> {
        let diagnostics = said(self.validate_resource(request.into_inner()).await);
        answer(validate_resource_config::Response { diagnostics })
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<upgrade_resource_state::Request>,
    ) -> Answer<upgrade_resource_state::Response> {
        answer(match self.upgrade(request.into_inner()) {
            Ok(state) => upgrade_resource_state::Response {
                upgraded_state: Some(state),
                ..Default::default()
            },
            Err(failed) => upgrade_resource_state::Response {
                diagnostics: wire::diagnostics(failed),
                ..Default::default()
            },
        })
    }

    async fn upgrade_resource_identity(
        &self,
        request: Request<upgrade_resource_identity::Request>,
    ) -> Answer<upgrade_resource_identity::Response> {
        answer(match self.upgrade_identity(request.into_inner()) {
            Ok(data) => upgrade_resource_identity::Response {
                upgraded_identity: Some(data),
                ..Default::default()
            },
            Err(failed) => upgrade_resource_identity::Response {
                diagnostics: wire::diagnostics(failed),
                ..Default::default()
            },
        })
    }

    async fn read_resource(&self, request: Request<read_resource::Request>) -> Answer<read_resource::Response> {
        let request = request.into_inner();
        let (state, private) = (request.current_state.clone(), request.private.clone());
        let (identity, result) = (request.current_identity.clone(), self.read(request).await);
        answer(result.unwrap_or_else(|failed| read_resource::Response {
            new_state: state,
            private,
            new_identity: identity,
            diagnostics: wire::diagnostics(failed),
            deferred: None,
        }))
    }

    async fn plan_resource_change(
        &self,
        request: Request<plan_resource_change::Request>,
    ) -> Answer<plan_resource_change::Response> {
        let result = self.plan(request.into_inner()).await;
        answer(result.unwrap_or_else(|failed| plan_resource_change::Response {
            diagnostics: wire::diagnostics(failed),
            ..Default::default()
        }))
    }

    async fn apply_resource_change(
        &self,
        request: Request<apply_resource_change::Request>,
    ) -> Answer<apply_resource_change::Response> {
        let request = request.into_inner();
        let (state, private) = (request.prior_state.clone(), request.planned_private.clone());
        let (identity, result) = (request.planned_identity.clone(), self.apply(request).await);
        // Whatever failed, what Terraform knew before is not to be lost.
        answer(result.unwrap_or_else(|failed| apply_resource_change::Response {
            new_state: state,
            private,
            new_identity: identity,
            diagnostics: wire::diagnostics(failed),
        }))
    }

    async fn import_resource_state(
        &self,
        request: Request<import_resource_state::Request>,
    ) -> Answer<import_resource_state::Response> {
        let result = self.import(request.into_inner()).await;
        answer(result.unwrap_or_else(|failed| import_resource_state::Response {
            diagnostics: wire::diagnostics(failed),
            ..Default::default()
        }))
    }

    async fn move_resource_state(
        &self,
        request: Request<move_resource_state::Request>,
    ) -> Answer<move_resource_state::Response> {
        let diagnostics = wire::diagnostics(self.refuse_move(&request.into_inner()));
        answer(move_resource_state::Response {
            diagnostics,
            ..Default::default()
        })
    }

    async fn generate_resource_config(
        &self,
        request: Request<generate_resource_config::Request>,
    ) -> Answer<generate_resource_config::Response> {
        answer(match self.generate(request.get_ref()) {
            Ok(config) => generate_resource_config::Response {
                config: Some(config),
                diagnostics: Vec::new(),
            },
            Err(failed) => generate_resource_config::Response {
                config: None,
                diagnostics: wire::diagnostics(failed),
            },
        })
    }

    async fn call_function(&self, request: Request<call_function::Request>) -> Answer<call_function::Response> {
        answer(match self.call(request.into_inner()).await {
            Ok(result) => call_function::Response {
                result: Some(result),
                error: None,
            },
            Err(error) => call_function::Response {
                result: None,
                error: Some(error),
            },
        })
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<validate_data_resource_config::Request>,
    ) -> Answer<validate_data_resource_config::Response> {
        let diagnostics = said(self.validate_data_source(request.into_inner()).await);
        answer(validate_data_resource_config::Response { diagnostics })
    }

    async fn read_data_source(
        &self,
        request: Request<read_data_source::Request>,
    ) -> Answer<read_data_source::Response> {
        let result = self.read_data(request.into_inner()).await;
        answer(result.unwrap_or_else(|failed| read_data_source::Response {
            diagnostics: wire::diagnostics(failed),
            ..Default::default()
        }))
    }

    async fn validate_ephemeral_resource_config(
        &self,
        request: Request<validate_ephemeral_resource_config::Request>,
    ) -> Answer<validate_ephemeral_resource_config::Response> {
        let diagnostics = said(self.validate_ephemeral(request.into_inner()).await);
        answer(validate_ephemeral_resource_config::Response { diagnostics })
    }

    async fn open_ephemeral_resource(
        &self,
        request: Request<open_ephemeral_resource::Request>,
    ) -> Answer<open_ephemeral_resource::Response> {
        let result = self.open(request.into_inner()).await;
        answer(result.unwrap_or_else(|failed| open_ephemeral_resource::Response {
            diagnostics: wire::diagnostics(failed),
            ..Default::default()
        }))
    }

    async fn renew_ephemeral_resource(
        &self,
        request: Request<renew_ephemeral_resource::Request>,
    ) -> Answer<renew_ephemeral_resource::Response> {
        let result = self.renew(request.into_inner()).await;
        answer(result.unwrap_or_else(|failed| renew_ephemeral_resource::Response {
            diagnostics: wire::diagnostics(failed),
            ..Default::default()
        }))
    }

    async fn close_ephemeral_resource(
        &self,
        request: Request<close_ephemeral_resource::Request>,
    ) -> Answer<close_ephemeral_resource::Response> {
        let diagnostics = said(self.close(request.into_inner()).await);
        answer(close_ephemeral_resource::Response { diagnostics })
    }

    type ListResourceStream = Events<list_resource::Event>;

    async fn list_resource(&self, request: Request<list_resource::Request>) -> Answer<Self::ListResourceStream> {
        answer(self.list(request.into_inner()))
    }

    async fn validate_list_resource_config(
        &self,
        request: Request<validate_list_resource_config::Request>,
    ) -> Answer<validate_list_resource_config::Response> {
        let diagnostics = said(self.validate_list(request.into_inner()).await);
        answer(validate_list_resource_config::Response { diagnostics })
    }

    async fn validate_action_config(
        &self,
        request: Request<validate_action_config::Request>,
    ) -> Answer<validate_action_config::Response> {
        let diagnostics = said(self.validate_action(request.into_inner()).await);
        answer(validate_action_config::Response { diagnostics })
    }

    async fn plan_action(&self, request: Request<plan_action::Request>) -> Answer<plan_action::Response> {
        let result = self.plan_an_action(request.into_inner()).await;
        answer(result.unwrap_or_else(|failed| plan_action::Response {
            diagnostics: wire::diagnostics(failed),
            deferred: None,
        }))
    }

    type InvokeActionStream = Events<invoke_action::Event>;

    async fn invoke_action(&self, request: Request<invoke_action::Request>) -> Answer<Self::InvokeActionStream> {
        answer(self.invoke(request.into_inner()))
    }
}
