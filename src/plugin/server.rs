//! One server for everything that Terraform talks to, from the first connection to the orderly end.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::companions::Companions;
use super::proto::go_plugin::grpc_broker_server::GrpcBrokerServer;
use super::proto::go_plugin::grpc_controller_server::GrpcControllerServer;
use super::proto::go_plugin::grpc_stdio_server::GrpcStdioServer;
use super::proto::health::health_server::HealthServer;
use super::proto::tfplugin6::provider_server::{Provider, ProviderServer};

/// The largest message either way, in bytes: as much as Terraform itself allows.
pub const LARGEST_MESSAGE: usize = 256 << 20;

/// How long requests that still run are waited for at the end. Terraform kills after 2 s.
const DRAIN: Duration = Duration::from_millis(1500);

/// Serves `provider` and go-plugin's own services until `ending` is cancelled, by the caller or by Terraform's
/// Shutdown.
///
/// # Errors
/// When the transport fails as a whole. One connection that fails is no error.
pub async fn run<P, C>(
    provider: P,
    connections: impl Stream<Item = io::Result<C>>,
    ending: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    P: Provider,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let companions = Companions::new(ending.clone());
    let provider = ProviderServer::new(provider)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let serving = Server::builder()
        .add_service(provider)
        .add_service(GrpcControllerServer::new(companions.clone()))
        .add_service(GrpcStdioServer::new(companions.clone()))
        .add_service(GrpcBrokerServer::new(companions.clone()))
        .add_service(HealthServer::new(companions))
        .serve_with_incoming_shutdown(connections, ending.clone().cancelled_owned());
    let too_late = async {
        ending.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = serving => result,
        () = too_late => Ok(()),
    }
}
