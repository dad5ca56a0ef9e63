//! Certificates that no member accepts any more.

use super::model::ClusterModel;
use super::rotation;
use super::servers::on_each;
use crate::etcd::certificates::{Serial, parse};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::Value;
use crate::resource::road::Road;

/// Checks what the configuration alone tells.
pub fn validate(config: &Value) -> Diagnostics {
    let tls = config.get("tls");
    let at = Path::of("tls").attribute("revoked");
    let listed = tls.get("revoked").as_list().unwrap_or_default();
    if !listed.is_empty() && tls.get("enabled").as_bool() == Some(false) {
        let text = "Without TLS no certificate is shown, and none can be refused.";
        return Diagnostic::error("Nothing to revoke", text).at(at).into();
    }
    let texts = listed.iter().filter_map(Value::as_str);
    let wrong = texts.filter_map(|text| Some((text, Serial::read(text).err()?)));
    wrong
        .map(|(text, why)| {
            let shown: String = text.chars().take(60).collect();
            Diagnostic::error("This certificate can't be revoked", format!("{shown:?}: {why}.")).at(at.clone())
        })
        .collect()
}

/// Refuses to revoke what a server of the cluster uses still: the other members would be cut off from it.
pub async fn in_use(road: &Road, cluster: &ClusterModel) -> Diagnostics {
    let revoked = cluster.revoked();
    if revoked.is_empty() {
        return Diagnostics::new();
    }
    let seen = on_each(road, &cluster.servers, super::READ, false, |_, host| async move {
        rotation::observe(&host, &cluster.name).await
    })
    .await;
    let mut diagnostics = Diagnostics::new();
    for (server, output) in &seen {
        let Ok(output) = output else { continue };
        for file in ["peer", "peer-client", "server", "operator"] {
            let serial = output
                .text(file)
                .and_then(|pem| parse(pem).ok())
                .map(|info| info.serial);
            if let Some(serial) = serial.filter(|serial| revoked.contains(serial)) {
                let detail = format!(
                    "Server {server} is one of the cluster, and its member uses the certificate {serial} \
                     (/etc/etcd/{cluster}/pki/{file}.crt). Without it the other members would cut it off. If the server is lost, take it out of \
                     the configuration first. If only the key is known to others, delete that file on the server and apply without this \
                     entry: the apply issues another certificate. Nothing was changed.",
                    cluster = cluster.name,
                );
                diagnostics.push(
                    Diagnostic::error("A certificate that is in use can't be revoked", detail)
                        .at(Path::of("tls").attribute("revoked")),
                );
            }
        }
    }
    diagnostics
}
