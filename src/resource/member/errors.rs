//! Why a member is not up, as a user reads it.

use std::time::Duration;

use super::binary::BinaryError;
use super::down::{Down, lines};
use super::talk::TalkError;
use super::turn::TurnError;
use super::wanted::WantedError;
use crate::etcd::layout::PathError;
use crate::host::RunError;
use crate::membership::member::Refusal;
use crate::resource::road::RoadError;
use crate::topology::ViewError;

/// Why a member is not up.
#[derive(Debug, thiserror::Error)]
pub enum BringUpError {
    /// Its server was not reached.
    #[error(transparent)]
    Road(#[from] RoadError),
    /// A script failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The binaries are not there.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// It can't be said what is to be there.
    #[error(transparent)]
    Wanted(#[from] WantedError),
    /// A path can't be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Its server is none of the cluster's.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The decision was no.
    #[error("server {server}: {refusal}.{}", not_well(.down))]
    Refused {
        /// Its server.
        server: String,
        /// Why.
        refusal: Refusal,
        /// The members that take no part, where the refusal hangs on them.
        down: Vec<Down>,
    },
    /// Its data is not its own.
    #[error("server {server}: {advice}")]
    Copied {
        /// Its server.
        server: String,
        /// What that means, what to do, and whether that is safe now.
        advice: String,
    },
    /// etcd does not accept its configuration.
    #[error(
        "server {server}: etcd {version} does not accept this configuration, and says:\n  {cause}\nIt was asked before anything was stopped or \
         started. The member and its configuration are as before. Change the option in `config` that this names, and apply again"
    )]
    Configuration {
        /// Its server.
        server: String,
        /// The version of etcd.
        version: String,
        /// What it says.
        cause: String,
    },
    /// The same was said of another member of the cluster a moment ago.
    #[error(
        "the member of server {server} was not changed, for the same reason as that of {first}: see what is said of {first}"
    )]
    AsAnother {
        /// Its server.
        server: String,
        /// The server of which it was said.
        first: String,
    },
    /// The service failed while it was waited for.
    #[error("the member's service on server {server} failed. The last lines of its log:\n{log}")]
    Failed {
        /// Its server.
        server: String,
        /// From the journal.
        log: String,
    },
    /// No answer in time.
    #[error(
        "the member on server {server} runs, but it did not become part of a cluster with a leader within {}: {last}\n\
         The last lines of its log:\n{log}",
        humantime::format_duration(Duration::from_secs(.waited.as_secs()))
    )]
    NoHealth {
        /// Its server.
        server: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last try gave.
        last: Box<TalkError>,
        /// From the journal.
        log: String,
    },
    /// The member list can't be changed.
    #[error("{what} did not succeed for the member of server {server}: {last}")]
    Membership {
        /// Its server.
        server: String,
        /// What was tried.
        what: &'static str,
        /// What the last try gave.
        last: Box<TalkError>,
    },
    /// It was not its turn.
    #[error("the member of server {server} was not changed: {source}. Apply again, or raise timeouts")]
    Turn {
        /// Its server.
        server: String,
        /// Why.
        source: TurnError,
    },
    /// Another member did not come back from its restart.
    #[error(
        "the member of server {server} was not restarted: that of {failed} was to be restarted first, and was not, or is not well since. One at a \
         time is enough. See what is said of {failed}, and apply again"
    )]
    Halted {
        /// Its server.
        server: String,
        /// The server of the member that failed.
        failed: String,
    },
    /// The snapshot that it is to start with is of a newer etcd.
    #[error(
        "the member of server {server} is to start with a snapshot of etcd 3.{needs}, which etcd {version} can't read. Use etcd 3.{needs} or \
         later. Nothing was changed on this server"
    )]
    OldForSnapshot {
        /// Its server.
        server: String,
        /// The version that is wanted.
        version: String,
        /// The minor version that it takes.
        needs: u64,
    },
    /// It can't be taken over from the service that runs it.
    #[error(
        "the member can't be taken over from {service} on server {server}: {why}. Nothing was changed on this server"
    )]
    Adoption {
        /// Its server.
        server: String,
        /// The service.
        service: String,
        /// Why.
        why: String,
    },
    /// Others can't dial it by its name.
    #[error(
        "the member of server {server} was taken over, and its peer URL stays {url} for now: {why}. Mend that, and apply again"
    )]
    Rename {
        /// Its server.
        server: String,
        /// The peer URL that it has.
        url: String,
        /// Why.
        why: String,
    },
    /// Something on the server is in the way of snapshots by a timer.
    #[error("server {server} can't take snapshots by itself: {why}. Nothing was changed on this server")]
    Scheduled {
        /// Its server.
        server: String,
        /// The attribute of `snapshots`, or `tools`.
        what: &'static str,
        /// What it is.
        why: String,
    },
    /// No certificate to talk to the members with.
    #[error(transparent)]
    Talk(Box<TalkError>),
    /// Some directed pairs are not connected.
    #[error("this member runs, and not all members were seen to reach each other:\n{}", .0.join("\n"))]
    Links(Vec<String>),
    /// Terraform asked to stop. `runs`: the member's process has been started.
    #[error("stopped on request; the next apply goes on from here")]
    Stopped {
        /// Whether the process has been started.
        runs: bool,
    },
}

fn not_well(down: &[Down]) -> String {
    match down {
        [] => String::new(),
        _ => format!("\nThese members are not well:{}", lines(down)),
    }
}

impl BringUpError {
    /// Whether its server was not reached, or no longer.
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Road(error) => matches!(error, RoadError::Connect(_)),
            Self::Run(error) => error.is_of_the_connection(),
            _ => false,
        }
    }

    /// Whether the member is as it was before, as far as it was there.
    pub fn changed_nothing(&self) -> bool {
        match self {
            Self::Turn { .. }
            | Self::Halted { .. }
            | Self::AsAnother { .. }
            | Self::Copied { .. }
            | Self::Configuration { .. } => true,
            Self::Refused { refusal, .. } => refusal.may_pass(),
            _ => false,
        }
    }
}

impl From<TalkError> for BringUpError {
    fn from(error: TalkError) -> Self {
        Self::Talk(Box::new(error))
    }
}
