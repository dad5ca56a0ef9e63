//! Whom the members of a cluster trust that was made by other means, and as whom they know each other.

use std::collections::BTreeMap;

use super::{READ, Seen};
use crate::etcd::certificates::{count, parse};
use crate::host::{PRIVILEGE, Script, Secret};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::value::Value;
use crate::resource::cluster::servers::on_each;
use crate::resource::import::refused;
use crate::resource::road::Road;
use crate::resource::server::model::ServerModel;

/// What the servers have of certificates.
#[derive(Default)]
pub struct Trust {
    /// As `certificate_authorities` has them, without keys.
    pub authorities: Value,
    /// What a member shows to clients, to ask all of them with.
    pub borrowed: Option<(String, Secret)>,
    /// What each member shows to clients.
    shown: BTreeMap<String, String>,
}

/// Reads the certificates. The authorities have to be the same on all servers, one for each kind.
///
/// # Errors
/// If they are not.
pub async fn look(
    road: &Road,
    name: &str,
    models: &BTreeMap<String, ServerModel>,
    seen: &BTreeMap<String, Seen>,
) -> Result<Trust, Diagnostics> {
    let read = on_each(road, models, READ, false, |server, host| {
        let files = seen[server].former.certificates.clone();
        async move {
            let script = Script::new("reading the certificates of the authorities")
                .set("peer", &files.peer_authority)
                .set("client", &files.client_authority)
                .set("certificate", &files.certificate)
                .set("key", &files.key)
                .set("main", seen[server].sight.process.as_deref().unwrap_or("0"))
                .line(PRIVILEGE)
                .line(include_str!("../../process_file.sh"))
                .line("tell_process_file peer \"$peer\"; tell_process_file client \"$client\"")
                .line("tell_process_file certificate \"$certificate\"; tell_process_file key \"$key\"");
            let output = host.run_checked(&script).await?;
            let text = |key: &str| output.text(key).map(str::to_owned);
            let unreadable = output.values("unreadable").map(str::to_owned).collect::<Vec<_>>();
            Ok((["peer", "client", "certificate", "key"].map(text), unreadable))
        }
    })
    .await;
    let mut trust = Trust::default();
    // By what they are: the same certificate may stand there in other words.
    let mut authorities: [BTreeMap<String, String>; 2] = Default::default();
    for (server, files) in read {
        let files = files.map_err(|error| refused(name, &format!("Server {server} could not be asked: {error}.")))?;
        let ([peer, client, certificate, key], unreadable) = files;
        if !unreadable.is_empty() {
            let problem = format!(
                "Server {server}: {} can't be read as the user that the member runs as. Let that user or its groups read it.",
                unreadable.join(", ")
            );
            return Err(refused(name, &problem));
        }
        for (what, file, all) in [("peers", peer, 0), ("clients", client, 1)] {
            let Some((fingerprint, text)) = file.as_deref().and_then(authority) else {
                let problem = format!(
                    "Server {server}: what its member trusts {what} by is not the certificate of exactly one authority. Bring its \
                     trusted-ca-file to that first."
                );
                return Err(refused(name, &problem));
            };
            authorities[all].entry(fingerprint).or_insert(text);
        }
        trust.shown.extend(certificate.clone().map(|text| (server, text)));
        trust.borrowed = trust.borrowed.or(certificate.zip(key.map(Secret::new)));
    }
    let mut kinds = BTreeMap::new();
    for (kind, all) in ["peer", "client"].into_iter().zip(&authorities) {
        let [certificate] = all.values().collect::<Vec<_>>()[..] else {
            let problem =
                format!("Its members trust different authorities for {kind}s. All have to trust the same one.");
            return Err(refused(name, &problem));
        };
        let authority = Value::object([
            ("certificate", certificate.as_str().into()),
            ("trusted", certificate.as_str().into()),
            ("private_key", Value::Null),
        ]);
        kinds.insert(kind.to_owned(), authority);
    }
    trust.authorities = Value::Map(kinds);
    Ok(trust)
}

/// The one authority in a file, and what it is told by.
fn authority(text: &str) -> Option<(String, String)> {
    let info = parse(text).ok()?;
    let one = count(text) == 1;
    (one && info.is_ca).then(|| (info.fingerprint, text.to_owned()))
}

impl Trust {
    /// What the member's certificate for clients is valid for, and that of this provider's will not be.
    pub fn lost_names(&self, server: &ServerModel, domain: &str) -> Vec<String> {
        let Some(info) = self.shown.get(&server.name).and_then(|text| parse(text).ok()) else {
            return Vec::new();
        };
        let stay = [
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
            server.private_address.clone(),
            server.public_address.clone().unwrap_or_default(),
            format!("{}.{domain}", server.name),
        ];
        let addresses = info.ip_addresses.iter().map(ToString::to_string);
        let mut names: Vec<String> = info.dns_names.iter().cloned().chain(addresses).collect();
        names.retain(|name| !stay.contains(name));
        names
    }
}
