//! What a plan says of the authorities that a user gives, and of those that are there: whether they are authorities, whether what the one signs is
//! believed by who trusts the other, and whether they end soon. PURE.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::etcd::certificates::{Ca, CertificateError, CertificateInfo, PrivateKeyPem, parse_all};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::Value;

/// So long before an authority ends a plan says so. Another one takes its place in three applies, with days between them.
const WARN_BEFORE: Duration = Duration::days(90);

/// An authority's kind, and the attribute by which a user gives it.
const KINDS: [(&str, &str); 2] = [("peer", "peer_ca_certificate"), ("client", "client_ca_certificate")];

/// Checks the certificates in `tls`, and where there are none those that the cluster has.
pub fn check(prior: &Value, planned: &Value, now: OffsetDateTime) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let bundles = KINDS.map(|(kind, attribute)| {
        let given = planned.at(&["tls", attribute]);
        let (text, given) = match given {
            Value::String(text) => (text.as_str(), true),
            Value::Unknown => return None,
            _ => (
                prior.at(&["certificate_authorities", kind, "certificate"]).as_str()?,
                false,
            ),
        };
        let at = Path::of("tls").attribute(attribute);
        match parse_all(text) {
            Ok(all) => {
                diagnostics.append(authority(kind, &all[0], given, now, &at));
                Some(all)
            }
            Err(error) => {
                diagnostics.push(Diagnostic::error(format!("{attribute} can't be used"), sentence(&error)).at(at));
                None
            }
        }
    });
    if let [Some(peers), Some(clients)] = &bundles {
        let before = |attribute| prior.at(&["tls", attribute]) == planned.at(&["tls", attribute]);
        let known = !prior.is_null() && KINDS.iter().all(|(_, attribute)| before(attribute));
        diagnostics.append(common(peers, clients, known));
    }
    diagnostics
}

fn sentence(error: &CertificateError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn authority(kind: &str, first: &CertificateInfo, given: bool, now: OffsetDateTime, at: &Path) -> Diagnostics {
    let subject = &first.subject;
    let end = first.not_after.format(&Rfc3339).unwrap_or_default();
    if !first.is_ca {
        let error = CertificateError::NotACa {
            subject: subject.clone(),
        };
        return Diagnostic::error(format!("{at} can't be used"), sentence(&error))
            .at(at.clone())
            .into();
    }
    let what = if given {
        format!("Give the certificate of another authority in {at}, with its key")
    } else {
        "Set `tls.ca_rotation` to another text".to_owned()
    };
    if first.not_after <= now {
        let text = format!(
            "The authority {subject} for {kind}s ended at {end}. What it signed is trusted by no member and no client, and it can sign nothing more. \
             {what}, and apply three times."
        );
        let summary = "A certificate authority has ended";
        let diagnostic = match given {
            true => Diagnostic::error(summary, text),
            false => Diagnostic::warning(summary, text),
        };
        return diagnostic.at(at.clone()).into();
    }
    if first.not_after - now < WARN_BEFORE {
        let days = (first.not_after - now).whole_days();
        let text = format!(
            "The authority {subject} for {kind}s ends at {end}, in {days} days. All certificates that it signed end with it. {what}, and apply \
             three times. Members are restarted one at a time in the first and the third."
        );
        return Diagnostic::warning("A certificate authority ends soon", text)
            .at(at.clone())
            .into();
    }
    Diagnostics::new()
}

/// Members trust every certificate of a bundle, and what those signed. (Go takes an intermediate one for a root, too.)
fn common(peers: &[CertificateInfo], clients: &[CertificateInfo], known: bool) -> Diagnostics {
    let signs =
        |one: &CertificateInfo, other: &CertificateInfo| one.public_key == other.public_key || other.was_signed_by(one);
    let pairs = peers
        .iter()
        .flat_map(|peer| clients.iter().map(move |client| (peer, client)));
    let mut reasons = pairs.filter_map(|(peer, client)| {
        if peer.public_key == client.public_key {
            Some(format!("{} is in both", peer.subject))
        } else if signs(peer, client) {
            Some(format!(
                "{}, which peers would trust, signed {}, which clients have",
                peer.subject, client.subject
            ))
        } else if signs(client, peer) {
            Some(format!(
                "{}, which clients would trust, signed {}, which peers have",
                client.subject, peer.subject
            ))
        } else {
            None
        }
    });
    let Some(reason) = reasons.next() else {
        return Diagnostics::new();
    };
    let text = format!(
        "What signs for peers and what signs for clients have an authority in common: {reason}. Every client could act as a member of the cluster. \
         Make two authorities that have nothing in common, or give each intermediate authority alone, without the one that signed it: members \
         trust an intermediate authority as it is."
    );
    let at = Path::of("tls").attribute("client_ca_certificate");
    let summary = "Peers and clients need authorities of their own";
    let diagnostic = match known {
        true => Diagnostic::warning(summary, text),
        false => Diagnostic::error(summary, text),
    };
    diagnostic.at(at).into()
}

/// Refuses a key that the provider was given and that is not the authority's. `keys` is one PEM block or several, of which one has to fit.
pub fn key(planned: &Value, cluster: &str, kind: &str, keys: Option<&str>) -> Option<Diagnostic> {
    let keys = keys?;
    let certificate = planned.at(&["certificate_authorities", kind, "certificate"]).as_str()?;
    let next = planned
        .at(&["certificate_authorities", kind, "next_certificate"])
        .as_str();
    let keys = PrivateKeyPem::new(keys.to_owned()).each();
    // The last reason, if none of them fits.
    let fits = |certificate: &str| {
        let mut why = None;
        for key in &keys {
            match Ca::from_pem(certificate, key) {
                Ok(_) => return Ok(()),
                Err(error) => why = Some(error),
            }
        }
        Err(why)
    };
    let why = match [Some(certificate), next]
        .into_iter()
        .flatten()
        .map(fits)
        .collect::<Result<Vec<()>, _>>()
    {
        Ok(_) => return None,
        Err(Some(error)) => sentence(&error),
        Err(None) => "It is not in PEM form.".to_owned(),
    };
    let name = format!("certificate_authorities.{cluster}.{kind}_private_key");
    let text = format!(
        "The provider's {name} does not fit the authority for {kind}s of the cluster {cluster}. {why} Nothing was changed."
    );
    Some(Diagnostic::error(
        "A key of the provider's configuration does not fit",
        text,
    ))
}

#[cfg(test)]
#[path = "authority_checks/tests.rs"]
mod tests;
