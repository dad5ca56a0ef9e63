//! What a member's refusals and silences mean.

use std::time::Duration;

use etcd_client::Error;

use super::bounds;
use super::transport::{Objection, tls_reason};
use crate::host::said;

/// Why a member did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection: its server can't be reached, nothing listens there, or it ended.
    #[error("{member}: etcd can't be reached: {detail}")]
    Unreachable {
        /// The member's name in its certificate.
        member: String,
        /// Why.
        detail: String,
    },
    /// No answer in time. A change may have been made all the same.
    #[error("{member}: no answer to \"{call}\" within {} ms", waited.as_millis())]
    Timeout {
        /// The member's name in its certificate.
        member: String,
        /// What was asked.
        call: String,
        /// How long.
        waited: Duration,
    },
    /// The member knows no leader: there is no quorum, or not yet.
    #[error("{member}: the cluster has no leader")]
    NoLeader {
        /// The member's name in its certificate.
        member: String,
    },
    /// Access control is on, and we are not root.
    #[error(
        "{member}: etcd refused \"{call}\": {message}. Access control is on in this cluster, and the certificate that was shown is not that \
         of its user root: see the guide on access control"
    )]
    NotRoot {
        /// The member's name in its certificate.
        member: String,
        /// What was asked.
        call: String,
        /// etcd's words.
        message: String,
    },
    /// One of the two sides does not trust the other.
    #[error("{member}: TLS failed: {why}")]
    Tls {
        /// The member's name in its certificate.
        member: String,
        /// Why.
        why: String,
    },
    /// The answer was longer than any of etcd's.
    #[error(
        "{member}: the answer to \"{call}\" is longer than any of etcd's{}: look at what listens at its port for clients",
        most.map(|most| format!(" (more than {} KiB)", most >> 10)).unwrap_or_default()
    )]
    TooMuch {
        /// The member's name in its certificate.
        member: String,
        /// What was asked.
        call: String,
        /// How many bytes are read at most, where that is one number for all.
        most: Option<usize>,
    },
    /// The member answered, and refused.
    #[error("{member}: etcd refused \"{call}\": {message} ({code})")]
    Rejected {
        /// The member's name in its certificate.
        member: String,
        /// What was asked.
        call: String,
        /// The gRPC code, or the HTTP status.
        code: String,
        /// etcd's words, `etcdserver: …`.
        message: String,
    },
}

impl ApiError {
    /// Whether etcd refused with these words.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Rejected { message, .. } if message.contains(words))
    }

    /// Whether an alarm keeps all writes off: the database is full (or was, and that was not disarmed), or members' data differ.
    pub fn is_of_an_alarm(&self) -> bool {
        self.says("database space exceeded") || self.says("corrupt cluster")
    }
}

/// The cause of all, which says most.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    said::one_line(&cause.to_string())
}

/// An error of tonic's in connecting.
pub(super) fn of_transport(member: &str, error: &tonic::transport::Error) -> ApiError {
    let member = member.to_owned();
    match tls_reason(error) {
        Some(why) => ApiError::Tls { member, why },
        None => ApiError::Unreachable {
            member,
            detail: innermost(error),
        },
    }
}

/// An error of a call that was made.
pub(super) fn of_call(member: String, call: &str, waited: Duration, error: &Error, objection: &Objection) -> ApiError {
    let Error::GRpcStatus(status) = error else {
        return ApiError::Unreachable {
            member,
            detail: said::one_line(&error.to_string()),
        };
    };
    if bounds::is_too_much(status) {
        return ApiError::TooMuch {
            member,
            call: call.to_owned(),
            most: None,
        };
    }
    let message = said::one_line(status.message());
    // etcd's words: `api/v3rpc/rpctypes/error.go`.
    if message.contains("etcdserver: no leader") {
        return ApiError::NoLeader { member };
    }
    if status.code() == tonic::Code::DeadlineExceeded || message.starts_with("etcdserver: request timed out") {
        return ApiError::Timeout {
            member,
            call: call.to_owned(),
            waited,
        };
    }
    // Only an error of the connection has a source.
    if let Some(source) = std::error::Error::source(status) {
        return match tls_reason(source).or_else(|| objection.take()) {
            Some(why) => ApiError::Tls { member, why },
            None => ApiError::Unreachable {
                member,
                detail: innermost(source),
            },
        };
    }
    if ["permission denied", "user name is empty"]
        .iter()
        .any(|words| message.contains(words))
    {
        return ApiError::NotRoot {
            member,
            call: call.to_owned(),
            message,
        };
    }
    ApiError::Rejected {
        member,
        call: call.to_owned(),
        code: format!("{:?}", status.code()),
        message,
    }
}
