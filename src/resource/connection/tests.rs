use super::*;
use crate::plugin::value::{Value, from_value};

fn config(entries: &[(&str, &str)]) -> SshConfig {
    let entries = entries
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    from_value(&Value::Map(entries)).unwrap()
}

#[test]
fn the_environment_fills_in_what_is_left_out() {
    let environment = |name: &str| match name {
        "ETCD_SSH_USER" => Some("admin".to_owned()),
        "ETCD_SSH_PORT" => Some("2222".to_owned()),
        "ETCD_SSH_PASSWORD" => Some("secret".to_owned()),
        _ => None,
    };
    let ssh = config(&[("user", "root")]).with_environment(environment).unwrap();
    let target = ssh
        .target(&SshOverrides::default(), "192.0.2.1", Pins::default())
        .unwrap();
    assert_eq!((target.user.as_str(), target.port), ("root", 2222));
    assert_eq!(target.credentials, [Credential::Password(Secret::new("secret"))]);
}

#[test]
fn a_wrong_value_is_named() {
    let error = config(&[("host_key_checking", "maybe")])
        .with_environment(|_| None)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "ssh.host_key_checking is \"maybe\", which is neither \"strict\" nor \"accept_new\""
    );
    let port = |name: &str| (name == "ETCD_SSH_PORT").then(|| "ssh".to_owned());
    assert!(
        config(&[])
            .with_environment(port)
            .err()
            .unwrap()
            .to_string()
            .contains("no port number")
    );
}

const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJTmMXnHmZJ4TxRjFmUpGmCbQn0zH6UqOTUvu1yTZ4V";

fn pinned_by_the_state(server: &'static str, bastion: &'static str) -> Pins<'static> {
    Pins {
        server: Some(server).filter(|line| !line.is_empty()),
        bastion: Some(bastion).filter(|line| !line.is_empty()),
    }
}

fn with_bastion(servers: &[(&str, &str)], bastion: &[(&str, &str)]) -> SshConfig {
    let mut ssh = config(servers);
    ssh.bastion = Some(Box::new(config(bastion)));
    ssh
}

#[test]
fn a_server_overrides_and_the_bastion_inherits() {
    let mut ssh = with_bastion(
        &[("user", "admin"), ("private_key", "a key")],
        &[("host", "198.51.100.1")],
    );
    ssh.known_hosts_file = Some("/known".to_owned());
    let own = SshOverrides {
        port: Some(2200),
        ..SshOverrides::default()
    };
    let target = ssh.target(&own, "10.0.0.11", pinned_by_the_state(ED, "")).unwrap();
    assert_eq!((target.host.as_str(), target.port), ("10.0.0.11", 2200));
    assert_eq!(target.host_keys.pinned(), Some(ED));
    let bastion = target.bastion.unwrap();
    assert_eq!(
        (bastion.host.as_str(), bastion.user.as_str(), bastion.port),
        ("198.51.100.1", "admin", 22)
    );
    assert_eq!(bastion.credentials, target.credentials);
    assert_eq!(bastion.host_keys.known_hosts(), [PathBuf::from("/known")]);
}

/// The credentials that the bastion of a server gets.
fn of_bastion(ssh: &SshConfig) -> Vec<String> {
    let target = ssh
        .target(&SshOverrides::default(), "10.0.0.11", Pins::default())
        .unwrap();
    let bastion = target.bastion.unwrap();
    assert_eq!(bastion.sudo, Sudo::No, "nobody becomes root there");
    let shown = |credential: Credential| match credential {
        Credential::Password(secret) => format!("password {}", secret.expose()),
        Credential::PrivateKey { key, passphrase } => {
            format!(
                "key {} {}",
                key.expose(),
                passphrase.map(|one| one.expose().to_owned()).unwrap_or_default()
            )
        }
        Credential::Agent { .. } => "agent".to_owned(),
    };
    bastion.credentials.into_iter().map(shown).collect()
}

#[test]
fn a_bastion_gets_no_password_but_its_own_and_no_key_beside_its_own() {
    let servers = [
        ("private_key", "k"),
        ("private_key_passphrase", "pp"),
        ("password", "secret"),
    ];
    let host = ("host", "198.51.100.1");
    assert_eq!(of_bastion(&with_bastion(&servers, &[host])), ["key k pp"]);
    assert_eq!(
        of_bastion(&with_bastion(&servers, &[host, ("private_key", "own")])),
        ["key own "]
    );
    assert_eq!(
        of_bastion(&with_bastion(&servers, &[host, ("password", "own")])),
        ["password own"]
    );
    let mut agent = with_bastion(&servers, &[host]);
    agent.bastion.as_mut().unwrap().agent = Some(true);
    assert_eq!(of_bastion(&agent), ["agent"]);
    let mut agent = with_bastion(&[("password", "secret")], &[host]);
    agent.agent = Some(true);
    assert_eq!(of_bastion(&agent), ["agent"]);
    agent.bastion.as_mut().unwrap().password = Some("own".to_owned());
    assert_eq!(of_bastion(&agent), ["password own"]);
    let mut none = with_bastion(&[("password", "secret")], &[host]);
    none.agent = Some(false);
    assert!(of_bastion(&none).is_empty());
    // A server's own bastion, where the provider has none.
    let own = SshOverrides {
        bastion: Some(BastionOverrides {
            host: Some("192.0.2.1".to_owned()),
            ..BastionOverrides::default()
        }),
        ..SshOverrides::default()
    };
    let target = config(&servers).target(&own, "10.0.0.11", Pins::default()).unwrap();
    assert_eq!(target.credentials.len(), 2);
    let bastion = target.bastion.unwrap();
    assert!(
        matches!(bastion.credentials[..], [Credential::PrivateKey { .. }]),
        "{:?}",
        bastion.credentials
    );
}

#[test]
fn a_bastion_is_pinned_by_its_name() {
    let ssh = with_bastion(
        &[("host_key_checking", "accept_new")],
        &[("host", "bastion.example.com")],
    );
    let pinned = |ssh: &SshConfig, own: &SshOverrides, line: &'static str| {
        let target = ssh.target(own, "10.0.0.11", pinned_by_the_state("", line))?;
        let bastion = target.bastion.unwrap();
        Ok::<_, ConfigError>(bastion.host_keys.pinned().map(str::to_owned))
    };
    let none = SshOverrides::default();
    let line = "bastion.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    assert_eq!(pinned(&ssh, &none, line).unwrap().as_deref(), Some(ED));
    assert_eq!(pinned(&ssh, &none, "").unwrap(), None);
    // What is written wins.
    let mut written = ssh.clone();
    written.bastion.as_mut().unwrap().host_key = Some(OTHER.to_owned());
    assert_eq!(pinned(&written, &none, line).unwrap().as_deref(), Some(OTHER));
    // Another bastion: neither the pin nor the key of the provider's bastion is right for it.
    let own = |port| SshOverrides {
        bastion: Some(BastionOverrides {
            host: Some(if port == 22 { "192.0.2.1" } else { "bastion.example.com" }.to_owned()),
            port: Some(port),
            ..BastionOverrides::default()
        }),
        ..SshOverrides::default()
    };
    for port in [22, 2222] {
        assert_eq!(pinned(&written, &own(port), line).unwrap(), None);
    }
    for wrong in [
        ED,
        "bastion.example.com",
        "bastion.example.com ssh-ed25519",
        "192.0.2.1 nonsense",
    ] {
        let error = pinned(&ssh, &none, wrong).unwrap_err().to_string();
        assert!(error.contains("bastion_host_key is"), "{error}");
    }
}

#[test]
fn a_named_key_is_the_only_one_that_an_agent_offers() {
    let agent = |ssh: &SshConfig| {
        let target = ssh.target(&SshOverrides::default(), "10.0.0.11", Pins::default())?;
        let found = target.credentials.into_iter().find_map(|one| match one {
            Credential::Agent { only, .. } => Some(only),
            _ => None,
        });
        Ok::<_, ConfigError>(found)
    };
    let named = Identity::of_public(ED);
    // A public key is the agent's, and no other is offered unless that is asked for.
    let mut public = config(&[("private_key", ED)]);
    assert_eq!(agent(&public).unwrap(), Some(named.clone().map(|one| vec![one])));
    public.identities_only = Some(false);
    assert_eq!(agent(&public).unwrap(), Some(None));
    public.agent = Some(false);
    assert!(
        agent(&public)
            .unwrap_err()
            .to_string()
            .contains("ssh.agent is \"false\"")
    );
    // A private key in a form without its public part needs a file next to it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "-----BEGIN RSA PRIVATE KEY-----").unwrap();
    let mut private = config(&[("private_key_file", file.to_str().unwrap())]);
    assert_eq!(agent(&private).unwrap(), None, "a key is given, so no agent is asked");
    private.agent = Some(true);
    assert_eq!(agent(&private).unwrap(), Some(None));
    private.identities_only = Some(true);
    assert!(
        agent(&private)
            .unwrap_err()
            .to_string()
            .contains("ssh.identities_only is \"true\"")
    );
    std::fs::write(folder.path().join("key.pub"), format!("{ED} me@here\n")).unwrap();
    assert_eq!(agent(&private).unwrap(), Some(named.map(|one| vec![one])));
    // Without a named key nothing could be offered.
    let mut nothing = config(&[]);
    nothing.agent = Some(true);
    nothing.identities_only = Some(true);
    assert!(agent(&nothing).is_err());
    // The environment has it too.
    let environment = |name: &str| match name {
        "ETCD_SSH_PRIVATE_KEY" => Some(ED.to_owned()),
        "ETCD_SSH_IDENTITIES_ONLY" => Some("false".to_owned()),
        _ => None,
    };
    assert_eq!(
        agent(&config(&[]).with_environment(environment).unwrap()).unwrap(),
        Some(None)
    );
}
