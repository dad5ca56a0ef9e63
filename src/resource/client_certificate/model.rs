//! What a configuration says about a client's certificate.

use time::Duration;

use crate::etcd::certificates::LEAF_LIFETIME;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::resource::cluster::model as cluster;
use crate::resource::durations::{LIFETIME, RENEWAL};
use crate::resource::reference::remember_cluster;

/// How long an ephemeral one is good for: longer than any run.
const OF_A_RUN: Duration = Duration::hours(24);

/// The attributes of the resource. Keys of authorities are write-only, so that they are in the cluster's state alone.
pub fn resource_attributes() -> Vec<Attribute> {
    let mut attributes = asked(true);
    attributes.extend([
        Attribute::string("lifetime")
            .describe("How long it is valid, such as `720h`, from `1m` to `3650d`. Default: a year."),
        Attribute::string("renew_before").describe(
            "How long before its end the next apply issues another one: less than `lifetime`. Default: a third of it.",
        ),
        Attribute::string("client_ca_private_key_wo")
            .sensitive()
            .write_only()
            .describe(
                "The private key of your own authority for clients, in PEM, where the provider was not given it.",
            ),
    ]);
    attributes.extend(issued());
    remember_cluster(attributes)
}

/// The attributes of the ephemeral resource.
pub fn ephemeral_attributes() -> Vec<Attribute> {
    let mut attributes = asked(false);
    attributes.extend([
        Attribute::string("lifetime")
            .describe("How long it is valid, such as `2h`, from `1m` to `3650d`. Default: `24h`."),
        Attribute::string("client_ca_private_key").sensitive().describe(
            "The private key of your own authority for clients, in PEM, where the provider was not given it.",
        ),
    ]);
    attributes.extend(issued());
    attributes
}

fn asked(write_only_keys: bool) -> Vec<Attribute> {
    let mut attributes = cluster::shared_attributes();
    let key = Attribute::string("private_key")
        .sensitive()
        .describe("Its private key in PEM. It goes into no state here.");
    let key = if write_only_keys { key.write_only() } else { key };
    let client = vec![
        Attribute::string("certificate").describe("Its certificate in PEM."),
        key,
        Attribute::string("trusted").describe("What clients are to trust, in PEM."),
    ];
    let client = Attribute::object("client", client).describe("The authority for connections of clients.");
    attributes.push(
        Attribute::object("certificate_authorities", vec![client]).describe("Its certificate authority for clients."),
    );
    vec![
        Attribute::object("cluster", attributes)
            .required()
            .describe("The cluster: `etcd_cluster.<name>`."),
        Attribute::string("common_name")
            .required()
            .describe("Its subject's common name: the client's user, where etcd's authentication is on."),
    ]
}

fn issued() -> Vec<Attribute> {
    vec![
        Attribute::string("certificate_pem")
            .computed()
            .describe("The certificate in PEM."),
        Attribute::string("private_key_pem")
            .computed()
            .sensitive()
            .describe("Its private key in PEM."),
        Attribute::string("ca_pem")
            .computed()
            .describe("What the client is to trust, in PEM."),
        Attribute::string("expires_at")
            .computed()
            .describe("When it ends, in RFC 3339."),
    ]
}

/// Checks what is known of a configuration.
pub fn validate(config: &Value) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let at = |name: &str, summary: &str, detail: &str| Diagnostic::error(summary, detail).at(Path::of(name));
    if config.get("common_name").as_str() == Some("") {
        diagnostics.push(at(
            "common_name",
            "Empty common name",
            "A certificate is somebody's: give a name.",
        ));
    }
    if config.at(&["cluster", "tls", "enabled"]).as_bool() == Some(false) {
        diagnostics.push(at(
            "cluster",
            "The cluster has no TLS",
            "Its clients need no certificates: `tls.enabled` is false.",
        ));
    }
    for name in ["lifetime", "renew_before"] {
        diagnostics.append(duration(config, name).err().into_iter().collect());
    }
    if let (Ok(Some(before)), Ok(lifetime)) = (duration(config, "renew_before"), lifetime(config))
        && before >= lifetime
        && !config.get("lifetime").is_unknown()
    {
        let text = "It has to be shorter than `lifetime`: every apply would issue another certificate.";
        diagnostics.push(at("renew_before", "Invalid renew_before", text));
    }
    diagnostics
}

/// `lifetime` or `renew_before` of the configuration.
///
/// # Errors
/// If it is no duration, or out of its bounds.
pub fn duration(config: &Value, name: &str) -> Result<Option<Duration>, Diagnostic> {
    let Some(text) = config.get(name).as_str() else {
        return Ok(None);
    };
    let range = if name == "lifetime" { LIFETIME } else { RENEWAL };
    let read = range.read(text, &format!("Invalid {name}"), Path::of(name))?;
    // The ranges are far within what a calendar can count.
    Ok(Some(Duration::try_from(read).unwrap_or(LEAF_LIFETIME)))
}

/// How long a certificate is to be valid. Only the ephemeral one has no `renew_before`.
///
/// # Errors
/// If it is no duration.
pub fn lifetime(config: &Value) -> Result<Duration, Diagnostic> {
    let stored = config.as_map().is_some_and(|all| all.contains_key("renew_before"));
    let default = if stored { LEAF_LIFETIME } else { OF_A_RUN };
    Ok(duration(config, "lifetime")?.unwrap_or(default))
}

/// How long before its end a certificate of the state is renewed.
///
/// # Errors
/// If it is no duration.
pub fn renew_before(config: &Value) -> Result<Duration, Diagnostic> {
    let lifetime = lifetime(config)?;
    Ok(duration(config, "renew_before")?.unwrap_or(lifetime / 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_always_due_is_refused() {
        let said = |lifetime: &str, before: &str| {
            let config = Value::object([("lifetime", lifetime.into()), ("renew_before", before.into())]);
            let said = validate(&config);
            said.iter().map(|one| one.detail.clone()).collect::<Vec<_>>()
        };
        assert_eq!(said("48h", "47h59m59s"), Vec::<String>::new());
        assert!(said("48h", "48h")[0].contains("shorter than `lifetime`"));
        assert!(said("10000y", "1h")[0].contains("from 1m to 3650d"));
        assert!(said("0s", "1h")[0].contains("from 1m to 3650d"));
    }
}
