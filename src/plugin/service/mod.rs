//! The RPCs of the provider. Each decodes, lets a block do its part, and encodes; a block that panics becomes an
//! error that names it.

mod absent;
mod action;
mod catalog;
mod changes;
mod client;
mod data_source;
mod ephemeral;
mod list;
mod own;
mod resource;
mod rpc;
mod streaming;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use catalog::Catalog;
use changes::Changes;
use client::Client;

use super::block::{Context, Deferral, Provider};
use super::codec::CodecError;
use super::diagnostics::{Diagnostic, Diagnostics};
use super::proto::tfplugin6 as pb;

/// A provider as Terraform's service.
#[derive(Clone)]
pub struct Service {
    provider: Arc<dyn Provider>,
    changes: Arc<Changes>,
    client: Arc<Client>,
    catalog: Arc<Catalog>,
    stop: CancellationToken,
    requests: Arc<AtomicU64>,
}

impl Service {
    /// The service of a provider.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>) -> Self {
        Self {
            catalog: Arc::new(Catalog::of(&*provider)),
            provider,
            changes: Arc::default(),
            client: Arc::default(),
            stop: CancellationToken::new(),
            requests: Arc::default(),
        }
    }

    /// What tells every running request to end at its next safe point.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs one request in a task of its own, with what is needed to find its log lines.
    ///
    /// The task outlives a connection that breaks, so that it can end at a safe point: it is told to stop then.
    async fn run<T: Send + 'static>(
        &self,
        rpc: &'static str,
        block: &str,
        task: impl FnOnce(Arc<dyn Provider>, Context) -> BoxFuture<'static, T>,
    ) -> Result<T, Diagnostic> {
        let stop = self.stop.child_token();
        let abandoned = stop.clone().drop_guard();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!("rpc", tf_rpc = rpc, tf_resource_type = block, tf_req_id = number);
        let work = task(Arc::clone(&self.provider), Context { stop }).instrument(span.clone());
        span.in_scope(|| tracing::trace!("begins"));
        let result = tokio::spawn(work).await;
        span.in_scope(|| tracing::trace!("ends"));
        abandoned.disarm();
        result.map_err(|error| match error.try_into_panic() {
            Ok(panic) => panicked(rpc, block, &*panic),
            Err(_) => Diagnostic::error(format!("{block}: {rpc} was cut off"), "The provider process is ending."),
        })
    }
}

fn panicked(rpc: &str, block: &str, panic: &(dyn Any + Send)) -> Diagnostic {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    tracing::error!(tf_rpc = rpc, tf_resource_type = block, "panicked: {message}");
    Diagnostic::error(
        format!("{block}: the provider failed inside itself"),
        format!(
            "{rpc} panicked: {message}\n\nThis is a bug of the provider; please report it with the output of \
             TF_LOG=debug. What was done before it may not be in the state; the next apply looks again."
        ),
    )
}

/// An error diagnostic for a value that doesn't fit, which only a bug on either side of the protocol can cause.
fn misfit(block: &str, what: &str, error: &CodecError) -> Diagnostics {
    let mut diagnostic = Diagnostic::error(
        format!("{block}: the {what} doesn't fit the schema"),
        format!("{error}. This is a bug of the provider; please report it."),
    );
    if let CodecError::Mismatch { path, .. } | CodecError::UnknownAttribute { path, .. } = error {
        diagnostic = diagnostic.at(path.0.clone());
    }
    diagnostic.into()
}

/// The message of a deferral, where Terraform can wait.
fn deferred(client: Option<&pb::ClientCapabilities>, wish: Option<Deferral>) -> Option<pb::Deferred> {
    let reason = match wish? {
        Deferral::ConfigurationUnknown => pb::deferred::Reason::ResourceConfigUnknown,
        Deferral::ProviderUnknown => pb::deferred::Reason::ProviderConfigUnknown,
        Deferral::PrerequisiteAbsent => pb::deferred::Reason::AbsentPrereq,
    };
    client?.deferral_allowed.then(|| pb::Deferred { reason: reason.into() })
}
