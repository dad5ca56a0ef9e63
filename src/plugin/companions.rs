//! The small services that go-plugin expects beside the provider: controller, broker, standard output, health.
//!
//! Their streams stay open, silent, until the process ends: Terraform takes a closed one for a crash.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::proto::go_plugin::grpc_broker_server::GrpcBroker;
use super::proto::go_plugin::grpc_controller_server::GrpcController;
use super::proto::go_plugin::grpc_stdio_server::GrpcStdio;
use super::proto::go_plugin::{ConnInfo, Empty, StdioData};
use super::proto::health::health_check_response::ServingStatus;
use super::proto::health::health_server::Health;
use super::proto::health::{HealthCheckRequest, HealthCheckResponse};

/// The name under which go-plugin asks for health.
const PLUGIN_SERVICE: &str = "plugin";

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// All four services; each ends when `ending` is cancelled, and the controller is what cancels it.
#[derive(Debug, Clone)]
pub struct Companions {
    ending: CancellationToken,
}

impl Companions {
    /// Services that live until `ending`.
    #[must_use]
    pub fn new(ending: CancellationToken) -> Self {
        Self { ending }
    }

    /// `first`, then nothing until the process ends.
    fn open_until_the_end<T: Send + 'static>(&self, first: Option<T>) -> Events<T> {
        let ending = self.ending.clone();
        let silence = futures::stream::once(async move {
            ending.cancelled().await;
            None
        });
        Box::pin(tokio_stream::iter(first.map(Ok)).chain(silence.filter_map(|item| item)))
    }
}

#[tonic::async_trait]
impl GrpcController for Companions {
    async fn shutdown(&self, _request: Request<Empty>) -> Result<Response<Empty>, Status> {
        tracing::debug!("Terraform asked for the end");
        self.ending.cancel();
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl GrpcStdio for Companions {
    type StreamStdioStream = Events<StdioData>;

    async fn stream_stdio(&self, _request: Request<Empty>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(self.open_until_the_end(None)))
    }
}

#[tonic::async_trait]
impl GrpcBroker for Companions {
    type StartStreamStream = Events<ConnInfo>;

    /// Nothing is brokered: what the client sends is read and dropped.
    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let mut incoming = request.into_inner();
        let ending = self.ending.clone();
        tokio::spawn(async move {
            let drain = async { while let Ok(Some(_)) = incoming.message().await {} };
            tokio::select! { () = drain => {}, () = ending.cancelled() => {} }
        });
        Ok(Response::new(self.open_until_the_end(None)))
    }
}

#[tonic::async_trait]
impl Health for Companions {
    type WatchStream = Events<HealthCheckResponse>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" | PLUGIN_SERVICE => Ok(Response::new(status(ServingStatus::Serving))),
            other => Err(Status::not_found(format!("unknown service {other:?}"))),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = ["", PLUGIN_SERVICE].contains(&request.get_ref().service.as_str());
        let first = if known {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        Ok(Response::new(self.open_until_the_end(Some(status(first)))))
    }
}

fn status(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
