//! Which machines are believed, and what is offered to them: revoked keys, lines that can't be read, the keys of an agent.

use std::path::PathBuf;

use terraform_provider_etcd::host::{ConnectError, Credential, HostKeyPolicy, Identity, Secret, Target};

use crate::sshd::{Agent, PASSWORD, Sshd, make_key};
use crate::{connect, says};

const DEBUG: &str = "LogLevel DEBUG1";

fn with(target: &Target, known_hosts: PathBuf, pinned: Option<String>, accept_new: bool) -> Target {
    let known_hosts = vec![known_hosts];
    let host_keys = if accept_new {
        HostKeyPolicy::AcceptNew { known_hosts, pinned }
    } else {
        HostKeyPolicy::Strict { known_hosts, pinned }
    };
    Target {
        host_keys,
        ..target.clone()
    }
}

/// Nobody asked the server to be let in.
fn assert_nothing_was_offered(server: &Sshd) {
    assert!(!server.has_logged(&["userauth-request"]), "{}", server.read("log"));
}

#[tokio::test]
async fn a_revoked_key_is_never_accepted() {
    let server = Sshd::start(DEBUG);
    let key = server.host_key_line("ed25519");
    for lines in [
        "@revoked * KEY",
        "@revoked HOST KEY",
        // Lost at one port is lost at all.
        "@revoked 127.0.0.1 KEY",
        "@revoked 127.0.0.1,!192.0.2.1 KEY",
        "HOST KEY\n@revoked * KEY",
        "@revoked\t*\tKEY comment",
    ] {
        let known_hosts = server.known_hosts(lines);
        for (pinned, accept_new) in [(true, false), (true, true), (false, false), (false, true)] {
            let pinned = pinned.then(|| key.clone());
            let target = with(&server.target(), known_hosts.clone(), pinned, accept_new);
            let error = connect(&target).await.expect_err(lines);
            assert!(
                matches!(&error, ConnectError::HostKeyRevoked { known_from, .. } if known_from.contains("known_hosts:")),
                "{lines}: {error}"
            );
        }
    }
    assert_nothing_was_offered(&server);
    // Those are about other machines, or other keys of this one.
    let other = Sshd::start("");
    for lines in [
        "@revoked *,!127.0.0.1,!HOST KEY".to_owned(),
        "@revoked 192.0.2.1 KEY".to_owned(),
        format!("@revoked * {}", other.host_key_line("ed25519")),
        format!("@revoked * {}", server.host_key_line("ecdsa")),
    ] {
        let target = with(&server.target(), server.known_hosts(&lines), Some(key.clone()), false);
        connect(&target)
            .await
            .unwrap_or_else(|error| panic!("{lines}: {error}"));
    }
}

#[tokio::test]
async fn a_revoked_key_in_a_hashed_line_is_not_accepted() {
    let server = Sshd::start("");
    let hashed = crate::sshd::hashed_known_hosts(&server, "ed25519");
    let line = std::fs::read_to_string(&hashed).expect("there");
    std::fs::write(&hashed, format!("@revoked {line}")).expect("written");
    let target = with(&server.target(), hashed, Some(server.host_key_line("ed25519")), false);
    let error = connect(&target).await.expect_err("revoked");
    assert!(matches!(error, ConnectError::HostKeyRevoked { .. }), "{error}");
}

#[tokio::test]
async fn the_key_of_a_bastion_is_not_accepted_once_revoked() {
    let (server, bastion) = (Sshd::start(""), Sshd::start(DEBUG));
    let key = Some(bastion.host_key_line("ed25519"));
    let revoking = with(&bastion.target(), bastion.known_hosts("@revoked * KEY"), key, true);
    let error = connect(&Target {
        bastion: Some(Box::new(revoking)),
        ..server.target()
    })
    .await
    .expect_err("revoked");
    assert!(
        matches!(&error, ConnectError::Bastion { source, .. } if matches!(**source, ConnectError::HostKeyRevoked { .. })),
        "{error}"
    );
    assert_nothing_was_offered(&bastion);
}

#[tokio::test]
async fn a_line_that_may_revoke_and_cannot_be_read_is_an_error() {
    let server = Sshd::start(DEBUG);
    for lines in [
        "HOST KEY\n@revoked * ssh-ed25519 AAAA",
        "HOST KEY\n@revoked 192.0.2.1",
        "HOST KEY\n@revoked ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        "HOST KEY\n@revoked",
        "HOST KEY\n@revokd * KEY",
    ] {
        let known_hosts = server.known_hosts(lines);
        for pinned in [None, Some(server.host_key_line("ed25519"))] {
            let target = with(&server.target(), known_hosts.clone(), pinned, true);
            let error = connect(&target).await.expect_err(lines);
            let place = format!("{}:2", known_hosts.display());
            assert!(
                matches!(&error, ConnectError::HostKeySource { detail, .. } if detail.contains(&place)),
                "{lines}: {error}"
            );
        }
    }
    assert_nothing_was_offered(&server);
    // A file that is there and can't be read may revoke as well. A folder stands for it, since root can read every file.
    let target = with(
        &server.target(),
        server.folder.path().to_owned(),
        Some(server.host_key_line("ed25519")),
        false,
    );
    let error = connect(&target).await.expect_err("a folder");
    assert!(matches!(error, ConnectError::HostKeySource { .. }), "{error}");
}

#[tokio::test]
async fn lines_that_cannot_be_used_are_told_where_they_matter() {
    let server = Sshd::start("");
    for (lines, reason) in [
        ("@cert-authority * KEY", "host certificates can't be checked"),
        ("HOST ssh-ed25519 AAAA", "its key can't be read"),
        ("HOST", "its key can't be read"),
        ("|1|nonsense KEY", "its names can't be read"),
    ] {
        let known_hosts = server.known_hosts(lines);
        // Never taken for the machine's own key.
        let error = connect(&with(&server.target(), known_hosts.clone(), None, false))
            .await
            .expect_err(lines)
            .to_string();
        let place = format!("{}:1: ", known_hosts.display());
        assert!(
            error.contains("is not known") && error.contains(&place) && error.contains(reason),
            "{error}"
        );
        let host = connect(&with(&server.target(), known_hosts.clone(), None, true))
            .await
            .expect("accept_new");
        let told: Vec<&str> = host.unused_lines().collect();
        assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
        let pinned = Some(server.host_key_line("ed25519"));
        let host = connect(&with(&server.target(), known_hosts, pinned, true))
            .await
            .expect("pinned");
        assert_eq!(host.unused_lines().count(), 0, "it makes no difference");
    }
    let others = server.known_hosts("@cert-authority *.example.org KEY\n192.0.2.1 nonsense");
    let host = connect(&with(&server.target(), others, None, true))
        .await
        .expect("accept_new");
    assert_eq!(host.unused_lines().count(), 0, "they are about other machines");
}

#[tokio::test]
async fn nothing_is_offered_to_a_machine_that_is_not_believed() {
    let (server, bastion, other) = (Sshd::start(DEBUG), Sshd::start(DEBUG), Sshd::start(""));
    let mut target = server.target();
    target.credentials.push(Credential::Password(Secret::new(PASSWORD)));
    let mut wrong = bastion.target();
    wrong.credentials.clone_from(&target.credentials);
    for key in [
        other.host_key_line("ed25519"),
        // Of another type than the one that the machine shows by itself.
        other.host_key_line("ecdsa"),
    ] {
        target.host_keys = HostKeyPolicy::AcceptNew {
            known_hosts: Vec::new(),
            pinned: Some(key.clone()),
        };
        let error = connect(&target).await.expect_err("another key");
        assert!(matches!(error, ConnectError::HostKeyChanged { .. }), "{error}");
        wrong.host_keys = target.host_keys.clone();
        let through = Target {
            bastion: Some(Box::new(wrong.clone())),
            ..server.target()
        };
        let error = connect(&through).await.expect_err("another key of the bastion");
        assert!(matches!(error, ConnectError::Bastion { .. }), "{error}");
    }
    assert_nothing_was_offered(&server);
    assert_nothing_was_offered(&bastion);
}

#[tokio::test]
async fn only_the_named_key_of_an_agent_is_offered() {
    let server = Sshd::start("LogLevel DEBUG2");
    let mut keys = Vec::new();
    for name in ["private", "work"] {
        make_key(&server.path(name), "ed25519", "");
        keys.push(server.path(name));
    }
    keys.push(server.path("user"));
    let agent = Agent::start(server.folder.path(), &keys);
    let mut target = server.target();
    let only = |name: &str| Credential::Agent {
        socket: Some(agent.socket.clone()),
        only: Some(vec![
            Identity::of_public(&server.read(&format!("{name}.pub"))).expect("a key"),
        ]),
    };
    let fingerprint = |name: &str| {
        Identity::of_public(&server.read(&format!("{name}.pub")))
            .expect("a key")
            .fingerprint()
    };
    target.credentials = vec![only("user")];
    let host = connect(&target).await.expect("the named key is right");
    assert_eq!(says(&host, "echo ${SSH_AUTH_SOCK:-none}").await, "none");
    assert!(!server.has_logged(&["auth-agent"]), "the agent was forwarded");
    assert!(server.has_logged(&[&fingerprint("user")]), "{}", server.read("log"));
    for name in ["private", "work"] {
        assert!(!server.has_logged(&[&fingerprint(name)]), "{name} was offered");
    }
    // Named, and not in the agent.
    make_key(&server.path("elsewhere"), "ed25519", "");
    target.credentials = vec![only("elsewhere")];
    let error = connect(&target).await.expect_err("not there").to_string();
    assert!(error.contains(&fingerprint("elsewhere")), "{error}");
    assert!(!server.has_logged(&[&fingerprint("private")]), "private was offered");
    // Without a name, all are.
    target.credentials = vec![Credential::Agent {
        socket: Some(agent.socket.clone()),
        only: None,
    }];
    connect(&target).await.expect("one of them is right");
    assert!(server.has_logged(&[&fingerprint("private")]), "{}", server.read("log"));
    // A private key names the same one as its public key.
    for kind in ["ed25519", "ecdsa", "rsa"] {
        for passphrase in ["", "open sesame"] {
            let name = format!("{kind}{}", passphrase.len());
            make_key(&server.path(&name), kind, passphrase);
            let private = Identity::of_private(&server.read(&name));
            assert!(
                private.is_some() && private == Identity::of_public(&server.read(&format!("{name}.pub"))),
                "{name}"
            );
        }
    }
}
