use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

/// An authority, what it is signed by, and when it ends.
struct Made {
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

fn made(name: &str, by: Option<&Made>, ca: bool, days: i64) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params.not_before = OffsetDateTime::now_utc() - Duration::days(400);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    let signed = match by {
        None => params.self_signed(&key),
        Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)),
    };
    Made {
        pem: signed.unwrap().pem(),
        key,
        params,
    }
}

fn root(name: &str) -> Made {
    made(name, None, true, 3650)
}

fn given(peer: &str, client: &str) -> Value {
    let tls = [
        ("peer_ca_certificate", peer.into()),
        ("client_ca_certificate", client.into()),
    ];
    Value::object([("tls", Value::object(tls))])
}

/// The summaries, and whether one is an error.
fn said(prior: &Value, planned: &Value) -> (Vec<String>, bool) {
    let diagnostics = check(prior, planned, OffsetDateTime::now_utc());
    let texts = diagnostics
        .iter()
        .map(|one| format!("{}: {}", one.summary, one.detail))
        .collect();
    (texts, diagnostics.has_errors())
}

#[test]
fn two_authorities_with_nothing_in_common_are_good() {
    let (one, other) = (root("one"), root("other"));
    assert_eq!(said(&Value::Null, &given(&one.pem, &other.pem)), (vec![], false));
    // Two intermediate ones of one root, without the root: each is trusted as it is, and no more.
    let (peers, clients) = (
        made("peers", Some(&one), true, 900),
        made("clients", Some(&one), true, 900),
    );
    assert_eq!(said(&Value::Null, &given(&peers.pem, &clients.pem)), (vec![], false));
}

#[test]
fn an_authority_that_both_lead_to_is_refused() {
    let one = root("one");
    let (peers, clients) = (
        made("peers", Some(&one), true, 900),
        made("clients", Some(&one), true, 900),
    );
    let chain = |first: &Made| format!("{}{}", first.pem, one.pem);
    for (peer, client, word) in [
        (one.pem.clone(), one.pem.clone(), "CN=one is in both"),
        (
            chain(&peers),
            chain(&clients),
            "CN=one, which clients would trust, signed CN=peers",
        ),
        (chain(&peers), clients.pem.clone(), "signed CN=clients"),
        (one.pem.clone(), clients.pem.clone(), "signed CN=clients"),
        (
            peers.pem.clone(),
            one.pem.clone(),
            "CN=one, which clients would trust, signed CN=peers",
        ),
    ] {
        let planned = given(&peer, &client);
        let (texts, refused) = said(&Value::Null, &planned);
        assert!(
            refused && texts.len() == 1 && texts[0].contains(word),
            "{word}: {texts:?}"
        );
        // A cluster that has them already is not kept from everything else.
        let (texts, refused) = said(&planned, &planned);
        assert!(!refused && texts[0].contains(word), "{word}: {texts:?}");
    }
}

#[test]
fn what_is_no_authority_or_ends_is_said() {
    let good = root("good");
    for (pem, word, refused) in [
        (made("leaf", None, false, 900).pem, "no certificate authority", true),
        ("-----BEGIN X-----".to_owned(), "not a certificate in PEM form", true),
        (String::new(), "not a certificate in PEM form", true),
        (made("old", None, true, -1).pem, "ended at", true),
        (made("soon", None, true, 20).pem, "ends at", false),
    ] {
        for planned in [given(&pem, &good.pem), given(&good.pem, &pem)] {
            let (texts, is_refused) = said(&Value::Null, &planned);
            assert!(texts.len() == 1 && texts[0].contains(word), "{word}: {texts:?}");
            assert_eq!(is_refused, refused, "{word}");
        }
    }
    // One that the cluster made.
    let made_by_cluster = |days| {
        let kind = |name| Value::object([("certificate", made(name, None, true, days).pem.as_str().into())]);
        Value::object([(
            "certificate_authorities",
            Value::object([("peer", kind("p")), ("client", kind("c"))]),
        )])
    };
    let (texts, refused) = said(&made_by_cluster(20), &Value::object([("tls", Value::Null)]));
    assert!(
        texts.len() == 2 && texts[0].contains("ca_rotation") && !refused,
        "{texts:?}"
    );
    assert_eq!(
        said(&made_by_cluster(100), &Value::object([("tls", Value::Null)]))
            .0
            .len(),
        0
    );
}

#[test]
fn a_key_that_does_not_fit_is_refused() {
    let (one, other) = (root("one"), root("other"));
    let cluster = |next: Value| {
        let peer = [("certificate", one.pem.as_str().into()), ("next_certificate", next)];
        Value::object([(
            "certificate_authorities",
            Value::object([("peer", Value::object(peer))]),
        )])
    };
    let steady = cluster(Value::Null);
    let (right, wrong) = (one.key.serialize_pem(), other.key.serialize_pem());
    let refused = |planned: &Value, keys: &str| key(planned, "main", "peer", Some(keys)).map(|one| one.detail);
    assert_eq!(refused(&steady, &right), None);
    assert_eq!(refused(&steady, &format!("{wrong}{right}")), None);
    assert!(
        refused(&steady, &wrong)
            .unwrap()
            .contains("certificate_authorities.main.peer_private_key")
    );
    assert!(refused(&steady, "secret").unwrap().contains("not in PEM form"));
    // While one takes the place of the other both are needed.
    let rotating = cluster(other.pem.as_str().into());
    assert_eq!(refused(&rotating, &format!("{wrong}{right}")), None);
    assert!(refused(&rotating, &right).is_some());
    assert!(key(&steady, "main", "peer", None).is_none() && key(&steady, "main", "client", Some(&wrong)).is_none());
}
