//! The life of the provider process: started by Terraform, or by a person with `--debug` or `--version`.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;

use super::block::Provider;
use super::handshake::{Handshake, Listen};
use super::listener::Listener;
use super::service::Service;
use super::tls::ServerTls;
use super::{log, server};

/// What the process is called on the outside.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Source address as in `required_providers`: `namespace/name`.
    pub source: &'static str,
    /// Version of this build.
    pub version: &'static str,
}

impl About {
    /// The last part of the source address.
    fn short_name(&self) -> &'static str {
        self.source.rsplit('/').next().unwrap_or(self.source)
    }
}

/// The command line. Terraform passes none of it.
#[derive(Debug, Parser)]
#[command(
    about = "A Terraform provider. Terraform starts it by itself.",
    disable_version_flag = true
)]
struct Arguments {
    /// Print the version and end.
    #[arg(long, short = 'V')]
    version: bool,
    /// Run until Ctrl-C, for a debugger, and print what makes Terraform use this process.
    #[arg(long)]
    debug: bool,
}

/// Runs the provider process to its end.
pub fn serve(about: About, provider: impl Provider + 'static) -> ExitCode {
    let arguments = Arguments::parse();
    match run(about, &arguments, provider) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Terraform shows standard error when a plugin doesn't come up.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(about: About, arguments: &Arguments, provider: impl Provider + 'static) -> anyhow::Result<()> {
    if arguments.version {
        return say(&format!("terraform-provider-{} {}", about.short_name(), about.version));
    }
    let environment = |name: &str| std::env::var(name).ok();
    let mode = if arguments.debug {
        None
    } else {
        Some(Handshake::read(environment)?)
    };
    log::start(about.short_name(), environment);
    // A panic becomes a diagnostic where it is caught; on standard error it would only garble the log.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Futures of changes are deep, and a stack that overflows ends the provider in the middle of one. What is not used takes no memory.
        .thread_stack_size(8 << 20)
        .worker_threads(4)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let ending = CancellationToken::new();
    let service = Service::new(Arc::new(provider));
    let result = runtime.block_on(async {
        match &mode {
            Some(handshake) => for_terraform(handshake, service, ending).await,
            None => for_a_debugger(about, service, ending).await,
        }
    });
    // A blocking call to a dead machine must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn for_terraform(handshake: &Handshake, service: Service, ending: CancellationToken) -> anyhow::Result<()> {
    if !handshake.offers_our_protocol {
        tracing::warn!("this Terraform doesn't offer plugin protocol 6, the only one spoken here");
    }
    // Asked before Terraform hears of this process, so it can't be gone yet.
    let parent = parent();
    let listener = Listener::bind(&handshake.listen).await?;
    let tls = handshake
        .client_certificate
        .as_deref()
        .map(ServerTls::new)
        .transpose()?;
    let answer = handshake.answer(listener.address(), tls.as_ref().map(|tls| tls.certificate.as_slice()));
    say(&answer)?;
    tokio::spawn(ignore_interrupts());
    tokio::spawn(end_with(parent, ending.clone()));
    let connections = listener.connections(tls.map(|tls| tls.config));
    serve_until(service, connections, ending).await
}

async fn for_a_debugger(about: About, service: Service, ending: CancellationToken) -> anyhow::Result<()> {
    let listener = Listener::bind(&Listen::here()).await?;
    let reattach = listener.address().reattach(about.source, std::process::id());
    say(&format!(
        "The provider runs until Ctrl-C. Where you run Terraform, set:\n\n  export TF_REATTACH_PROVIDERS='{reattach}'\n"
    ))?;
    let interrupted = ending.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    serve_until(service, listener.connections(None), ending).await
}

async fn serve_until(
    service: Service,
    connections: impl tokio_stream::Stream<Item = io::Result<super::listener::Connection>>,
    ending: CancellationToken,
) -> anyhow::Result<()> {
    let stop = service.stop_token();
    let at_the_end = ending.clone();
    tokio::spawn(async move {
        at_the_end.cancelled().await;
        stop.cancel();
    });
    server::run(service, connections, ending)
        .await
        .context("serving Terraform")
}

/// Ctrl-C reaches the whole process group, but it is for Terraform: it calls StopProvider.
async fn ignore_interrupts() {
    while tokio::signal::ctrl_c().await.is_ok() {
        tracing::debug!("interrupted; Terraform says what that means");
    }
}

/// A Terraform that was killed says no farewell; without it this process would stay for ever.
async fn end_with(began_under: Option<u32>, ending: CancellationToken) {
    while parent() == began_under {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tracing::warn!("Terraform is gone");
    ending.cancel();
}

/// The process that started this one, where the system tells when it is gone.
fn parent() -> Option<u32> {
    #[cfg(unix)]
    return Some(std::os::unix::process::parent_id());
    #[cfg(not(unix))]
    None
}

/// The only writer to standard output.
fn say(line: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .context("writing to standard output")
}
