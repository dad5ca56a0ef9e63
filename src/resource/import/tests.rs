use super::*;

fn member(token: Option<&str>, peer_url: &str) -> FoundMember {
    FoundMember {
        keys: ShownKeys {
            server: "ssh-ed25519 AAAA".into(),
            bastion: Some("bastion ssh-ed25519 BBBB".into()),
        },
        token: token.map(str::to_owned),
        configuration: Some(format!(
            "initial-advertise-peer-urls: \"{peer_url}\"\nheartbeat-interval: 150\nelection-timeout: 1500\n"
        )),
        ..FoundMember::default()
    }
}

fn servers(names: &[&str]) -> Value {
    let servers = names
        .iter()
        .map(|name| ((*name).to_owned(), Value::object([("name", (*name).into())])));
    Value::Map(servers.collect())
}

#[test]
fn what_the_servers_say_makes_the_cluster() {
    let mut a1 = member(Some("t"), "https://a1.corp.example:2380");
    a1.authorities = BTreeMap::from([("peer-ca", "PEER".to_owned()), ("client-ca", "CLIENT".to_owned())]);
    // b1 joined later: it has no founding configuration.
    let b1 = member(Some("t"), "https://b1.corp.example:2380");
    a1.founding = Some("initial-cluster: \"a2=https://a2.corp.example:2380,a1=https://a1.corp.example:2380\"\n".into());
    let members = BTreeMap::from([("a1".to_owned(), a1), ("b1".to_owned(), b1)]);
    let cluster = together("main", &servers(&["a1", "b1"]), &members).unwrap();
    assert_eq!(cluster.get("domain").as_str(), Some("corp.example"));
    assert_eq!(cluster.get("heartbeat_interval").as_i64(), Some(150));
    assert_eq!(cluster.get("founders").as_list(), Some(&["a1".into(), "a2".into()][..]));
    let peer = cluster.at(&["certificate_authorities", "peer"]);
    assert_eq!(peer.get("certificate").as_str(), Some("PEER"));
    assert!(peer.get("private_key").is_null() && cluster.get("tls").is_null());
    assert_eq!(
        cluster.at(&["servers", "b1", "host_key"]).as_str(),
        Some("ssh-ed25519 AAAA")
    );
    assert_eq!(
        cluster.at(&["servers", "b1", "bastion_host_key"]).as_str(),
        Some("bastion ssh-ed25519 BBBB")
    );
}

#[test]
fn servers_that_make_no_cluster_are_refused_in_words() {
    let said = |members: [(&str, FoundMember); 2]| {
        let members = members.map(|(name, member)| (name.to_owned(), member));
        together("main", &servers(&["a1", "b1"]), &members.into()).unwrap_err()
    };
    let url = "https://a1.main.etcd.internal:2380";
    let none = said([("a1", member(None, url)), ("b1", member(None, url))]);
    assert!(none.contains("made no cluster \"main\" there"), "{none}");
    let two = said([("a1", member(Some("t"), url)), ("b1", member(Some("u"), url))]);
    assert!(two.contains("a1 has t, b1 has u"), "{two}");
    let literal = said([
        ("a1", member(Some("t"), "https://10.0.0.11:2380")),
        ("b1", FoundMember::default()),
    ]);
    assert!(
        literal.contains("has the peer URL \"https://10.0.0.11:2380\""),
        "{literal}"
    );
}
