//! Why a k3s server is not up, as a user reads it.

use crate::host::RunError;
use crate::membership::k3s::Refusal;
use crate::membership::k3s::shared::Difference;
use crate::plugin::diagnostics::Diagnostic;
use crate::plugin::path::Path;
use crate::resource::member::turn::TurnError;
use crate::resource::road::RoadError;
use crate::resource::talk::TalkError;

/// Why a server is not up.
#[derive(Debug, thiserror::Error)]
pub enum BringUpError {
    /// It was not reached.
    #[error(transparent)]
    Road(#[from] RoadError),
    /// A script failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The program is not there.
    #[error("k3s is not on server {server}: {why}")]
    Binary {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The decision was no.
    #[error("server {server} {refusal}.")]
    Refused {
        /// The server that is in the way.
        server: String,
        /// Why.
        refusal: Refusal,
    },
    /// Not now.
    #[error("server {server} was not changed: {why}.")]
    NotNow {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// k3s would not have it join.
    #[error(
        "server {server} did not join: there {}, as on server {other}, and k3s has no server join that differs from those that are in. If \
         the others are to get the same, apply again: they were not restarted in time", said(.differences)
    )]
    Differs {
        /// The server.
        server: String,
        /// One that is in.
        other: String,
        /// In what.
        differences: Vec<Difference>,
        /// Where the first of them is.
        at: Path,
    },
    /// It was not its turn.
    #[error("server {server} was not changed: {source}. Apply again, or raise timeouts")]
    Turn {
        /// The server.
        server: String,
        /// Why.
        source: TurnError,
    },
    /// The service failed, or did not become ready.
    #[error("k3s on server {server} {what}. The last lines of its log:\n{log}")]
    NotReady {
        /// The server.
        server: String,
        /// What it did.
        what: String,
        /// From the journal.
        log: String,
    },
    /// The cluster's etcd did not do what was asked.
    #[error("{what} did not succeed for server {server}: {last}")]
    Membership {
        /// The server.
        server: String,
        /// What was tried.
        what: &'static str,
        /// What the last try gave.
        last: Box<TalkError>,
    },
    /// Some directed pairs are not connected.
    #[error("k3s runs, and not all etcd members were seen to reach each other:\n{}", .0.join("\n"))]
    Links(Vec<String>),
}

fn said(differences: &[Difference]) -> String {
    let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
    all.join(", ")
}

impl BringUpError {
    /// For the user.
    pub fn diagnostic(&self, server: &str) -> Diagnostic {
        let path = match self {
            Self::Binary { .. } => Path::of("install"),
            Self::Differs { at, .. } => at.clone(),
            _ => Path::of("server"),
        };
        Diagnostic::error(format!("k3s on server {server} is not up"), self.to_string()).at(path)
    }
}
