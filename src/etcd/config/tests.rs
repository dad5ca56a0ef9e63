use super::*;

pub(crate) fn member() -> MemberConfig {
    let pki = PathBuf::from("/etc/etcd/main/pki");
    MemberConfig {
        name: "a1".into(),
        data_dir: "/var/lib/etcd/main".into(),
        listen_peer_urls: vec!["https://10.0.0.11:2380".into()],
        listen_client_urls: vec!["https://10.0.0.11:2379".into(), "https://127.0.0.1:2379".into()],
        initial_advertise_peer_urls: vec!["https://a1.main.etcd.internal:2380".into()],
        advertise_client_urls: vec!["https://a1.main.etcd.internal:2379".into()],
        initial_cluster: "a1=https://10.0.0.11:2380,b1=https://203.0.113.21:2380".into(),
        initial_cluster_state: InitialClusterState::Existing,
        initial_cluster_token: "main-6f1c".into(),
        peer_tls: Some(PeerTls {
            cert_file: pki.join("peer.crt"),
            key_file: pki.join("peer.key"),
            client_cert_file: pki.join("peer-client.crt"),
            client_key_file: pki.join("peer-client.key"),
            trusted_ca_file: pki.join("peer-ca.crt"),
        }),
        client_tls: Some(ClientTls {
            cert_file: pki.join("server.crt"),
            key_file: pki.join("server.key"),
            trusted_ca_file: pki.join("client-ca.crt"),
        }),
        revoked_file: None,
        heartbeat_interval_ms: 100,
        election_timeout_ms: 1000,
        extra: BTreeMap::new(),
    }
}

fn rendered(version: &str, extra: &[(&str, &str)]) -> String {
    let mut config = member();
    config.extra = extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    render(&config, &Version::parse(version).unwrap()).unwrap()
}

#[test]
fn each_minor_version_has_its_own_file() {
    for version in ["3.4.23", "3.5.33", "3.6.14", "3.7.1"] {
        insta::assert_snapshot!(format!("etcd-{}", &version[..3]), rendered(version, &[]));
    }
}

/// A file that changes restarts the member of a user: not a byte of these may change unless that is wanted.
#[test]
fn every_option_is_written_as_it_was() {
    for version in ["3.4.23", "3.5.33", "3.6.14", "3.7.1"] {
        let minor = Version::parse(version).unwrap().minor();
        let mut config = member();
        config.name = "näme \"'\\\t\u{1f600}\u{7f}\u{2028}".into();
        config.revoked_file = Some("/etc/etcd/main/pki/revoked.crl".into());
        let read = known::KNOWN
            .iter()
            .filter(|known| (known.first..=known.last).contains(&minor));
        let given = read.map(|known| {
            let value = match known.kind {
                known::Kind::Bool => "false",
                known::Kind::Integer => "18446744073709551615",
                known::Kind::Text => "it's a: \"text\" # no",
                known::Kind::Duration => "1h30m0.5s",
                known::Kind::List => "one, \"two\",,- three",
            };
            (known.key.to_owned(), value.to_owned())
        });
        config.extra = given.collect();
        let file = render(&config, &Version::parse(version).unwrap()).unwrap();
        insta::assert_snapshot!(format!("every-option-{}", &version[..3]), file);
    }
    let newer = [("a", "-5"), ("b", "true"), ("c", "0x10"), ("d", "1.5"), ("e", "")];
    insta::assert_snapshot!("every-option-of-a-newer-one", rendered("3.9.0", &newer));
}

#[test]
fn the_users_options_win_and_gates_are_merged() {
    let file = rendered(
        "3.6.14",
        &[
            (
                "feature-gates",
                "StopGRPCServiceOnDefrag=true,InitialCorruptCheck=false",
            ),
            ("auto-compaction-retention", "8h"),
            ("quota-backend-bytes", "4294967296"),
        ],
    );
    assert!(
        file.contains(
            "feature-gates: \"CompactHashCheck=true,InitialCorruptCheck=false,StopGRPCServiceOnDefrag=true\"\n\
         auto-compaction-retention: \"8h\"\nquota-backend-bytes: 4294967296\n"
        ),
        "{file}"
    );
    let file = rendered("3.4.23", &[("pre-vote", "false"), ("auto-compaction-retention", "1")]);
    assert!(file.contains("pre-vote: false\n"), "{file}");
    assert!(file.contains("auto-compaction-retention: \"1\"\n"), "{file}");
}

#[test]
fn what_etcd_would_refuse_is_refused_here() {
    let mut config = member();
    config.listen_peer_urls = vec![
        "https://a1.main.etcd.internal:2380".into(),
        "https://[fd00::1]:2380".into(),
    ];
    config.listen_client_urls = vec!["http://localhost:2379".into(), "10.0.0.1:2379".into()];
    config.election_timeout_ms = 400;
    config.extra = [("snapshot_count".to_owned(), "5".to_owned())].into();
    let errors = render(&config, &Version::parse("3.6.14").unwrap()).unwrap_err();
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn texts_stay_texts_for_a_reader_of_yaml_1_1() {
    for name in ["no", "on", "2001-01-01", "0b1", "a\"b\\c: #"] {
        let mut config = member();
        config.name = name.to_owned();
        let file = render(&config, &Version::parse("3.4.23").unwrap()).unwrap();
        let quoted = serde_json::to_string(name).unwrap();
        assert!(file.contains(&format!("\nname: {quoted}\n")), "{file}");
        let read = crate::etcd::yaml::options(&file).unwrap();
        assert_eq!(read["name"], Value::from(name));
        assert_eq!(read["log-outputs"], Value::Array(vec!["stderr".into()]));
        assert_eq!(read["peer-transport-security"]["client-cert-auth"], Value::from(true));
    }
}

#[test]
fn the_users_options_are_read_back() {
    for version in ["3.4.23", "3.5.33", "3.6.14", "3.7.1"] {
        let mut given = vec![
            ("auto-compaction-mode", "periodic"),
            ("auto-compaction-retention", "8h"),
            ("cipher-suites", "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384"),
            ("quota-backend-bytes", "4294967296"),
            ("backend-batch-interval", "150ms"),
        ];
        if version >= "3.6" {
            given.push((
                "feature-gates",
                "InitialCorruptCheck=false,StopGRPCServiceOnDefrag=true",
            ));
        }
        let file = rendered(version, &given);
        let read = extra_options(&file, &Version::parse(version).unwrap());
        let given = given.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read, given.collect(), "{file}");
        assert!(extra_options(&rendered(version, &[]), &Version::parse(version).unwrap()).is_empty());
    }
}
