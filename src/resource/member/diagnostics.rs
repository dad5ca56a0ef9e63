//! What is said of a member, and on which attribute.

use super::errors::BringUpError;
use super::model::MemberModel;
use super::wanted::WantedError;
use crate::membership::health::Remark;
use crate::membership::member::Refusal;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;

/// What this provider did not take over is not its to take away.
pub(super) fn not_ours(member: &MemberModel) -> Diagnostic {
    let service = member.cluster.adopted_from.as_deref().unwrap_or_default();
    let detail = format!(
        "It was imported, and {service} runs it still: this provider has not taken it over, and does not take it away. Take it over first \
         (`terraform apply` with it in the configuration), or forget it with a `removed` block and `destroy = false`. Nothing was \
         changed."
    );
    Diagnostic::error(format!("Member {} is not this provider's yet", member.server), detail).at(Path::of("server"))
}

/// Members that were down before this one was changed are not its fault, and not to be passed over.
pub(super) fn unverified(server: &str, others: &[String]) -> Diagnostics {
    if others.is_empty() {
        return Diagnostics::new();
    }
    let detail = format!(
        "These members of the cluster did not answer before {server} was changed, so whether they and {server} reach each other \
         was not verified: {}. The cluster has a quorum without them, and less to spare.",
        others.join(", ")
    );
    Diagnostic::warning("Some members did not answer", detail).into()
}

/// A warning where a member is up whose disk, clock or lines have become poor since the preflight saw them.
pub(super) fn remarkable(server: &str, remarks: &[Remark]) -> Diagnostics {
    if remarks.is_empty() {
        return Diagnostics::new();
    }
    let sentences: Vec<String> = remarks
        .iter()
        .map(|remark| format!("Server {server} {remark}."))
        .collect();
    Diagnostic::warning(
        format!("Member {server} is up, and something may be trouble"),
        sentences.join("\n\n"),
    )
    .at(Path::of("server"))
    .into()
}

/// A warning where a peer that moved could not be dialled at its new address.
pub(super) fn not_dialled(member: &MemberModel, left: &[String]) -> Diagnostics {
    if left.is_empty() {
        return Diagnostics::new();
    }
    let summary = format!("Member {} does not dial all peers where they are now", member.server);
    Diagnostic::warning(summary, format!("Addresses have moved, and {}.", left.join("; ")))
        .at(Path::of("cluster").attribute("servers"))
        .into()
}

/// The error with the attribute that it is about. One that `existed` and was not changed may well be up.
pub(super) fn explain(member: &MemberModel, existed: bool, error: &BringUpError) -> Diagnostic {
    let at = match error {
        BringUpError::Binary(_) => Path::of("binary"),
        BringUpError::Scheduled { what: "tools", .. } => Path::of("snapshots"),
        BringUpError::Scheduled { what, .. } => Path::of("snapshots").attribute(what),
        BringUpError::OldForSnapshot { .. } => Path::of("version"),
        BringUpError::Wanted(WantedError::Config(_)) | BringUpError::Configuration { .. } => Path::of("config"),
        BringUpError::Wanted(_) => Path::of("cluster").attribute("certificate_authorities"),
        BringUpError::Refused { refusal, .. } => match refusal {
            Refusal::ForeignData => Path::of("data_dir"),
            Refusal::Skew { .. } | Refusal::Version { .. } => Path::of("version"),
            _ => Path::of("server"),
        },
        _ => Path::of("server"),
    };
    let what = if existed && error.changed_nothing() {
        "was not changed"
    } else {
        "is not up"
    };
    Diagnostic::error(format!("Member {} {what}", member.server), error.to_string()).at(at)
}
