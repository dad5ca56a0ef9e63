//! The certificate authorities of a cluster, and how others take their place without cutting a link: first every member trusts
//! both, then every certificate is issued by the new one, then the old one is forgotten. Each is a step of its own, planned when
//! every server was seen to have done the one before.

use time::OffsetDateTime;

use super::authority_checks;
use super::model::Authority;
use crate::etcd::certificates::{Ca, CaPurpose, count, parse};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::value::{Value, from_value, to_value};
use crate::topology::ClusterName;

/// Members are being restarted to trust both.
pub const TRUSTING: &str = "trusting";
/// All of them do.
pub const TRUSTED: &str = "trusted";
/// Certificates are being issued by the new authority.
pub const ISSUING: &str = "issuing";
/// All of them are.
pub const ISSUED: &str = "issued";

const KINDS: [(&str, &str); 2] = [("peer", "peer_ca_certificate"), ("client", "client_ca_certificate")];

/// Plans the authorities: none without TLS, the user's own, or those that the apply makes; and the next step of a rotation.
pub fn refine(prior: &Value, planned: &mut Value, diagnostics: &mut Diagnostics) {
    let tls = planned.get("tls").clone();
    if tls.get("enabled").as_bool() == Some(false) {
        planned.set("certificate_authorities", Value::Null);
        planned.set("rotation", Value::Null);
        return;
    }
    diagnostics.append(authority_checks::check(prior, planned, OffsetDateTime::now_utc()));
    let before = prior.get("certificate_authorities");
    if before.is_null() {
        let first = |given: &Value| match given {
            Value::String(certificate) => steady(certificate.as_str().into(), Value::Null),
            _ => Value::Unknown,
        };
        let authorities = KINDS.map(|(kind, attribute)| (kind, first(tls.get(attribute))));
        planned.set("certificate_authorities", Value::object(authorities));
        planned.set("rotation", Value::Null);
        return;
    }
    let rotation = prior.get("rotation").as_str();
    let asked = tls.get("ca_rotation") != prior.at(&["tls", "ca_rotation"]);
    let authorities = KINDS.map(|(kind, attribute)| {
        let before = before.get(kind);
        let after = match rotation {
            None => begin(before, prior.at(&["tls", attribute]), tls.get(attribute), asked),
            Some(TRUSTED) => issue(before),
            Some(ISSUED) => steady(before.get("certificate").clone(), before.get("private_key").clone()),
            Some(_) => before.clone(),
        };
        (kind, after)
    });
    let begins = || {
        authorities
            .iter()
            .any(|(_, after)| !after.get("next_certificate").is_null())
    };
    let given = KINDS.iter().any(|(_, attribute)| tls.get(attribute).is_unknown());
    let rotation = match rotation {
        None if given => Value::Unknown,
        None if begins() => TRUSTING.into(),
        None | Some(ISSUED) => Value::Null,
        Some(TRUSTED) => ISSUING.into(),
        Some(other) => other.into(),
    };
    if let Some(step) = rotation.as_str() {
        diagnostics.push(Diagnostic::warning(
            "The certificate authorities are being replaced",
            explain(step),
        ));
    }
    planned.set("certificate_authorities", Value::object(authorities));
    planned.set("rotation", rotation);
}

fn explain(step: &str) -> &'static str {
    if step == ISSUING {
        "Step 2 of 3: certificates are issued by the new authorities, without a restart. Then apply once more, to forget the old ones."
    } else {
        "Step 1 of 3: members are restarted one at a time, to trust the old and the new authorities. Then apply again, to have \
         certificates issued by the new ones, and once more to forget the old ones. Nothing is cut at any time, and there is no hurry."
    }
}

fn steady(certificate: Value, private_key: Value) -> Value {
    Value::object([
        ("trusted", certificate.clone()),
        ("certificate", certificate),
        ("private_key", private_key),
        ("next_certificate", Value::Null),
        ("next_private_key", Value::Null),
    ])
}

/// The first step, if another authority is wanted than there is.
fn begin(before: &Value, given_before: &Value, given: &Value, asked: bool) -> Value {
    let mut after = before.clone();
    match given {
        Value::String(certificate) if is_same(before.get("certificate").as_str(), certificate) => {}
        Value::String(certificate) => {
            after.set("next_certificate", certificate.as_str());
            after.set(
                "trusted",
                both(before.get("certificate").as_str().unwrap_or_default(), certificate),
            );
        }
        // Made by the cluster and kept; also where an import found the certificate alone.
        Value::Null if given_before.is_null() && !asked => {}
        // Made by the apply.
        _ => {
            after.set("next_certificate", Value::Unknown);
            after.set("next_private_key", Value::Unknown);
            after.set("trusted", Value::Unknown);
        }
    }
    after
}

/// Whether it is the same certificate, be it in other words: a file may have comments or another end.
fn is_same(before: Option<&str>, given: &str) -> bool {
    let fingerprint = |text: &str| parse(text).ok().map(|info| info.fingerprint);
    let one = count(given) < 2;
    before.is_some_and(|before| {
        before == given || (one && fingerprint(before).is_some_and(|of| Some(of) == fingerprint(given)))
    })
}

/// The second step.
fn issue(before: &Value) -> Value {
    let mut after = before.clone();
    if !before.get("next_certificate").is_null() {
        after.set("certificate", before.get("next_certificate").clone());
        after.set("private_key", before.get("next_private_key").clone());
        after.set("next_certificate", Value::Null);
        after.set("next_private_key", Value::Null);
    }
    after
}

/// The text stays the same from the first step to the last one: etcd would have to be restarted for another.
fn both(before: &str, after: &str) -> String {
    format!("{}\n{}\n", before.trim_end(), after.trim_end())
}

/// Makes what only the apply can make.
///
/// # Errors
/// If there is no randomness, or a certificate can't be read.
pub fn complete(planned: &mut Value, name: &ClusterName) -> Result<(), String> {
    if planned.get("certificate_authorities").is_null() {
        return Ok(());
    }
    let peer = completed(planned, KINDS[0], CaPurpose::Peers, name)?;
    let client = completed(planned, KINDS[1], CaPurpose::Clients, name)?;
    let rotates = peer.next_certificate.is_some() || client.next_certificate.is_some();
    let value = |authority: &Authority| to_value(authority).map_err(|error| error.to_string());
    let authorities = Value::object([("peer", value(&peer)?), ("client", value(&client)?)]);
    planned.set("certificate_authorities", authorities);
    if planned.get("rotation").is_unknown() {
        planned.set("rotation", rotates.then_some(TRUSTING));
    }
    Ok(())
}

fn completed(
    planned: &Value,
    (kind, attribute): (&str, &str),
    purpose: CaPurpose,
    name: &ClusterName,
) -> Result<Authority, String> {
    let value = planned.at(&["certificate_authorities", kind]);
    let made = || match planned.at(&["tls", attribute]).as_str() {
        Some(given) => Ok((given.to_owned(), None)),
        None => Ca::generate(name, purpose, OffsetDateTime::now_utc())
            .map(|ca| (ca.cert_pem().to_owned(), Some(ca.key_pem().expose().to_owned())))
            .map_err(|error| error.to_string()),
    };
    if value.is_unknown() {
        let (certificate, private_key) = made()?;
        return Ok(Authority {
            trusted: Some(certificate.clone()),
            certificate,
            private_key,
            ..Authority::default()
        });
    }
    let known: Authority = from_value(&value.unknown_as_null()).map_err(|error| error.to_string())?;
    if !value.get("next_certificate").is_unknown() {
        return Ok(known);
    }
    let (next, next_private_key) = made()?;
    if next == known.certificate {
        let trusted = Some(next);
        return Ok(Authority { trusted, ..known });
    }
    Ok(Authority {
        trusted: Some(both(&known.certificate, &next)),
        next_certificate: Some(next),
        next_private_key,
        ..known
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> Value {
        steady(format!("{name} certificate").into(), format!("{name} key").into())
    }

    fn state(rotation: Value, trigger: &str) -> Value {
        Value::object([
            ("tls", Value::object([("ca_rotation", trigger.into())])),
            (
                "certificate_authorities",
                Value::object([("peer", made("p")), ("client", made("c"))]),
            ),
            ("rotation", rotation),
        ])
    }

    fn plan(prior: &Value, trigger: &str) -> Value {
        let mut planned = prior.clone();
        planned.set("tls", Value::object([("ca_rotation", trigger.into())]));
        refine(prior, &mut planned, &mut Diagnostics::new());
        planned
    }

    #[test]
    fn three_steps_and_nothing_more() {
        let name = ClusterName::parse("main").unwrap();
        let before = state(Value::Null, "1");
        assert_eq!(plan(&before, "1"), before, "nothing without being asked");
        let mut first = plan(&before, "2");
        assert_eq!(first.get("rotation").as_str(), Some(TRUSTING));
        complete(&mut first, &name).unwrap();
        let peer = ["certificate_authorities", "peer"];
        assert_eq!(first.at(&peer).get("certificate").as_str(), Some("p certificate"));
        let next = first.at(&peer).get("next_certificate").as_str().unwrap().to_owned();
        let trusted = first.at(&peer).get("trusted").as_str().unwrap().to_owned();
        assert!(trusted.starts_with("p certificate") && trusted.contains(next.trim()));
        assert_eq!(plan(&first, "2"), first, "not before every server trusts both");

        first.set("rotation", TRUSTED);
        let mut second = plan(&first, "2");
        assert_eq!(second.get("rotation").as_str(), Some(ISSUING));
        assert_eq!(second.at(&peer).get("certificate").as_str(), Some(next.as_str()));
        assert_eq!(
            second.at(&peer).get("trusted").as_str(),
            Some(trusted.as_str()),
            "no restart"
        );
        assert!(
            second
                .at(&peer)
                .get("private_key")
                .as_str()
                .unwrap()
                .contains("PRIVATE KEY")
        );

        second.set("rotation", ISSUED);
        let third = plan(&second, "2");
        assert!(third.get("rotation").is_null());
        assert_eq!(third.at(&peer).get("trusted").as_str(), Some(next.as_str()));
        assert_eq!(plan(&third, "2"), third);
    }

    #[test]
    fn an_authority_of_the_users_own_is_replaced_alone() {
        let before = state(Value::Null, "1");
        let mut planned = before.clone();
        planned.set(
            "tls",
            Value::object([("ca_rotation", "1".into()), ("client_ca_certificate", "mine".into())]),
        );
        refine(&before, &mut planned, &mut Diagnostics::new());
        assert_eq!(planned.get("rotation").as_str(), Some(TRUSTING));
        let authorities = planned.get("certificate_authorities");
        assert_eq!(authorities.at(&["client", "next_certificate"]).as_str(), Some("mine"));
        assert_eq!(
            authorities.at(&["client", "trusted"]).as_str(),
            Some("c certificate\nmine\n")
        );
        assert_eq!(authorities.get("peer"), before.at(&["certificate_authorities", "peer"]));
    }
}
