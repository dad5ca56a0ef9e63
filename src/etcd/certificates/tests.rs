use std::process::Command;

use time::macros::datetime;

use super::*;
use crate::topology::NetworkName;

const WINDOW: Duration = Duration::days(30);

fn cluster() -> ClusterName {
    ClusterName::parse("main").unwrap()
}

fn domain() -> Domain {
    Domain::of_cluster(&cluster())
}

fn server() -> Server {
    Server {
        name: ServerName::parse("a1").unwrap(),
        network: NetworkName::parse("a").unwrap(),
        private_address: "10.0.0.11".parse().unwrap(),
        public_address: Some("2001:db8::11".parse().unwrap()),
        egress_addresses: vec!["203.0.113.99".parse().unwrap()],
        peer_port: 2380,
        client_port: 2379,
    }
}

fn requests() -> [(LeafRequest, &'static str, &'static str); 5] {
    let (server, domain) = (server(), domain());
    [
        (
            LeafRequest::peer_server(&server, &domain, Minor::V3_5),
            "sslserver",
            "a1.main.etcd.internal",
        ),
        (
            LeafRequest::peer_server(&server, &domain, Minor::V3_4),
            "sslclient",
            "a1.main.etcd.internal",
        ),
        (LeafRequest::peer_client(&server.name), "sslclient", ""),
        (LeafRequest::client_server(&server, &domain), "sslserver", "localhost"),
        (LeafRequest::operator(ROOT), "sslclient", ""),
    ]
}

#[test]
fn openssl_verifies_what_is_issued() {
    let now = OffsetDateTime::now_utc();
    let ca = Ca::generate(&cluster(), CaPurpose::Peers, now).unwrap();
    let other = Ca::generate(&cluster(), CaPurpose::Peers, now).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("ca"), ca.cert_pem()).unwrap();
    std::fs::write(path("other"), other.cert_pem()).unwrap();
    for (request, purpose, host) in requests() {
        let leaf = ca.issue(&request, now).unwrap();
        std::fs::write(path("leaf"), &leaf.cert_pem).unwrap();
        std::fs::write(path("key"), leaf.key_pem.expose()).unwrap();
        let verify = |ca: &str| {
            let mut command = Command::new("openssl");
            command
                .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
                .arg(path(ca));
            if !host.is_empty() {
                command.args(["-verify_hostname", host]);
            }
            command.arg(path("leaf")).output().unwrap()
        };
        let good = verify("ca");
        assert!(
            good.status.success(),
            "{request:?}: {}",
            String::from_utf8_lossy(&good.stderr)
        );
        assert!(!verify("other").status.success(), "{request:?}");
        let public = |args: [&str; 3], file: &str| {
            Command::new("openssl")
                .args(args)
                .arg("-in")
                .arg(path(file))
                .output()
                .unwrap()
                .stdout
        };
        assert_eq!(
            public(["pkey", "-pubout", "-outform=PEM"], "key"),
            public(["x509", "-pubkey", "-noout"], "leaf")
        );
    }
}

#[test]
fn a_certificate_says_what_was_asked_for() {
    let now = datetime!(2026-03-01 12:00 UTC);
    let ca = Ca::generate(&cluster(), CaPurpose::Clients, now).unwrap();
    assert_eq!(ca.info().subject, "CN=etcd main client CA");
    assert!(ca.info().is_ca);
    assert_eq!(ca.info().not_after, datetime!(2036-02-27 12:00 UTC));
    for (request, ..) in requests() {
        let leaf = ca.issue(&request, now).unwrap();
        let info = parse(&leaf.cert_pem).unwrap();
        assert_eq!(
            needs_renewal(&info, &request, ca.info(), now, WINDOW),
            None,
            "{request:?}"
        );
        assert_eq!(info.not_before, datetime!(2026-03-01 11:00 UTC));
        assert_eq!(info.not_after, datetime!(2027-03-01 12:00 UTC));
        assert_eq!(info.fingerprint.len(), 64);
    }
    let peer = LeafRequest::peer_client(&server().name);
    let info = parse(&ca.issue(&peer, now).unwrap().cert_pem).unwrap();
    assert!(
        info.dns_names.is_empty() && info.ip_addresses.is_empty(),
        "etcd would compare them with the source address"
    );
}

#[test]
fn renewal_has_its_reasons() {
    let now = datetime!(2026-03-01 12:00 UTC);
    let ca = Ca::generate(&cluster(), CaPurpose::Peers, now).unwrap();
    let request = LeafRequest::peer_server(&server(), &domain(), Minor::V3_6);
    let info = parse(&ca.issue(&request, now).unwrap().cert_pem).unwrap();
    let at = |days: i64| needs_renewal(&info, &request, ca.info(), now + Duration::days(days), WINDOW);
    assert_eq!(at(300), None);
    assert!(matches!(at(340), Some(RenewalReason::Expiring { .. })));
    assert!(matches!(at(365), Some(RenewalReason::Expired { .. })));
    let other = Ca::generate(&cluster(), CaPurpose::Peers, now).unwrap();
    assert!(matches!(
        needs_renewal(&info, &request, other.info(), now, WINDOW),
        Some(RenewalReason::OtherCa { .. })
    ));
    let older = LeafRequest::peer_server(&server(), &domain(), Minor::V3_4);
    assert_eq!(
        needs_renewal(&info, &older, ca.info(), now, WINDOW),
        Some(RenewalReason::OtherContent)
    );
    // A short life isn't renewed at once, and one that ends with its authority isn't renewed early.
    let short = request.clone().with_lifetime(Duration::days(10));
    let info = parse(&ca.issue(&short, now).unwrap().cert_pem).unwrap();
    assert_eq!(needs_renewal(&info, &short, ca.info(), now, WINDOW), None);
    let late = now + Duration::days(3640);
    let info = parse(&ca.issue(&request, late).unwrap().cert_pem).unwrap();
    assert_eq!(info.not_after, ca.info().not_after);
    assert_eq!(needs_renewal(&info, &request, ca.info(), late, WINDOW), None);
    assert!(matches!(
        ca.issue(&request, late + Duration::days(20)),
        Err(CertificateError::ExpiredCa { .. })
    ));
}

#[test]
fn an_authority_is_taken_up_again_only_with_its_key() {
    let now = datetime!(2026-03-01 12:00 UTC);
    let ca = Ca::generate(&cluster(), CaPurpose::Peers, now).unwrap();
    let other = Ca::generate(&cluster(), CaPurpose::Peers, now).unwrap();
    assert_ne!(ca.info().subject_key_id, other.info().subject_key_id);
    assert_eq!(Ca::from_pem(ca.cert_pem(), ca.key_pem()), Ok(ca.clone()));
    assert!(matches!(
        Ca::from_pem(ca.cert_pem(), other.key_pem()),
        Err(CertificateError::OtherKey { .. })
    ));
    let nonsense = PrivateKeyPem::new("nonsense".into());
    assert!(matches!(
        Ca::from_pem(ca.cert_pem(), &nonsense),
        Err(CertificateError::UnreadableKey { .. })
    ));
    let leaf = ca.issue(&LeafRequest::operator("x"), now).unwrap();
    assert!(matches!(
        Ca::from_pem(&leaf.cert_pem, &leaf.key_pem),
        Err(CertificateError::NotACa { .. })
    ));
    assert!(matches!(parse("nonsense"), Err(CertificateError::NotACertificate(_))));
    assert!(matches!(
        parse(leaf.key_pem.expose()),
        Err(CertificateError::NotACertificate(_))
    ));
}

#[test]
fn an_authority_that_openssl_made_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    for algorithm in ["rsa:2048", "ec"] {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            algorithm,
            "-subj",
            "/O=Example/CN=own CA",
            "-days",
            "30",
        ]);
        if algorithm == "ec" {
            command.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
        command
            .arg("-keyout")
            .arg(dir.path().join("key"))
            .arg("-out")
            .arg(dir.path().join("ca"));
        assert!(command.output().unwrap().status.success());
        let cert = std::fs::read_to_string(dir.path().join("ca")).unwrap();
        let key = PrivateKeyPem::new(std::fs::read_to_string(dir.path().join("key")).unwrap());
        let ca = Ca::from_pem(&cert, &key).unwrap();
        let request = LeafRequest::operator("x").with_lifetime(Duration::days(10));
        let leaf = ca.issue(&request, now).unwrap();
        std::fs::write(dir.path().join("leaf"), &leaf.cert_pem).unwrap();
        let verify = Command::new("openssl")
            .arg("verify")
            .arg("-CAfile")
            .arg(dir.path().join("ca"))
            .arg(dir.path().join("leaf"))
            .output()
            .unwrap();
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
        let info = parse(&leaf.cert_pem).unwrap();
        assert_eq!(needs_renewal(&info, &request, ca.info(), now, WINDOW), None);
    }
}

#[test]
fn keys_are_not_shown() {
    let now = datetime!(2026-03-01 12:00 UTC);
    let ca = Ca::generate(&cluster(), CaPurpose::Peers, now).unwrap();
    let leaf = ca.issue(&LeafRequest::operator("x"), now).unwrap();
    assert!(!format!("{ca:?} {leaf:?}").contains("PRIVATE KEY"));
}
