//! A client's certificate is issued by the cluster's authority for clients.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::model;
use crate::etcd::certificates::{LeafRequest, PrivateKeyPem, parse};
use crate::plugin::diagnostics::Diagnostic;
use crate::plugin::path::Path;
use crate::plugin::value::Value;
use crate::resource::member::wanted::Keys;
use crate::resource::road::Road;

/// What was issued.
pub struct Issued {
    certificate: String,
    private_key: PrivateKeyPem,
    trusted: String,
    expires_at: OffsetDateTime,
}

impl Issued {
    /// The configuration with what was issued.
    pub fn into_value(self, mut config: Value) -> Value {
        config.set("certificate_pem", self.certificate);
        config.set("private_key_pem", self.private_key.expose());
        config.set("ca_pem", self.trusted);
        config.set("expires_at", self.expires_at.format(&Rfc3339).unwrap_or_default());
        config
    }
}

/// Issues what the configuration asks for.
///
/// # Errors
/// If the authority or its key is not there.
pub fn issue(road: &Road, config: &Value) -> Result<Issued, Diagnostic> {
    let text = |names: &[&str]| config.at(names).as_str().map(str::to_owned);
    let client = |name| text(&["cluster", "certificate_authorities", "client", name]);
    let name = text(&["cluster", "name"]).unwrap_or_default();
    let at = |what: String| {
        Diagnostic::error(format!("No certificate for a client of {name}"), what).at(Path::of("cluster"))
    };
    let Some(certificate) = client("certificate") else {
        return Err(at(
            "The cluster has no certificate authority for clients, so it takes clients without certificates."
                .to_owned(),
        ));
    };
    let given = text(&["client_ca_private_key_wo"]).or_else(|| text(&["client_ca_private_key"]));
    let key = given
        .or_else(|| client("private_key"))
        .or_else(|| road.authority_keys(&name).client_private_key);
    let keys = Keys {
        peer: None,
        client: key.map(PrivateKeyPem::new),
    };
    let common_name = text(&["common_name"]).unwrap_or_default();
    let request = LeafRequest::operator(&common_name).with_lifetime(model::lifetime(config)?);
    let leaf = keys
        .issue(&certificate, &request)
        .map_err(|error| at(format!("{error}.")))?;
    let info = parse(&leaf.cert_pem).map_err(|error| at(format!("{error}.")))?;
    Ok(Issued {
        certificate: leaf.cert_pem,
        private_key: leaf.key_pem,
        trusted: client("trusted").unwrap_or(certificate),
        expires_at: info.not_after,
    })
}
