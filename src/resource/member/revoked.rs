//! The list of certificates that a member accepts no more, and the serial numbers of its own, for the day on which its server is lost.

use std::collections::BTreeMap;

use super::model::MemberModel;
use super::wanted::{WantedError, WantedFile};
use crate::etcd::certificates::{parse, revocation_list};
use crate::etcd::layout::Layout;
use crate::plugin::value::Value;

/// The certificates of a member by their names in `certificate_serials`, and their files.
pub const FILES: [(&str, &str); 4] = [
    ("peer", "peer"),
    ("peer_client", "peer-client"),
    ("client", "server"),
    ("operator", "operator"),
];

/// Whether the member is given a list.
pub fn is_wanted(member: &MemberModel) -> bool {
    member.cluster.tls_enabled() && !member.cluster.revoked().is_empty()
}

/// The list, if there is one.
///
/// # Errors
/// If it can't be made.
pub fn wanted(member: &MemberModel, layout: &Layout) -> Result<Option<WantedFile>, WantedError> {
    if !is_wanted(member) {
        return Ok(None);
    }
    Ok(Some(WantedFile {
        path: layout.revoked_file().to_string(),
        mode: 0o640,
        contents: revocation_list(member.cluster.token(), &member.cluster.revoked())?,
    }))
}

/// The serial numbers of certificates in PEM, by file.
pub fn serials(certificates: &BTreeMap<String, String>) -> Value {
    let serial = |file: &str| Some(parse(certificates.get(file)?).ok()?.serial.to_string());
    Value::object(FILES.map(|(name, file)| (name, serial(file).into())))
}

/// The serial numbers that a state has, as a configuration takes them.
pub fn listed(member: &MemberModel) -> Option<String> {
    let serials = member.certificate_serials.as_ref()?;
    let quoted: Vec<String> = serials
        .values()
        .flatten()
        .map(|serial| format!("\"{serial}\""))
        .collect();
    (!quoted.is_empty()).then(|| format!("[{}]", quoted.join(", ")))
}
